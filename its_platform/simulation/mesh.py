"""What bodies are made of: faces with colours, lamps and glass, gathered by a builder into arrays.

Local axes: x ahead, y to the left, z up, metres, the origin on the ground under the centre. Everything is convex
parts, painted by tier and depth, with decals (windows, lamps) on top. What a car or a cyclist looks like is
`vehicles` and `people`; placing and painting is `renderer`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

Vector = tuple[float, float, float]
Colour = tuple[float, float, float]
PLAIN, GLASS, HEAD, TAIL = 0, 1, 2, 3
GLASS_COLOUR: Colour = (44, 52, 62)
TYRE: Colour = (26, 26, 28)
PAINTS: tuple[Colour, ...] = (
    (228, 228, 226),
    (236, 236, 240),
    (28, 29, 32),
    (40, 42, 46),
    (152, 155, 160),
    (186, 188, 190),
    (98, 102, 108),
    (168, 28, 32),
    (120, 18, 26),
    (32, 66, 140),
    (26, 42, 84),
    (84, 120, 160),
    (46, 92, 66),
    (196, 164, 112),
    (206, 120, 36),
    (222, 190, 48),
    (110, 78, 56),
    (120, 160, 170),
)
CARGO: tuple[Colour, ...] = (
    (232, 232, 230),
    (210, 212, 216),
    (64, 96, 150),
    (170, 44, 40),
    (60, 118, 74),
    (222, 178, 60),
)
LIVERIES: tuple[Colour, ...] = (
    (204, 44, 40),
    (232, 190, 50),
    (42, 92, 168),
    (226, 226, 222),
    (48, 128, 84),
    (230, 120, 40),
)
SKINS: tuple[Colour, ...] = ((226, 186, 158), (198, 150, 118), (146, 100, 74), (96, 66, 50))
CLOTHES: tuple[Colour, ...] = (
    (34, 36, 44),
    (60, 66, 84),
    (44, 62, 108),
    (150, 40, 44),
    (206, 206, 200),
    (88, 110, 78),
    (222, 160, 60),
    (130, 84, 120),
    (120, 92, 66),
    (90, 140, 176),
    (240, 220, 90),
    (160, 160, 166),
)


class _Face(NamedTuple):
    corners: tuple[int, ...]
    colour: Colour
    normal: Vector
    centre: Vector
    tier: float
    level: int
    material: int
    width: float
    part: int


@dataclass(frozen=True)
class Mesh:
    """`vertices` [n,3]; each face an index tuple. `tier` orders parts, `level` puts decals over their part."""

    vertices: np.ndarray
    faces: tuple[tuple[int, ...], ...]
    colours: np.ndarray
    normals: np.ndarray
    centres: np.ndarray
    tiers: np.ndarray
    levels: np.ndarray
    materials: np.ndarray
    widths: np.ndarray
    part_of: np.ndarray
    part_centres: np.ndarray
    footprint: np.ndarray


@dataclass
class Builder:
    """Gathers faces; `build` makes the arrays. Plain Python numbers, since each body has few and small faces."""

    vertices: list[Vector] = field(default_factory=list)
    faces: list[_Face] = field(default_factory=list)
    parts: int = 0

    def face(
        self,
        points: Sequence[Vector],
        colour: Colour,
        inside: Vector | None,
        tier: float,
        level: int = 0,
        material: int = PLAIN,
        width: float = 0.0,
    ) -> None:
        """A polygon whose normal looks away from `inside`; a closed line `width` metres thick where that is set."""
        count = len(points)
        centre = (
            sum(p[0] for p in points) / count,
            sum(p[1] for p in points) / count,
            sum(p[2] for p in points) / count,
        )
        normal: Vector = (0.0, 0.0, 0.0)
        if inside is not None and not width:
            normal = _outward(points, centre, inside)
        corners = tuple(range(len(self.vertices), len(self.vertices) + count))
        self.vertices += points
        self.faces.append(_Face(corners, colour, normal, centre, tier, level, material, width, self.parts))

    def prism(
        self,
        profile: list[tuple[float, float]],
        widths: list[float],
        colour: Colour,
        tier: float,
        roof: Colour | None = None,
        middle: float = 0.0,
    ) -> Vector:
        """A side profile (x, z) drawn out to ±width/2 at each of its points. Returns the inside point."""
        left = [(x, middle + w / 2, z) for (x, z), w in zip(profile, widths, strict=True)]
        right = [(x, middle - w / 2, z) for (x, z), w in zip(profile, widths, strict=True)]
        count = len(profile)
        inside = (sum(x for x, _ in profile) / count, middle, sum(z for _, z in profile) / count)
        self.parts += 1
        self.face(left, colour, inside, tier)
        self.face(right, colour, inside, tier)
        top = max(z for _, z in profile)
        for i in range(count):
            j = (i + 1) % count
            is_roof = roof is not None and profile[i][1] > top - 0.05 and profile[j][1] > top - 0.05
            self.face([left[i], left[j], right[j], right[i]], roof if is_roof and roof else colour, inside, tier)
        return inside

    def box(
        self, x0: float, x1: float, width: float, z0: float, z1: float, colour: Colour, tier: float, middle: float = 0.0
    ) -> Vector:
        return self.prism([(x0, z0), (x1, z0), (x1, z1), (x0, z1)], [width] * 4, colour, tier, middle=middle)

    def limb(
        self,
        low: Vector,
        high: Vector,
        low_radii: tuple[float, float],
        high_radii: tuple[float, float],
        colour: Colour,
        tier: float,
        sides: int = 6,
        cap: Colour | None = None,
    ) -> None:
        """A tapered column between two points; radii along x and y."""
        turns = [math.pi / sides * (2 * i + 1) for i in range(sides)]
        ring = [(math.cos(t), math.sin(t)) for t in turns]
        bottom = [(low[0] + c * low_radii[0], low[1] + s * low_radii[1], low[2]) for c, s in ring]
        top = [(high[0] + c * high_radii[0], high[1] + s * high_radii[1], high[2]) for c, s in ring]
        inside = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2, (low[2] + high[2]) / 2)
        self.parts += 1
        for i in range(sides):
            j = (i + 1) % sides
            self.face([bottom[i], bottom[j], top[j], top[i]], colour, inside, tier)
        self.face(top, cap or colour, inside, tier)

    def wheel(self, x: float, radius: float, y: float, tier: float, inside: Vector) -> None:
        """A tyre with its rim as decals on a side of a body."""
        turns = [math.pi / 6 * i for i in range(12)]
        disc = [(x + radius * math.cos(t), y, radius + radius * math.sin(t)) for t in turns]
        self.face(disc, TYRE, inside, tier, level=2)
        rim = [(x + radius * 0.58 * math.cos(t), y * 1.004, radius + radius * 0.58 * math.sin(t)) for t in turns]
        self.face(rim, (128, 130, 134), inside, tier, level=3)

    def build(self) -> Mesh:
        columns = list(zip(*self.faces, strict=True))
        vertices = np.asarray(self.vertices, float)
        part_of = np.asarray(columns[8])
        centres = np.asarray(columns[3], float)
        members = np.maximum(np.bincount(part_of, minlength=self.parts + 1), 1)
        sums = np.stack([np.bincount(part_of, centres[:, axis], self.parts + 1) for axis in range(3)], 1)
        low, high = vertices.min(0), vertices.max(0)
        footprint = np.array([[low[0], low[1], 0], [high[0], low[1], 0], [high[0], high[1], 0], [low[0], high[1], 0]])
        return Mesh(
            vertices,
            columns[0],
            np.asarray(columns[1], float),
            np.asarray(columns[2], float),
            centres,
            np.asarray(columns[4], float),
            np.asarray(columns[5]),
            np.asarray(columns[6]),
            np.asarray(columns[7], float),
            part_of,
            sums / members[:, None],
            footprint,
        )


def _outward(points: Sequence[Vector], centre: Vector, inside: Vector) -> Vector:
    """A polygon's unit normal by Newell's method, on the side away from `inside`."""
    x = y = z = 0.0
    before = points[-1]
    for point in points:
        x += (before[1] - point[1]) * (before[2] + point[2])
        y += (before[2] - point[2]) * (before[0] + point[0])
        z += (before[0] - point[0]) * (before[1] + point[1])
        before = point
    size = math.sqrt(x * x + y * y + z * z) or 1.0
    if x * (centre[0] - inside[0]) + y * (centre[1] - inside[1]) + z * (centre[2] - inside[2]) < 0:
        size = -size
    return (x / size, y / size, z / size)


def pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    base = np.asarray(colours[int(rng.integers(len(colours)))], float)
    return tuple(np.clip(base * rng.uniform(0.88, 1.1) + rng.uniform(-6, 6, 3), 8, 250))


def add_lamps(
    b: Builder, x: float, width: float, z0: float, z1: float, inside: Vector, tier: float, is_head: bool
) -> None:
    for side in (-1, 1):
        y0, y1 = side * width * 0.5 * 0.95, side * width * 0.5 * 0.62
        colour: Colour = (235, 236, 228) if is_head else (150, 18, 20)
        b.face([(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)], colour, inside, tier, 2, HEAD if is_head else TAIL)


def add_plate(b: Builder, x: float, inside: Vector, tier: float, z: float) -> None:
    b.face([(x, -0.26, z), (x, 0.26, z), (x, 0.26, z + 0.12), (x, -0.26, z + 0.12)], (225, 224, 214), inside, tier, 2)
