"""Who is on the road at a moment: arrivals, car following and walking, with random access in time.

A layout, a seed and a time enter; `Traveller`s (class, place, heading, speed, track) leave. Traffic is made in
platoons, one a lane and cycle: a platoon's arrivals depend on seed, lane and cycle alone, and it has left the
stop line before the next one reaches it. So any moment is computed from the few platoons near it, whatever was
asked before, and the density has the same mean in every hour. Pictures are no concern of this module.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from its_platform.simulation.roads import Lane, Layout

STEP_S = 0.1
LENGTHS_M = {
    "car": (3.8, 4.7),
    "truck": (6.0, 7.6),
    "bus": (8.2, 9.4),
    "motorcycle": (2.1, 2.3),
    "bicycle": (1.75, 1.9),
}
SPEED_FACTOR = {"car": 1.0, "truck": 0.92, "bus": 0.92, "motorcycle": 1.04, "bicycle": 0.52, "pedestrian": 1.0}
ACCELERATION = {"car": 1.9, "truck": 1.1, "bus": 1.1, "motorcycle": 2.4, "bicycle": 0.9}
BRAKING, HEADWAY_S, STANDSTILL_M = 2.2, 1.3, 1.8


@dataclass(frozen=True)
class Traveller:
    """One road user at one moment. `x`, `y` in metres are the centre on the ground; `heading` in radians."""

    track_id: int
    class_name: str
    x: float
    y: float
    heading: float
    speed_mps: float
    length_m: float
    variant: int
    gait: float
    is_braking: bool
    lane: str


@dataclass(frozen=True)
class _Track:
    track_id: int
    class_name: str
    variant: int
    length_m: float
    lateral_m: float
    entered_s: float
    places: np.ndarray
    speeds: np.ndarray


@lru_cache(maxsize=256)
def _arcs(points: tuple[tuple[float, float], ...]) -> tuple[np.ndarray, np.ndarray]:
    """A path as an array `[n,2]` and the arc length at each point, metres."""
    path = np.asarray(points, float)
    return path, np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])


def lane_length(lane: Lane) -> float:
    return float(_arcs(lane.points)[1][-1])


def _generator(seed: int, place: int, lane_index: int, cycle: int) -> np.random.Generator:
    return np.random.default_rng([seed & 0xFFFFFFFF, place, lane_index, cycle + (1 << 24)])


def _window(lane: Lane) -> tuple[float, float]:
    """First and last entry of a platoon, seconds from its cycle's start; the rest keeps it from the next one."""
    return (0.0, lane.cycle_s - 4.0) if lane.stop_s is None else (-2.0, lane.cycle_s - 14.0)


def _arrivals(lane: Lane, start_s: float, rng: np.random.Generator) -> list[float]:
    """Entry times of a platoon, sorted, at least 1.3 s apart."""
    first, last = _window(lane)
    count = min(int(rng.poisson(lane.flow)), int((last - first) / 1.4), 13 if lane.stop_s is None else 9)
    gaps = np.sort(rng.uniform(0, last - first - 1.3 * count, count))
    return [start_s + first + float(g) + 1.3 * i for i, g in enumerate(gaps)]


def _entry_is_free_s(leader: _Track) -> float:
    """When the vehicle ahead leaves room for the next at the lane's beginning."""
    clear = int(np.searchsorted(leader.places, leader.length_m + 4.0))
    return leader.entered_s + STEP_S * clear


@lru_cache(maxsize=4096)
def _platoon(lane: Lane, lane_index: int, seed: int, place: int, cycle: int) -> tuple[_Track, ...]:
    """Every track that enters `lane` in `cycle`, to the lane's end."""
    rng = _generator(seed, place, lane_index, cycle)
    start = cycle * lane.cycle_s + lane.offset_s
    return (
        _walkers(lane, lane_index, cycle, start, rng) if lane.is_walk else _drivers(lane, lane_index, cycle, start, rng)
    )


def _track_id(cycle: int, lane_index: int, index: int) -> int:
    return ((cycle + (1 << 20)) * 32 + lane_index) * 16 + index


