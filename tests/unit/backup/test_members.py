"""What is copied of a home: what changes meanwhile is whole, and secrets stay."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from its_platform.backup.members import Source, home_sources, object_sources, portable_settings, table_sources
from its_platform.settings import Settings
from its_platform.stores.objects import open_plain


def contents(sources: list[Source]) -> dict[str, bytes]:
    return {source.path: b"".join(source.content()) for source in sources}


def restored(settings: Settings, folder: Path) -> dict[str, bytes]:
    found = contents(list(table_sources(settings)))
    for name, data in found.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return found


def rows(*numbers: int) -> pa.Table:
    return pa.table({"n": list(numbers), "day": ["d"] * len(numbers)})


def test_a_table_is_copied_as_of_one_version_with_its_history(settings: Settings, tmp_path: Path) -> None:
    table = str(settings.tables / "frames")
    write_deltalake(table, rows(1), partition_by=["day"])
    write_deltalake(table, rows(2), mode="append", partition_by=["day"])
    taken = list(table_sources(settings))
    # What comes after the look at the table is not part of it.
    write_deltalake(table, rows(3), mode="append", partition_by=["day"])
    for source in taken:
        path = tmp_path / "copy" / source.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(source.content()))
    copied = DeltaTable(str(tmp_path / "copy" / "home" / "tables" / "frames"))
    assert copied.version() == 1
    assert sorted(copied.to_pyarrow_table()["n"].to_pylist()) == [1, 2]


def test_a_table_with_a_checkpoint_and_files_put_together_is_copied(settings: Settings, tmp_path: Path) -> None:
    table = settings.tables / "frames"
    for number in range(3):
        write_deltalake(str(table), rows(number), mode="append", partition_by=["day"])
    opened = DeltaTable(str(table))
    opened.optimize.compact()
    opened.create_checkpoint()
    write_deltalake(str(table), rows(3), mode="append", partition_by=["day"])
    found = restored(settings, tmp_path / "copy")
    assert sum(name.endswith(".parquet") and "_delta_log" not in name for name in found) == 2
    copied = DeltaTable(str(tmp_path / "copy" / "home" / "tables" / "frames"))
    assert sorted(copied.to_pyarrow_table()["n"].to_pylist()) == [0, 1, 2, 3]


def test_half_written_files_and_what_is_made_anew_stay_behind(settings: Settings) -> None:
    for name in (
        "triton/models/a/1/model.onnx",
        "triton/spool/a.jsonl",
        "triton/spool/b.jsonl.part",
        "triton/incoming/x",
        "mlartifacts/.model-1/model.pt",
        "cache/x",
        "keys/master.key",
        "certificates/ca.key",
        "services/passwords/postgres",
    ):
        (settings.home / name).parent.mkdir(parents=True, exist_ok=True)
        (settings.home / name).write_text(name)
    assert sorted(contents(list(home_sources(settings)))) == [
        "home/triton/models/a/1/model.onnx",
        "home/triton/spool/a.jsonl",
    ]


def test_settings_are_copied_without_secrets_and_without_this_machine(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    (settings.home / "settings.yaml").write_text(
        "home: /here\ntraining: {epochs: 3}\ndatabase_url: postgresql://u:secret@h/\nbackup: {url: 'file:///x'}\n"
        "serving: {redis_url: 'redis://:secret@h', instances: 3}\n"
    )
    kept, left_out = portable_settings(settings)
    assert b"secret" not in kept
    assert kept == b"training:\n  epochs: 3\nserving:\n  instances: 3\n"
    assert left_out == ["home", "database_url", "backup", "serving.redis_url"]


def test_an_object_is_known_by_its_stamp_until_it_changes(settings: Settings) -> None:
    store = open_plain(settings)
    store.put("frames/a.jpg", b"first")
    (before,) = object_sources(settings)
    (again,) = object_sources(settings)
    assert before.stamp == again.stamp
    store.put("frames/a.jpg", b"other")
    (after,) = object_sources(settings)
    assert after.stamp != before.stamp
    assert b"".join(after.content()) == b"other"


@pytest.mark.parametrize("written", ["", "{}\n"])
def test_settings_that_say_nothing_are_nothing(settings: Settings, written: str) -> None:
    settings.home.mkdir(parents=True)
    (settings.home / "settings.yaml").write_text(written)
    assert portable_settings(settings) == (b"", [])
