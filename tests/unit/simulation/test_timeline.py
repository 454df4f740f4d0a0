"""The timeline: footage exists where segments do, appends are never lost, addresses are read strictly."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from its_platform import simulation
from its_platform.errors import BadInput, NotFound
from its_platform.settings import Settings, load_settings
from its_platform.simulation import Address
from its_platform.simulation.timeline import timeline_path


def _append_some(home: str) -> int:
    settings = load_settings(home=Path(home))
    for _ in range(5):
        simulation.append_segment(settings, "day", "clear", 10.0)
    return 5


def test_segments_follow_one_another_and_survive_reading(settings: Settings) -> None:
    simulation.append_segment(settings, "day", "clear", 60)
    written = simulation.append_segment(settings, "night", "fog", 30)
    read = simulation.read_timeline(settings)
    assert read == written
    assert [(s.from_s, s.to_s, s.light) for s in read.segments] == [(0, 60, "day"), (60, 90, "night")]
    assert read.end == read.epoch + timedelta(seconds=90)


def test_an_unwritten_world_is_empty_and_nothing_is_created(settings: Settings) -> None:
    assert simulation.read_timeline(settings).segments == ()
    assert not timeline_path(settings).exists()


def test_two_processes_that_append_at_once_lose_nothing(settings: Settings) -> None:
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_append_some, [str(settings.home)] * 2))
    segments = simulation.read_timeline(settings).segments
    assert len(segments) == 10
    assert all(a.to_s == b.from_s for a, b in pairwise(segments))


def test_truth_at_is_the_truth_of_the_frame_there(settings: Settings) -> None:
    simulation.append_segment(settings, "day", "clear", 60)
    timeline = simulation.append_segment(settings, "night", "fog", 60)
    moment = timeline.moment(75.5)
    frame = simulation.frame_at(settings, "sim://crossing", moment)
    assert (frame.light, frame.weather) == ("night", "fog")
    assert simulation.truth_at(settings, "crossing", moment) == frame.boxes
    expected = simulation.render("crossing", timeline.seed, 75.5, "night", "fog")
    assert np.array_equal(frame.image, expected.image)
    other = simulation.truth_at(settings, "sim://crossing?seed=99", moment)
    assert other == simulation.truth("crossing", 99, 75.5)


def test_there_is_no_footage_outside_the_segments(settings: Settings) -> None:
    timeline = simulation.append_segment(settings, "day", "clear", 60)
    for at_s in (-0.5, 60.0, 3600.0):
        with pytest.raises(NotFound, match="no footage"):
            simulation.truth_at(settings, "junction", timeline.moment(at_s))


def test_a_time_without_a_zone_is_refused(settings: Settings) -> None:
    simulation.append_segment(settings, "day", "clear", 60)
    with pytest.raises(BadInput, match="zone"):
        simulation.truth_at(settings, "junction", datetime(2026, 1, 5, 6, 0, 1))  # noqa: DTZ001


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_segment_needs_a_positive_length(settings: Settings, seconds: float) -> None:
    with pytest.raises(BadInput, match="segment"):
        simulation.append_segment(settings, "day", "clear", seconds)
    assert not timeline_path(settings).exists()


def test_a_broken_timeline_is_named_and_kept(settings: Settings) -> None:
    simulation.append_segment(settings, "day", "clear", 60)
    timeline_path(settings).write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        simulation.append_segment(settings, "day", "clear", 60)
    assert timeline_path(settings).read_text() == "{"


def test_a_world_is_begun_once(settings: Settings) -> None:
    epoch = datetime(2026, 3, 1, tzinfo=UTC)
    simulation.create_timeline(settings, epoch, 11)
    simulation.append_segment(settings, "dusk", "rain", 5)
    assert len(simulation.create_timeline(settings, epoch, 11).segments) == 1
    with pytest.raises(BadInput, match="there already"):
        simulation.create_timeline(settings, epoch, 12)


@pytest.mark.parametrize(
    ("source", "address"),
    [
        ("sim://junction", Address("junction")),
        ("sim://junction?seed=7", Address("junction", 7)),
        ("sim://camera-3@12.5s", Address("camera-3", None, 12.5)),
        ("sim://motorway?seed=2@3e+02s", Address("motorway", 2, 300.0)),
    ],
)
def test_addresses_name_a_view_a_seed_and_a_frame(source: str, address: Address) -> None:
    assert simulation.parse_address(source) == address


@pytest.mark.parametrize("source", ["junction", "sim:junction", "sim://junction?size=3", "rtsp://junction", "sim://"])
def test_what_is_no_address_is_refused(source: str) -> None:
    with pytest.raises(BadInput, match="no address"):
        simulation.parse_address(source)
