"""The index of frames."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from its_platform.errors import BadInput, NotFound
from its_platform.frames.index import COLUMNS, FrameIndex, FrameRow, IndexUnreadable
from its_platform.stores import Stores

START = datetime(2026, 5, 1, 23, 59, 58, tzinfo=UTC)


def row(second: int = 0, camera: str = "a", name: str | None = None) -> FrameRow:
    frame_hash = name or f"{second:04d}{camera}".ljust(64, "0")
    return FrameRow(
        camera_id=camera,
        captured_at=START + timedelta(seconds=second),
        frame_hash=frame_hash,
        object_key=f"frames/{frame_hash[:2]}/{frame_hash}.jpg",
        width=640,
        height=360,
        sequence=None,
        source="test",
        light="day",
        weather="clear",
        brightness=0.5,
        contrast=0.2,
        sharpness=6.0,
        noise=1.0,
        overexposed=0.0,
        underexposed=0.0,
        is_frozen=False,
        ingested_at=START,
    )


def test_an_index_that_nobody_wrote_is_empty_with_its_columns(stores: Stores) -> None:
    index = FrameIndex(stores)
    assert list(index.query().columns) == list(COLUMNS)
    assert len(index.query(["a"], START, START, ["x"])) == 0
    assert (index.count(), index.version(), index.summary()) == (0, None, [])
    assert not index.path.exists()


def test_a_key_is_added_once_within_a_batch_and_across_batches(stores: Stores) -> None:
    index = FrameIndex(stores)
    assert index.add([row(0), row(0), row(1)]) == 2
    assert index.add([row(1), row(2), row(1, "b")]) == 2
    assert index.count() == 4


def test_rows_are_never_changed(stores: Stores) -> None:
    index = FrameIndex(stores)
    index.add([row(0)])
    assert index.add([replace(row(0), light="night")]) == 0
    assert list(index.query()["light"]) == ["day"]


def test_rows_come_back_by_camera_time_and_hash_in_order(stores: Stores) -> None:
    index = FrameIndex(stores)
    index.add([row(second, camera) for second in (5, 1, 3) for camera in "ba"])
    assert list(index.query()["camera_id"]) == ["a"] * 3 + ["b"] * 3
    assert index.query()["captured_at"][:3].is_monotonic_increasing
    since, until = START + timedelta(seconds=1), START + timedelta(seconds=5)
    assert len(index.query(since=since, until=until)) == 4
    assert len(index.query(["a"], since=since, until=until)) == 2
    assert list(index.query(hashes=[row(3, "b").frame_hash], columns=["camera_id"])["camera_id"]) == ["b"]
    assert len(index.query([])) == 0
    assert str(index.query().dtypes["captured_at"]) == "datetime64[us, UTC]"


def test_the_partition_is_the_day_and_not_the_camera(stores: Stores) -> None:
    index = FrameIndex(stores)
    index.add([row(second, f"c{camera}") for second in (0, 5) for camera in range(20)])
    assert sorted(p.name for p in index.path.glob("day=*")) == ["day=2026-05-01", "day=2026-05-02"]


def test_a_batch_is_one_commit(stores: Stores) -> None:
    index = FrameIndex(stores)
    index.add([row(0)])
    before = index.version()
    index.add([row(second) for second in range(1, 50)])
    assert index.version() == (before or 0) + 1


def test_a_table_that_cannot_be_read_is_an_error_and_never_empty(stores: Stores) -> None:
    index = FrameIndex(stores)
    index.add([row(0)])
    log = index.path / "_delta_log"
    kept = log.with_name("kept")
    shutil.copytree(log, kept)
    for file in log.glob("*.json"):
        file.write_text("{broken")
    with pytest.raises(IndexUnreadable):
        index.query()
    shutil.rmtree(log)
    with pytest.raises(IndexUnreadable):
        index.query()
    with pytest.raises(IndexUnreadable):
        index.add([row(1)])
    kept.rename(log)
    for file in index.path.rglob("*.parquet"):
        file.unlink()
    with pytest.raises(IndexUnreadable):
        index.query()


def test_small_files_are_put_together_and_nothing_is_lost(stores: Stores) -> None:
    index = FrameIndex(stores)
    assert index.optimize()["files_removed"] == 0
    for second in range(6, 12):
        index.add([row(second)])
    assert index.optimize()["files_removed"] == 6
    assert index.count() == 6
    assert index.add([row(6), row(13)]) == 1


def test_a_time_without_a_zone_and_an_unknown_column_are_refused(stores: Stores) -> None:
    index = FrameIndex(stores)
    with pytest.raises(BadInput):
        index.add([replace(row(0), captured_at=datetime(2026, 5, 1))])  # noqa: DTZ001
    with pytest.raises(BadInput):
        index.query(since=datetime(2026, 5, 1))  # noqa: DTZ001
    with pytest.raises(BadInput, match="colour"):
        index.query(columns=["colour"])


def test_a_frame_is_found_by_the_start_of_its_hash(stores: Stores) -> None:
    index = FrameIndex(stores)
    index.add([row(0, name="ab" + "0" * 62), row(1, name="ac" + "0" * 62)])
    assert index.find("ab")["captured_at"] == START
    with pytest.raises(BadInput, match="2 frames"):
        index.find("a")
    for unknown in ("ff", ""):
        with pytest.raises(NotFound):
            index.find(unknown)


def test_the_summary_counts_by_camera_light_and_weather(stores: Stores) -> None:
    index = FrameIndex(stores)
    index.add([row(0), row(1), replace(row(2), light="night"), row(0, "b")])
    rows = index.summary()
    assert [(r["camera_id"], r["light"], r["frames"]) for r in rows] == [
        ("a", "day", 2),
        ("a", "night", 1),
        ("b", "day", 1),
    ]
    assert rows[0]["first"] == START
