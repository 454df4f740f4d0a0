"""The warehouse holds each source row once, whatever becomes of the files; a damaged table is never an empty one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import timedelta

import pytest
from deltalake import DeltaTable, write_deltalake

from its_platform.frames.index import FrameIndex
from its_platform.monitoring import predictions
from its_platform.monitoring.warehouse import (
    SourceUnreadable,
    WarehouseBusy,
    WarehouseUnreadable,
    count_rows,
    load_sources,
    open_warehouse,
    warehouse_file,
)
from its_platform.settings import MartSettings
from its_platform.stores import Stores, open_stores
from tests.unit.dataset.footage import START, add_frames, label


@pytest.fixture(params=["duckdb", "postgres"])
def warehoused(request: pytest.FixtureRequest, stores: Stores) -> Stores:
    """The stores with their warehouse on each target."""
    return open_stores(stores.settings.model_copy(update={"marts": MartSettings(target=request.param)}))


def loaded(stores: Stores) -> dict[str, tuple[int, bool]]:
    return {one.source: (one.rows, one.is_anew) for one in load_sources(stores)}


def frame_rows(stores: Stores) -> list[tuple[str, int]]:
    with open_warehouse(stores.settings) as warehouse:
        return [tuple(row) for row in warehouse.run("SELECT camera_id, load_number FROM sources.frames ORDER BY 1, 2")]


def test_a_load_brings_what_is_new_and_a_table_put_together_is_loaded_again(warehoused: Stores) -> None:
    assert loaded(warehoused)["frames"] == (0, False)
    hashes = add_frames(warehoused, "north", [0, 1])
    label(warehoused, hashes)
    assert loaded(warehoused) == {
        "labels": (2, False),
        "frames": (2, False),
        "predictions": (0, False),
        "releases": (0, True),
    }
    add_frames(warehoused, "south", [0])
    assert loaded(warehoused)["frames"] == (1, False)
    assert loaded(warehoused)["frames"] == (0, False)
    assert frame_rows(warehoused) == [("north", 2), ("north", 2), ("south", 3)]
    FrameIndex(warehoused).optimize()
    assert loaded(warehoused)["frames"] == (3, True)
    assert frame_rows(warehoused) == [("north", 5), ("north", 5), ("south", 5)]


def test_numbers_of_loads_never_go_back_when_a_table_is_moved_away(stores: Stores) -> None:
    add_frames(stores, "north", [0])
    load_sources(stores)
    shutil.rmtree(stores.tables / "frames")
    assert loaded(stores)["frames"] == (0, True)
    add_frames(stores, "north", [0])
    load_sources(stores)
    assert frame_rows(stores) == [("north", 3)]


def test_a_log_from_before_there_was_a_cache_says_nothing_of_it(warehoused: Stores) -> None:
    at = START.isoformat()
    entry = {"at": at, "camera_id": "north", "model": "m", "version": 1, "purpose": "live", "counts": {}}
    warehoused.settings.spool.mkdir(parents=True)
    (warehoused.settings.spool / "a.jsonl").write_text(json.dumps(entry) + "\n")
    predictions.collect(warehoused)
    table = DeltaTable(str(predictions.table_path(warehoused)))
    former = table.to_pyarrow_table().drop_columns(["is_cached"])
    shutil.rmtree(predictions.table_path(warehoused))
    write_deltalake(str(predictions.table_path(warehoused)), former, partition_by=["day"])
    load_sources(warehoused)
    with open_warehouse(warehoused.settings) as warehouse:
        assert list(warehouse.run("SELECT camera_id, is_cached FROM sources.predictions")) == [("north", None)]


def test_times_words_and_missing_values_arrive_as_they_were(warehoused: Stores) -> None:
    add_frames(warehoused, "crossing", [0.25], weather="")
    add_frames(warehoused, "east", [1], weather='mist, "thick"\n\'')
    add_frames(warehoused, "south", numbers=[3])
    load_sources(warehoused)
    with open_warehouse(warehoused.settings) as warehouse:
        found = warehouse.run(
            "SELECT camera_id, weather, extract(epoch FROM captured_at), is_frozen FROM sources.frames ORDER BY 1"
        )
    first = (START + timedelta(seconds=0.25)).timestamp()
    assert [(row[0], row[1], float(row[2]), row[3]) for row in found] == [
        ("crossing", "", first, False),
        ("east", 'mist, "thick"\n\'', (START + timedelta(seconds=1)).timestamp(), False),
        ("south", "clear", 946684803.0, False),
    ]


def test_a_table_of_another_version_is_made_anew_with_the_views_on_it(warehoused: Stores) -> None:
    add_frames(warehoused, "north", [0])
    load_sources(warehoused)
    with open_warehouse(warehoused.settings) as warehouse:
        warehouse.run("CREATE VIEW seen AS SELECT weather FROM sources.frames")
        warehouse.run("ALTER TABLE sources.frames ADD COLUMN mood text")
        warehouse.run("DROP VIEW seen")
    assert loaded(warehoused)["frames"] == (1, True)
    assert frame_rows(warehoused) == [("north", 2)]


def test_a_load_that_fails_leaves_everything_as_it_was(warehoused: Stores) -> None:
    label(warehoused, add_frames(warehoused, "north", [0]))
    load_sources(warehoused)
    before = count_rows(warehoused.settings, "sources")
    label(warehoused, add_frames(warehoused, "south", [0]))
    for file in (warehoused.tables / "frames").rglob("*.parquet"):
        file.write_bytes(b"torn")
    with pytest.raises(SourceUnreadable, match="frames cannot be read"):
        load_sources(warehoused)
    assert count_rows(warehoused.settings, "sources") == before


def test_a_table_that_lost_its_log_is_not_an_empty_one(stores: Stores) -> None:
    add_frames(stores, "north", [0])
    shutil.rmtree(stores.tables / "frames" / "_delta_log")
    with pytest.raises(WarehouseBusy, match="no Delta log"):
        load_sources(stores)


def test_a_file_that_someone_reads_and_a_damaged_one_are_said_apart(stores: Stores) -> None:
    load_sources(stores)
    file = warehouse_file(stores.settings)
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True); print(c, flush=True); sys.stdin.read()"
    words = [sys.executable, "-c", code, str(file)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline()
        with pytest.raises(WarehouseBusy, match="Another program has"):
            load_sources(stores)
        reader.communicate()
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(WarehouseUnreadable, match="cannot be opened"):
        load_sources(stores)