def _walkers(lane: Lane, lane_index: int, cycle: int, start: float, rng: np.random.Generator) -> tuple[_Track, ...]:
    tracks = []
    length = lane_length(lane)
    for index in range(min(int(rng.poisson(lane.flow)), 6)):
        speed = lane.speed_mps * float(rng.uniform(0.85, 1.2))
        at_kerb = start + float(rng.uniform(1.0, max(lane.red_s - 10.0, lane.cycle_s * 0.25)))
        if lane.stop_s is None:
            at_kerb = start + float(rng.uniform(0, lane.cycle_s))
        entered = at_kerb - (lane.stop_s or 0.0) / speed
        steps = int(length / speed / STEP_S) + 2
        places = np.arange(steps) * STEP_S * speed
        tracks.append(
            _Track(
                _track_id(cycle, lane_index, index),
                "pedestrian",
                int(rng.integers(1 << 30)),
                0.6,
                float(rng.uniform(-lane.spread_m, lane.spread_m)),
                entered,
                places,
                np.full(steps, speed),
            )
        )
    return tuple(tracks)


def _drivers(lane: Lane, lane_index: int, cycle: int, start: float, rng: np.random.Generator) -> tuple[_Track, ...]:
    """The intelligent driver model (Treiber, Hennecke, Helbing 2000), each vehicle behind the one before it."""
    names = [name for name, _ in lane.mix]
    weights = np.array([w for _, w in lane.mix])
    length = lane_length(lane) + 12.0
    red_until = start + lane.red_s
    last = start + _window(lane)[1] + 0.5
    tracks: list[_Track] = []
    leader: _Track | None = None
    for index, entered in enumerate(_arrivals(lane, start, rng)):
        name = str(rng.choice(names, p=weights / weights.sum()))
        body = float(rng.uniform(*LENGTHS_M[name]))
        wish = lane.speed_mps * (SPEED_FACTOR[name] if len(names) > 1 else 1.0) * float(rng.uniform(0.94, 1.06))
        if leader is not None:
            entered = max(entered, _entry_is_free_s(leader))
        if entered > last:
            break
        places, speeds = _follow(lane, name, wish, entered, leader, red_until, length)
        spread = 0.55 if name == "motorcycle" else lane.spread_m
        lateral = float(rng.uniform(-spread, spread))
        leader = _Track(
            _track_id(cycle, lane_index, index),
            name,
            int(rng.integers(1 << 30)),
            body,
            lateral,
            entered,
            places,
            speeds,
        )
        tracks.append(leader)
    return tuple(tracks)


def _follow(
    lane: Lane, name: str, wish: float, entered: float, leader: _Track | None, red_until: float, length: float
) -> tuple[np.ndarray, np.ndarray]:
    """Front-bumper places (m) and speeds (m/s) at each `STEP_S` from `entered` until the lane's end."""
    place, speed, time = 0.0, wish, entered
    if leader is not None:
        behind = min(int((entered - leader.entered_s) / STEP_S), len(leader.speeds) - 1)
        speed = min(wish, float(leader.speeds[behind]) + 1.0)
    places, speeds = [place], [speed]
    acceleration = ACCELERATION[name]
    lead_shift = 0.0 if leader is None else (entered - leader.entered_s) / STEP_S
    for step in range(3000):
        gap, closing = math.inf, 0.0
        if leader is not None:
            at = int(lead_shift) + step
            if at < len(leader.places):
                gap = leader.places[at] - leader.length_m - place
                closing = speed - leader.speeds[at]
        if lane.stop_s is not None and time < red_until and place <= lane.stop_s and lane.stop_s - place < gap + 1.5:
            gap, closing = lane.stop_s - place + 1.5, speed
        wanted = STANDSTILL_M + max(0.0, speed * HEADWAY_S + speed * closing / (2 * math.sqrt(acceleration * BRAKING)))
        change = acceleration * (1 - (speed / wish) ** 4 - (wanted / max(gap, 0.2)) ** 2)
        speed = max(0.0, speed + max(change, -8.0) * STEP_S)
        place += speed * STEP_S
        time += STEP_S
        places.append(place)
        speeds.append(speed)
        if place > length:
            break
    return np.array(places), np.array(speeds)


