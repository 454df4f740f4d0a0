"""Road layouts: where lanes and footpaths run on the ground, how they are driven, and what is painted round them.

A layout enters as a kind and a seeded generator and leaves as a frozen `Layout` in metres (x to the right, y away
from the viewer, the origin where the camera looks). Who drives on it is `traffic`; how it looks is `ground`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]
VEHICLES = {"car": 0.5, "truck": 0.15, "bus": 0.12, "motorcycle": 0.23}
CLASSES = ("car", "truck", "bus", "motorcycle", "bicycle", "pedestrian")


@dataclass(frozen=True)
class Lane:
    """One line of travel. `mix` gives each class's weight; `flow` the mean number of arrivals a cycle.

    With `stop_s` (metres along the lane) the first `red_s` seconds of each cycle hold traffic there. A lane of
    pedestrians with `stop_s` is a crossing: they reach that point within the red of the road they cross.
    """

    name: str
    points: tuple[Point, ...]
    mix: tuple[tuple[str, float], ...]
    speed_mps: float
    flow: float
    cycle_s: float = 24.0
    offset_s: float = 0.0
    red_s: float = 0.0
    stop_s: float | None = None
    spread_m: float = 0.25

    @property
    def is_walk(self) -> bool:
        return self.mix[0][0] == "pedestrian"


@dataclass(frozen=True)
class Patch:
    """A painted polygon of ground: `surface` is asphalt, pavement, grass, kerb, line, zebra, cycleway or median."""

    surface: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Prop:
    """A standing thing: kind (lamp, tree, building, signal, sign, hedge), its foot and its size in metres."""

    kind: str
    x: float
    y: float
    size: float
    seed: int


@dataclass(frozen=True)
class Layout:
    kind: str
    base: str
    patches: tuple[Patch, ...]
    lanes: tuple[Lane, ...]
    props: tuple[Prop, ...]


def strip(along: str, start: float, end: float, low: float, high: float) -> tuple[Point, ...]:
    """A rectangle from `start` to `end` along axis "x" or "y" and `low` to `high` across it."""
    if along == "x":
        return ((start, low), (end, low), (end, high), (start, high))
    return ((low, start), (high, start), (high, end), (low, end))


def _line(along: str, offset: float, forwards: bool, start: float, end: float) -> tuple[Point, ...]:
    ends = (start, end) if forwards else (end, start)
    return tuple((e, offset) if along == "x" else (offset, e) for e in ends)


def _dashes(along: str, at: float, start: float, end: float, length: float, gap: float) -> list[Patch]:
    begins = np.arange(start, end, length + gap)
    return [Patch("line", strip(along, b, min(b + length, end), at - 0.07, at + 0.07)) for b in begins]


def _solid(along: str, at: float, start: float, end: float) -> Patch:
    return Patch("line", strip(along, start, end, at - 0.07, at + 0.07))


def _zebra(across: str, at: float, low: float, high: float, depth: float = 2.6) -> list[Patch]:
    """Bars of a zebra over a road from `low` to `high`; walkers go along axis `across` at offset `at`."""
    bars = np.arange(low + 0.3, high - 0.4, 1.0)
    return [Patch("zebra", strip(across, b, b + 0.5, at - depth / 2, at + depth / 2)) for b in bars]


def _mix(weights: dict[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple(weights.items())


def _walk(name: str, along: str, at: float, forwards: bool, reach: float, flow: float) -> Lane:
    return Lane(name, _line(along, at, forwards, -reach, reach), (("pedestrian", 1.0),), 1.35, flow, spread_m=0.7)


def _props(kind: str, along: str, at: float, places: list[float], size: float, rng: np.random.Generator) -> list[Prop]:
    made = []
    for place in places:
        x, y = (place, at) if along == "x" else (at, place)
        made.append(Prop(kind, x, y, size * float(rng.uniform(0.85, 1.2)), int(rng.integers(1 << 30))))
    return made


def motorway(rng: np.random.Generator) -> Layout:
    """Two carriageways of two lanes, a planted middle, hard shoulders; nobody on foot."""
    width, middle, reach = 3.5, float(rng.uniform(0.9, 1.4)), 38.0
    edge = middle + 2 * width
    patches = [
        Patch("asphalt", strip("y", -60, 60, -edge - 1.8, -middle + 0.3)),
        Patch("asphalt", strip("y", -60, 60, middle - 0.3, edge + 1.8)),
        Patch("median", strip("y", -60, 60, -middle + 0.3, middle - 0.3)),
    ]
    lanes = []
    for side in (-1, 1):
        patches += [_solid("y", side * (middle + 0.05), -60, 60), _solid("y", side * edge, -60, 60)]
        patches += _dashes("y", side * (middle + width), -60, 60, 3.0, 4.5)
        for index in range(2):
            at = side * (middle + width * (index + 0.5))
            mix = {**VEHICLES, "truck": 0.28, "bus": 0.16} if index else {**VEHICLES, "truck": 0.06, "bus": 0.04}
            path = _line("y", at, side > 0, -reach, reach)
            speed = float(rng.uniform(10, 12)) + (0 if index else 2.0)
            lanes.append(Lane(f"{'north' if side > 0 else 'south'}-{index + 1}", path, _mix(mix), speed, 8.5))
    props = _props("lamp", "y", -edge - 2.6, [-9.0, 9.0], 8.5, rng) + _props("lamp", "y", edge + 2.6, [2.0], 8.5, rng)
    props += _props("tree", "y", edge + 5.5, [3.0, 9.0, 15.0], 5.0, rng)
    props += _props("tree", "y", -edge - 5.5, [6.0, 13.0], 5.0, rng)
    return Layout("motorway", "grass", tuple(patches), tuple(lanes), tuple(props))


def boulevard(rng: np.random.Generator) -> Layout:
    """A town road of one or two lanes each way with cycleways and pavements."""
    lanes_each = 1 + int(rng.random() < 0.5)
    width, middle = 3.2, float(rng.uniform(0.15, 0.6))
    kerb = middle + lanes_each * width
    cycle_at, cycle_end = kerb + 1.0, kerb + 1.9
    patches = [
        Patch("pavement", strip("y", -60, 60, -cycle_end - 4, cycle_end + 4)),
        Patch("cycleway", strip("y", -60, 60, -cycle_end, cycle_end)),
        Patch("kerb", strip("y", -60, 60, -cycle_end - 0.15, -cycle_end)),
        Patch("kerb", strip("y", -60, 60, cycle_end, cycle_end + 0.15)),
        Patch("asphalt", strip("y", -60, 60, -kerb, kerb)),
    ]
    if middle > 0.35:
        patches.append(Patch("median", strip("y", -60, 60, -middle + 0.1, middle - 0.1)))
    else:
        patches += [_solid("y", -0.12, -60, 60), _solid("y", 0.12, -60, 60)]
    lanes = []
    for side in (-1, 1):
        word = "north" if side > 0 else "south"
        patches += _dashes("y", side * kerb, -60, 60, 1.0, 0.6)
        if lanes_each == 2:
            patches += _dashes("y", side * (middle + width), -60, 60, 2.0, 3.0)
        for index in range(lanes_each):
            at = side * (middle + width * (index + 0.5))
            path = _line("y", at, side > 0, -38, 38)
            lanes.append(
                Lane(
                    f"{word}-{index + 1}",
                    path,
                    _mix(VEHICLES),
                    float(rng.uniform(7.5, 9.5)),
                    8.0 if lanes_each == 1 else 6.5,
                )
            )
        path = _line("y", side * cycle_at, side > 0, -45, 45)
        lanes.append(Lane(f"{word}-cycle", path, (("bicycle", 1.0),), 4.8, 3.2))
        for index, forwards in enumerate((True, False)):
            at = side * (cycle_end + 1.1 + 0.9 * index)
            lanes.append(_walk(f"{word}-walk-{index + 1}", "y", at, forwards, 26, 0.9))
    props = _props("tree", "y", cycle_end + 3.6, [-6.0, 2.0, 10.0, 18.0], 4.2, rng)
    props += _props("lamp", "y", -cycle_end - 0.5, [-8.0, 8.0], 7.0, rng)
    props += _props("lamp", "y", cycle_end + 0.5, [0.0, 14.0], 7.0, rng)
    return Layout("boulevard", "paving", tuple(patches), tuple(lanes), tuple(props))


def junction(rng: np.random.Generator) -> Layout:
    """Two roads that cross under signals, with a zebra on the near and on the left arm."""
    half, cycle, red = 3.4, 48.0, 26.0
    zebra_at, stop = half + 2.3, half + 4.3
    patches = [
        Patch("pavement", strip("x", -60, 60, -half - 4, half + 4)),
        Patch("pavement", strip("y", -60, 60, -half - 4, half + 4)),
    ]
    patches += [Patch("kerb", strip(axis, -60, 60, -half - 0.15, half + 0.15)) for axis in ("x", "y")]
    patches += [Patch("asphalt", strip(axis, -60, 60, -half, half)) for axis in ("x", "y")]
    lanes = []
    for axis, offset in (("y", 22.0), ("x", 46.0)):
        for start, end in ((-60.0, -stop), (stop, 60.0)):
            patches.append(_solid(axis, 0.0, start, end))
        for side in (-1, 1):
            forwards = (side > 0) == (axis == "y")
            words = {("y", True): "north", ("y", False): "south", ("x", True): "east", ("x", False): "west"}
            path = (
                _line(axis, side * half / 2, forwards, -75, 60)
                if forwards
                else _line(axis, side * half / 2, False, -60, 75)
            )
            speed = float(rng.uniform(8.5, 10.5))
            name = words[axis, forwards]
            lanes.append(
                Lane(name, path, _mix({**VEHICLES, "bicycle": 0.22}), speed, 6.0, cycle, offset, red, 75 - stop)
            )
            low, high = sorted((0.0, side * half))
            at = -stop - 0.2 if forwards else stop - 0.1
            patches.append(Patch("line", strip(axis, at, at + 0.3, low, high)))
        arm_low, arm_high = -half, half
        across = "x" if axis == "y" else "y"
        patches += _zebra(across, -zebra_at, arm_low, arm_high)
        for index, forwards in enumerate((True, False)):
            path = _line(across, -zebra_at + (0.6 if index else -0.6), forwards, -24, 24)
            stop_s = 24 - half
            lanes.append(
                Lane(
                    f"zebra-{axis}-{index + 1}", path, (("pedestrian", 1.0),), 1.4, 1.8, cycle, offset, red, stop_s, 0.5
                )
            )
    corner = half + 0.9
    props = [
        Prop("signal", sx * corner, sy * corner, 3.4, int(rng.integers(1 << 30)))
        for sx, sy in ((1, -1), (-1, 1), (1, 1))
    ]
    far = half + 2.6
    props += [Prop("lamp", sx * far, sy * far, 7.5, 1) for sx, sy in ((-1, 1), (1, 1), (-1, -1))]
    props += _props("tree", "x", half + 6.5, [-14.0, 8.0, 14.0], 4.0, rng) + _props(
        "building", "x", half + 12, [-14.0, 13.0], 9.0, rng
    )
    return Layout("junction", "paving", tuple(patches), tuple(lanes), tuple(props))


def crossing(rng: np.random.Generator) -> Layout:
    """A street across the picture with a zebra in its middle, cyclists beside the cars."""
    half, cycle, red = 3.4, 40.0, 16.0
    reach = half + 1.9
    patches = [
        Patch("pavement", strip("x", -60, 60, -reach - 3.5, reach + 3.5)),
        Patch("kerb", strip("x", -60, 60, -reach - 0.15, reach + 0.15)),
        Patch("cycleway", strip("x", -60, 60, -reach, reach)),
        Patch("asphalt", strip("x", -60, 60, -half, half)),
        *_dashes("x", half, -60, 60, 1.0, 0.6),
        *_dashes("x", -half, -60, 60, 1.0, 0.6),
        _solid("x", 0.0, -60, -4.0),
        _solid("x", 0.0, 4.0, 60),
    ]
    patches += _zebra("y", 0.0, -reach, reach, 3.4)
    lanes = []
    for side in (-1, 1):
        word = "east" if side < 0 else "west"
        patches.append(Patch("line", strip("x", side * 3.2 - 0.2, side * 3.2 + 0.2, *sorted((0.0, side * half)))))
        path = _line("x", side * half / 2, side < 0, -75, 60) if side < 0 else _line("x", half / 2, False, -60, 75)
        lanes.append(Lane(word, path, _mix(VEHICLES), float(rng.uniform(9, 11)), 7.5, cycle, 0.0, red, 71.5))
        path = _line("x", side * (half + 1.0), side < 0, -45, 45)
        lanes.append(Lane(f"{word}-cycle", path, (("bicycle", 1.0),), 4.6, 3.4, cycle, 0.0, red, 41.5))
        for index, at in enumerate((side * 0.5, side * 1.2)):
            path = _line("y", at, side > 0, -22, 22)
            lanes.append(
                Lane(
                    f"zebra-{word}-{index + 1}",
                    path,
                    (("pedestrian", 1.0),),
                    1.4,
                    1.5,
                    cycle,
                    0.0,
                    red,
                    22 - reach,
                    0.3,
                )
            )
    lanes.append(_walk("near-walk", "x", -reach - 1.6, True, 26, 1.0))
    lanes.append(_walk("near-walk-back", "x", -reach - 2.4, False, 26, 1.0))
    props = _props("lamp", "x", reach + 0.7, [-6.5, 5.5], 7.0, rng) + _props(
        "tree", "x", reach + 3.0, [-11.0, 2.5, 11.0], 4.0, rng
    )
    props += _props("sign", "x", reach + 0.5, [2.4], 2.6, rng) + _props(
        "building", "x", reach + 9, [-12.0, 3.0], 8.0, rng
    )
    return Layout("crossing", "paving", tuple(patches), tuple(lanes), tuple(props))


LAYOUTS = {"junction": junction, "boulevard": boulevard, "motorway": motorway, "crossing": crossing}
