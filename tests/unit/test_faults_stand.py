"""How the stand of the faults counts frames: what an ingest called taken in is there, or is missing."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from deltalake import DeltaTable

from faults.stand import Stand
from its_platform.cameras import add_camera
from its_platform.cameras.registry import make_camera
from its_platform.frames.index import FrameIndex
from its_platform.frames.ingest import ingest
from its_platform.simulation.timeline import append_segment, read_timeline
from its_platform.stores import Stores

SECONDS = 8


@pytest.fixture
def stand(stores: Stores) -> Stand:
    """Two cameras, of each of which eight frames are taken in, one a second."""
    add_camera(stores, make_camera("junction", "sim://junction", sample_interval_s=1))
    add_camera(stores, make_camera("boulevard", "sim://boulevard", sample_interval_s=1))
    film(stores)
    return Stand(stores.settings)


def film(stores: Stores) -> None:
    append_segment(stores.settings, "day", "clear", SECONDS)
    for camera in ("junction", "boulevard"):
        ingest(stores, camera)


def moment(stand: Stand, second: float) -> datetime:
    return read_timeline(stand.settings).moment(second)


def lose_row(stand: Stand, second: float, camera: str = "junction") -> None:
    at = moment(stand, second)
    span = f"captured_at >= '{at.isoformat()}' AND captured_at < '{(at + timedelta(seconds=0.5)).isoformat()}'"
    told = DeltaTable(str(FrameIndex(stand.stores).path)).delete(f"camera_id = '{camera}' AND {span}")
    assert told["num_deleted_rows"] == 1


def counted(stand: Stand, first: float = 0, last: float = SECONDS) -> tuple[int, int, int]:
    return stand.frames_of(moment(stand, first), moment(stand, last))


def test_frames_that_ingests_called_taken_in_are_acknowledged_by_their_time(stand: Stand) -> None:
    assert counted(stand) == (2 * SECONDS, 0, 0)
    assert counted(stand, 2, 5) == (2 * 3, 0, 0)


def test_a_row_lost_in_the_middle_is_missing_though_no_index_was_seen_before(stand: Stand) -> None:
    lose_row(stand, 3)
    assert counted(stand) == (2 * SECONDS, 1, 0)


def test_a_frame_without_an_object_is_missing(stand: Stand) -> None:
    stand.stores.objects.delete(stand.frames()["object_key"].iloc[4])
    assert counted(stand) == (2 * SECONDS, 1, 0)


def test_a_row_that_was_lost_before_a_further_ingest_is_still_missing(stand: Stand, stores: Stores) -> None:
    stand.frames()
    lose_row(stand, 3)
    film(stores)
    assert counted(stand, SECONDS, 2 * SECONDS) == (2 * SECONDS, 1, 0)
