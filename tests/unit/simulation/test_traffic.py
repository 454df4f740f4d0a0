"""Traffic: stationary, free of collisions, obedient to signals, and the same from whichever side it is asked."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from its_platform.simulation import truth_counts, truth_passages, view_named, views
from its_platform.simulation.traffic import Traveller, travellers

SEED = 7


def _everybody(view: str, at_s: float) -> list[Traveller]:
    seen = view_named(view)
    return travellers(seen.layout, SEED, seen.number, at_s)


@pytest.mark.parametrize("view", views())
def test_vehicles_of_one_lane_keep_their_distance(view: str) -> None:
    followers = touching = 0
    for step in range(120):
        lanes: dict[str, list[Traveller]] = {}
        for one in _everybody(view, step * 3.7):
            if one.class_name != "pedestrian":
                lanes.setdefault(one.lane, []).append(one)
        for lane in lanes.values():
            lane.sort(key=lambda t: t.gait)
            for behind, ahead in pairwise(lane):
                followers += 1
                touching += ahead.gait - ahead.length_m < behind.gait
    assert followers > 100
    assert touching / followers < 0.01


@pytest.mark.parametrize("view", views())
def test_a_track_moves_as_its_speed_says(view: str) -> None:
    moved = 0
    for at_s in (100.0, 137.0):
        before = {t.track_id: t for t in _everybody(view, at_s)}
        for after in _everybody(view, at_s + 0.2):
            if after.track_id in before:
                start = before[after.track_id]
                distance = math.hypot(after.x - start.x, after.y - start.y)
                assert distance == pytest.approx(0.1 * (start.speed_mps + after.speed_mps), abs=0.25)
                moved += 1
    assert moved > 4


def test_nobody_crosses_the_stop_line_at_red() -> None:
    seen = view_named("junction")
    lane = next(lane for lane in seen.layout.lanes if lane.name == "north")
    assert lane.stop_s is not None
    stopped = False
    for cycle in range(6):
        red_from = cycle * lane.cycle_s + lane.offset_s
        on_lane = [
            {t.track_id: t for t in travellers(seen.layout, SEED, seen.number, at_s) if t.lane == "north"}
            for at_s in (red_from + 1.0, red_from + lane.red_s - 0.2)
        ]
        for track, late in on_lane[1].items():
            early = on_lane[0].get(track)
            if early is None or early.gait < lane.stop_s - 2:
                assert late.gait <= lane.stop_s + 0.5
                stopped = stopped or late.speed_mps < 0.5
    assert stopped


@pytest.mark.parametrize("view", views())
def test_the_density_is_the_same_hours_later(view: str) -> None:
    means = []
    for start in (0.0, 7200.0, 36_000.0):
        counts = [len(_everybody(view, start + 5.1 * i)) for i in range(60)]
        means.append(np.mean(counts))
    assert max(means) < 1.25 * min(means)


def test_track_numbers_are_never_shared() -> None:
    for at_s in (50.0, 4000.0):
        tracks = [t.track_id for t in _everybody("crossing", at_s)]
        assert len(tracks) == len(set(tracks))
        assert all(track > 0 for track in tracks)


def test_counts_of_two_halves_are_the_count_of_the_whole() -> None:
    whole = truth_counts("boulevard", SEED, 0.0, 120.0)
    halves = [truth_counts("boulevard", SEED, 0.0, 61.3), truth_counts("boulevard", SEED, 61.3, 120.0)]
    assert sum(sum(line.values()) for line in whole.values()) > 20
    for line, classes in whole.items():
        for name, count in classes.items():
            assert count == sum(half[line].get(name, 0) for half in halves)


def test_a_passage_is_where_the_track_stands_at_that_moment() -> None:
    passage = truth_passages("motorway", SEED, 100.0, 130.0)[0]
    who = next(t for t in _everybody("motorway", passage.at_s) if t.track_id == passage.track_id)
    assert who.class_name == passage.class_name
    assert who.lane == passage.line
    assert who.speed_mps == pytest.approx(passage.speed_mps, abs=0.3)