def _near_cycles(lane: Lane, from_s: float, to_s: float) -> range:
    """Cycles whose platoons can be on the lane between two times."""
    slowest = 0.8 * lane.speed_mps * (1.0 if len(lane.mix) == 1 else 0.45)
    travel = (lane_length(lane) + 12) / slowest + lane.red_s
    lead = (lane.stop_s or 0.0) / slowest if lane.is_walk else 2.0
    first = math.floor((from_s - lane.offset_s - travel) / lane.cycle_s) - 1
    last = math.floor((to_s - lane.offset_s + lead) / lane.cycle_s) + 1
    return range(first, last + 1)


def travellers(layout: Layout, seed: int, place: int, at_s: float) -> list[Traveller]:
    """Everybody on the layout at `at_s` seconds, in no order of depth. `place` tells cameras with one seed apart."""
    found = []
    for lane_index, lane in enumerate(layout.lanes):
        path, arcs = _arcs(lane.points)
        for cycle in _near_cycles(lane, at_s, at_s):
            for track in _platoon(lane, lane_index, seed, place, cycle):
                index = (at_s - track.entered_s) / STEP_S
                if not 0 <= index < len(track.places) - 1:
                    continue
                found.append(_at(lane, track, index, path, arcs))
    return found


def _at(lane: Lane, track: _Track, index: float, path: np.ndarray, arcs: np.ndarray) -> Traveller:
    low, share = int(index), index - int(index)
    along = float(track.places[low] * (1 - share) + track.places[low + 1] * share)
    speed = float(track.speeds[low] * (1 - share) + track.speeds[low + 1] * share)
    centre = along - track.length_m / 2
    segment = min(max(int(np.searchsorted(arcs, centre, side="right")) - 1, 0), len(arcs) - 2)
    direction = (path[segment + 1] - path[segment]) / (arcs[segment + 1] - arcs[segment])
    x, y = path[segment] + direction * (centre - arcs[segment])
    heading = math.atan2(direction[1], direction[0])
    x, y = x - direction[1] * track.lateral_m, y + direction[0] * track.lateral_m
    is_braking = track.speeds[low + 1] < track.speeds[low] - 0.03 or speed < 0.3
    return Traveller(
        track.track_id,
        track.class_name,
        float(x),
        float(y),
        heading,
        speed,
        track.length_m,
        track.variant,
        along,
        bool(is_braking),
        lane.name,
    )


@dataclass(frozen=True)
class Passage:
    """A track's front passing the counting line of its lane."""

    line: str
    class_name: str
    track_id: int
    at_s: float
    speed_mps: float


def passages(layout: Layout, seed: int, place: int, from_s: float, to_s: float) -> list[Passage]:
    """Every passing of a lane's counting line (the point of the lane nearest the origin) in `[from_s, to_s)`."""
    found = []
    for lane_index, lane in enumerate(layout.lanes):
        path, arcs = _arcs(lane.points)
        samples = np.linspace(0, arcs[-1], 400)
        nearest = np.hypot(np.interp(samples, arcs, path[:, 0]), np.interp(samples, arcs, path[:, 1])).argmin()
        line_s = float(samples[nearest])
        for cycle in _near_cycles(lane, from_s, to_s):
            for track in _platoon(lane, lane_index, seed, place, cycle):
                after = int(np.searchsorted(track.places, line_s, side="right"))
                if not 0 < after < len(track.places):
                    continue
                low, high = track.places[after - 1], track.places[after]
                at_s = track.entered_s + STEP_S * (after - 1 + (line_s - low) / (high - low))
                if from_s <= at_s < to_s:
                    found.append(
                        Passage(lane.name, track.class_name, track.track_id, float(at_s), float(track.speeds[after]))
                    )
    return sorted(found, key=lambda p: p.at_s)
