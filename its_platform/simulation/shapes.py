"""Bodies of road users as small meshes: a class, a variant and a pose in, faces with colours and lamps out.

Local axes: x ahead, y to the left, z up, metres, the origin on the ground under the centre. Everything is convex
parts painted by tier and depth with decals (windows, lamps) on top; placing and painting them is `renderer`'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

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
class _Builder:
    vertices: list[tuple[float, float, float]] = field(default_factory=list)
    faces: list[tuple] = field(default_factory=list)
    parts: int = 0

    def face(
        self,
        points: list[tuple[float, float, float]],
        colour: Colour,
        inside: np.ndarray | None,
        tier: float,
        level: int = 0,
        material: int = PLAIN,
        width: float = 0.0,
    ) -> None:
        """A polygon whose normal looks away from `inside`; a closed line `width` metres thick where that is set."""
        array = np.asarray(points, float)
        centre = array.mean(0)
        normal = np.zeros(3)
        if inside is not None and not width:
            following = np.roll(array, -1, axis=0)
            normal = np.cross(array, following).sum(0)
            normal /= max(float(np.linalg.norm(normal)), 1e-9)
            if normal @ (centre - inside) < 0:
                normal = -normal
        start = len(self.vertices)
        self.vertices += [tuple(p) for p in array]  # type: ignore[misc]
        self.faces.append(
            (tuple(range(start, start + len(points))), colour, normal, centre, tier, level, material, width, self.parts)
        )

    def prism(
        self,
        profile: list[tuple[float, float]],
        widths: list[float],
        colour: Colour,
        tier: float,
        roof: Colour | None = None,
        middle: float = 0.0,
    ) -> np.ndarray:
        """A side profile (x, z) drawn out to ±width/2 at each of its points. Returns the inside point."""
        left = [(x, middle + w / 2, z) for (x, z), w in zip(profile, widths, strict=True)]
        right = [(x, middle - w / 2, z) for (x, z), w in zip(profile, widths, strict=True)]
        inside = np.mean(np.asarray(left + right), axis=0)
        self.parts += 1
        self.face(left, colour, inside, tier)
        self.face(right, colour, inside, tier)
        top = max(z for _, z in profile)
        for i in range(len(profile)):
            j = (i + 1) % len(profile)
            is_roof = roof is not None and profile[i][1] > top - 0.05 and profile[j][1] > top - 0.05
            self.face([left[i], left[j], right[j], right[i]], roof if is_roof and roof else colour, inside, tier)
        return inside

    def box(
        self, x0: float, x1: float, width: float, z0: float, z1: float, colour: Colour, tier: float, middle: float = 0.0
    ) -> np.ndarray:
        return self.prism([(x0, z0), (x1, z0), (x1, z1), (x0, z1)], [width] * 4, colour, tier, middle=middle)

    def limb(
        self,
        low: tuple[float, float, float],
        high: tuple[float, float, float],
        low_radii: tuple[float, float],
        high_radii: tuple[float, float],
        colour: Colour,
        tier: float,
        sides: int = 6,
        cap: Colour | None = None,
    ) -> None:
        """A tapered column between two points; radii along x and y."""
        turns = np.arange(sides) * (2 * math.pi / sides) + math.pi / sides
        ring = np.stack([np.cos(turns), np.sin(turns), np.zeros(sides)], 1)
        bottom = ring * (*low_radii, 0) + low
        top = ring * (*high_radii, 0) + high
        inside = (np.asarray(low) + np.asarray(high)) / 2
        self.parts += 1
        for i in range(sides):
            j = (i + 1) % sides
            self.face([bottom[i], bottom[j], top[j], top[i]], colour, inside, tier)
        self.face(list(top), cap or colour, inside, tier)

    def wheel(self, x: float, radius: float, y: float, tier: float, inside: np.ndarray) -> None:
        """A tyre with its rim as decals on a side of a body."""
        turns = np.arange(12) * (math.pi / 6)
        disc = [(x + radius * math.cos(t), y, radius + radius * math.sin(t)) for t in turns]
        self.face(disc, TYRE, inside, tier, level=2)
        rim = [(x + radius * 0.58 * math.cos(t), y * 1.004, radius + radius * 0.58 * math.sin(t)) for t in turns]
        self.face(rim, (128, 130, 134), inside, tier, level=3)

    def build(self) -> Mesh:
        columns = list(zip(*self.faces, strict=True))
        vertices = np.asarray(self.vertices, float)
        part_of = np.asarray(columns[8])
        centres = np.asarray(columns[3], float)
        part_centres = np.stack(
            [centres[part_of == p].mean(0) if (part_of == p).any() else np.zeros(3) for p in range(self.parts + 1)]
        )
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
            part_centres,
            footprint,
        )


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    base = np.asarray(colours[int(rng.integers(len(colours)))], float)
    return tuple(np.clip(base * rng.uniform(0.88, 1.1) + rng.uniform(-6, 6, 3), 8, 250))  # type: ignore[return-value]


def _lamps(
    b: _Builder, x: float, width: float, z0: float, z1: float, inside: np.ndarray, tier: float, is_head: bool
) -> None:
    for side in (-1, 1):
        y0, y1 = side * width * 0.5 * 0.95, side * width * 0.5 * 0.62
        colour: Colour = (235, 236, 228) if is_head else (150, 18, 20)
        b.face([(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)], colour, inside, tier, 2, HEAD if is_head else TAIL)


def _plate(b: _Builder, x: float, inside: np.ndarray, tier: float, z: float) -> None:
    b.face([(x, -0.26, z), (x, 0.26, z), (x, 0.26, z + 0.12), (x, -0.26, z + 0.12)], (225, 224, 214), inside, tier, 2)


_CARS = {
    # base rear, base front, roof rear, roof front (shares of the length), belt, roof height
    "sedan": (-0.40, 0.25, -0.25, 0.06, 0.92, 1.45),
    "hatch": (-0.485, 0.24, -0.40, 0.05, 0.95, 1.50),
    "suv": (-0.49, 0.25, -0.43, 0.07, 1.08, 1.72),
    "van": (-0.49, 0.37, -0.47, 0.20, 1.12, 1.92),
    "pickup": (-0.08, 0.25, -0.05, 0.09, 1.05, 1.75),
}


def _car(rng: np.random.Generator, length: float) -> Mesh:
    kind = str(rng.choice(list(_CARS), p=[0.34, 0.28, 0.22, 0.1, 0.06]))
    rear, front, roof_rear, roof_front, belt, top = _CARS[kind]
    paint = _pick(rng, PAINTS)
    width = float(rng.uniform(1.74, 1.86)) + (0.08 if kind in ("suv", "van", "pickup") else 0)
    half = length / 2
    b = _Builder()
    nose = belt - (0.16 if kind != "van" else 0.1)
    profile = [
        (-half, 0.24),
        (half - 0.05, 0.24),
        (half, 0.5),
        (half - 0.08, nose - 0.06),
        (front * length, belt),
        (rear * length, belt),
        (-half + 0.04, belt - 0.06),
        (-half, 0.6),
    ]
    widths = [width * s for s in (0.94, 0.92, 0.9, 0.9, 0.99, 0.99, 0.92, 0.94)]
    inside = b.prism(profile, widths, paint, 0)
    for side in (-1, 1):
        for x in (0.31 * length, -0.31 * length):
            b.wheel(x, 0.33, side * width * 0.5, 0, inside)
        b.face(
            [
                (-half, side * width * 0.475, 0.24),
                (half - 0.05, side * width * 0.475, 0.24),
                (half, side * width * 0.475, 0.34),
                (-half, side * width * 0.475, 0.34),
            ],
            (30, 30, 32),
            inside,
            0,
            1,
        )
    _lamps(b, half + 0.01, width * 0.94, 0.56, 0.74, inside, 0, True)
    _lamps(b, -half - 0.01, width * 0.94, 0.66, 0.88, inside, 0, False)
    _plate(b, -half - 0.01, inside, 0, 0.46)
    _plate(b, half + 0.01, inside, 0, 0.36)
    b.face(
        [(half + 0.008, -0.4, 0.5), (half + 0.008, 0.4, 0.5), (half + 0.008, 0.4, 0.64), (half + 0.008, -0.4, 0.64)],
        (24, 24, 26),
        inside,
        0,
        2,
    )
    if kind == "pickup":
        bed = [
            (-half + 0.15, -width * 0.4),
            (rear * length - 0.1, -width * 0.4),
            (rear * length - 0.1, width * 0.4),
            (-half + 0.15, width * 0.4),
        ]
        b.face([(x, y, belt + 0.005) for x, y in bed], (38, 38, 40), inside, 0, 2)
    cabin = [(rear * length, belt), (front * length, belt), (roof_front * length, top), (roof_rear * length, top)]
    wide = [width * 0.95, width * 0.95, width * 0.8, width * 0.8]
    has_dark_roof = rng.random() < 0.12
    inside = b.prism(cabin, wide, paint, 1, roof=(26, 27, 30) if has_dark_roof else paint)
    _glaze(b, cabin, wide, inside)
    if kind in ("suv", "van", "hatch") and rng.random() < 0.3:
        for side in (-1, 1):
            b.face(
                [
                    (roof_rear * length, side * width * 0.34, top + 0.03),
                    (roof_front * length, side * width * 0.34, top + 0.03),
                ],
                (30, 30, 30),
                None,
                1,
                4,
                PLAIN,
                0.06,
            )
    return b.build()


def _glaze(b: _Builder, cabin: list[tuple[float, float]], wide: list[float], inside: np.ndarray) -> None:
    """Glass on the four slanted sides of a cabin: rear base, front base, front top, rear top."""

    def corner(i: int, side: float, up: float, ahead: float) -> tuple[float, float, float]:
        (rx, rz), (fx, fz), (tx, tz), (sx, sz) = cabin
        low_x, high_x = rx + (fx - rx) * ahead, sx + (tx - sx) * ahead
        low_w, high_w = wide[0], wide[2]
        return (
            low_x + (high_x - low_x) * up,
            side * 0.5 * (low_w + (high_w - low_w) * up) * 1.003,
            rz + (tz - rz) * up,
        )

    for side in (-1.0, 1.0):
        for start, end in ((0.05, 0.47), (0.53, 0.95)):
            b.face(
                [
                    corner(0, side, 0.1, start),
                    corner(0, side, 0.1, end),
                    corner(0, side, 0.88, end),
                    corner(0, side, 0.88, start),
                ],
                GLASS_COLOUR,
                inside,
                1,
                2,
                GLASS,
            )
    for ahead in (0.0, 1.0):
        points = [corner(0, s * 0.9, u, ahead) for s, u in ((-1, 0.1), (1, 0.1), (1, 0.9), (-1, 0.9))]
        shift = 0.01 if ahead else -0.01
        b.face([(x + shift, y, z) for x, y, z in points], GLASS_COLOUR, inside, 1, 2, GLASS)


def _truck(rng: np.random.Generator, length: float) -> Mesh:
    half, width = length / 2, float(rng.uniform(2.25, 2.45))
    paint, load = _pick(rng, PAINTS), _pick(rng, CARGO)
    cab_length, cab_top = 1.75, float(rng.uniform(2.3, 2.7))
    b = _Builder()
    inside = b.box(-half, half - 0.3, width * 0.8, 0.45, 0.95, (48, 48, 50), 0)
    for side in (-1, 1):
        for x in (half - 0.9, -half + 1.0, -half + 2.0):
            b.wheel(x, 0.46, side * width * 0.5, 0, inside)
    rear, front = half - cab_length, half
    inside = b.prism(
        [(rear, 0.5), (front, 0.5), (front, 1.35), (front - 0.22, cab_top), (rear, cab_top)],
        [width * 0.96] * 5,
        paint,
        1,
    )
    _lamps(b, front + 0.01, width * 0.9, 0.68, 0.9, inside, 1, True)
    _plate(b, front + 0.01, inside, 1, 0.55)
    glass = [(front + 0.015, 1.4), (front - 0.19, cab_top - 0.15)]
    b.face(
        [
            (glass[0][0], -width * 0.43, 1.4),
            (glass[0][0], width * 0.43, 1.4),
            (glass[1][0], width * 0.43, cab_top - 0.15),
            (glass[1][0], -width * 0.43, cab_top - 0.15),
        ],
        GLASS_COLOUR,
        inside,
        1,
        2,
        GLASS,
    )
    for side in (-1, 1):
        y = side * width * 0.485
        b.face(
            [
                (rear + 0.55, y, 1.4),
                (front - 0.1, y, 1.4),
                (front - 0.3, y, cab_top - 0.2),
                (rear + 0.55, y, cab_top - 0.2),
            ],
            GLASS_COLOUR,
            inside,
            1,
            2,
            GLASS,
        )
    kind = rng.random()
    rear, front = -half, half - cab_length - 0.15
    if kind < 0.65:
        top = float(rng.uniform(2.7, 3.2))
        inside = b.box(rear, front, width, 0.95, top, load, 1)
        if rng.random() < 0.6:
            stripe = _pick(rng, LIVERIES)
            low, high = sorted(rng.uniform(1.2, top - 0.3, 2))
            for side in (-1, 1):
                y = side * width * 0.503
                b.face(
                    [(rear + 0.3, y, low), (front - 0.3, y, low), (front - 0.3, y, high), (rear + 0.3, y, high)],
                    stripe,
                    inside,
                    1,
                    1,
                )
        b.face([(rear - 0.01, 0, 1.0), (rear - 0.01, 0, top - 0.1)], (90, 90, 92), None, 1, 2, PLAIN, 0.05)
    else:
        top = float(rng.uniform(1.5, 1.9))
        inside = b.prism([(rear, 0.95), (front, 0.95), (front + 0.05, top), (rear - 0.1, top)], [width] * 4, load, 1)
        b.face(
            [
                (rear + 0.1, -width * 0.44, top + 0.01),
                (front - 0.1, -width * 0.44, top + 0.01),
                (front - 0.1, width * 0.44, top + 0.01),
                (rear + 0.1, width * 0.44, top + 0.01),
            ],
            (96, 80, 62) if kind < 0.85 else (60, 60, 62),
            inside,
            1,
            2,
        )
    _lamps(b, rear - 0.02, width * 0.95, 0.98, 1.2, inside, 1, False)
    _plate(b, rear - 0.02, inside, 1, 1.0)
    return b.build()


def _bus(rng: np.random.Generator, length: float) -> Mesh:
    half, width, top = length / 2, 2.5, float(rng.uniform(2.85, 3.15))
    paint = _pick(rng, LIVERIES)
    lower = _pick(rng, LIVERIES) if rng.random() < 0.4 else paint
    b = _Builder()
    roof: Colour = (226, 226, 224) if rng.random() < 0.6 else paint
    inside = b.prism(
        [(-half, 0.35), (half, 0.35), (half, top - 0.15), (half - 0.1, top), (-half + 0.1, top), (-half, top - 0.15)],
        [width, width, width, width * 0.94, width * 0.94, width],
        paint,
        0,
        roof=roof,
    )
    panes = 6
    for side in (-1, 1):
        y = side * width * 0.503
        b.face([(-half, y, 0.35), (half, y, 0.35), (half, y, 1.0), (-half, y, 1.0)], lower, inside, 0, 1)
        for i in range(panes):
            x0 = -half + 0.35 + i * (length - 0.7) / panes
            x1 = x0 + (length - 0.7) / panes - 0.14
            b.face(
                [(x0, y, 1.35), (x1, y, 1.35), (x1, y, top - 0.5), (x0, y, top - 0.5)],
                GLASS_COLOUR,
                inside,
                0,
                2,
                GLASS,
            )
        for x in (half - 2.0, -half + 2.3):
            b.wheel(x, 0.48, side * width * 0.505, 0, inside)
    for x, low in ((half + 0.01, 1.1), (-half - 0.01, 1.5)):
        b.face(
            [
                (x, -width * 0.45, low),
                (x, width * 0.45, low),
                (x, width * 0.45, top - 0.45),
                (x, -width * 0.45, top - 0.45),
            ],
            GLASS_COLOUR,
            inside,
            0,
            2,
            GLASS,
        )
    b.face(
        [
            (half + 0.015, -0.8, top - 0.4),
            (half + 0.015, 0.8, top - 0.4),
            (half + 0.015, 0.8, top - 0.2),
            (half + 0.015, -0.8, top - 0.2),
        ],
        (232, 170, 40),
        inside,
        0,
        3,
    )
    _lamps(b, half + 0.01, width * 0.95, 0.6, 0.84, inside, 0, True)
    _lamps(b, -half - 0.01, width * 0.95, 0.8, 1.2, inside, 0, False)
    _plate(b, half + 0.01, inside, 0, 0.42)
    b.box(-half + 1.0, -half + 3.0, 1.6, top, top + 0.22, (205, 206, 206), 1)
    b.box(half - 3.2, half - 2.2, 1.2, top, top + 0.14, (180, 182, 184), 1)
    return b.build()


def _ring(x: float, radius: float) -> list[tuple[float, float, float]]:
    return [(x + radius * math.cos(t), 0.0, radius + radius * math.sin(t)) for t in np.arange(14) * (2 * math.pi / 14)]


def _rider(b: _Builder, rng: np.random.Generator, seat: float, lean: float, has_helmet: bool, swing: float) -> None:
    shirt, trousers, skin = _pick(rng, CLOTHES), _pick(rng, CLOTHES), _pick(rng, SKINS)
    head: Colour = _pick(rng, PAINTS) if has_helmet else (52, 40, 32)
    for side, phase in ((-1, swing), (1, -swing)):
        b.limb(
            (0.12 + 0.12 * phase, side * 0.19, seat - 0.62 + 0.1 * phase),
            (-0.16, side * 0.14, seat + 0.05),
            (0.08, 0.08),
            (0.11, 0.1),
            trousers,
            1,
            5,
        )
    b.limb((-0.22, 0, seat), (-0.22 + lean, 0, seat + 0.56), (0.15, 0.2), (0.17, 0.26), shirt, 2, 8)
    for side in (-1, 1):
        b.limb(
            (0.3 + lean * 0.3, side * 0.33, seat + 0.22),
            (-0.14 + lean, side * 0.28, seat + 0.54),
            (0.06, 0.07),
            (0.07, 0.07),
            shirt,
            3,
            5,
        )
    top = seat + 0.86
    b.limb(
        (-0.16 + lean, 0, seat + 0.57),
        (-0.15 + lean, 0, top),
        (0.13, 0.12),
        (0.12, 0.12),
        head if has_helmet else skin,
        4,
        7,
        cap=head,
    )
    b.limb((-0.15 + lean, 0, top), (-0.16 + lean, 0, top + 0.08), (0.12, 0.12), (0.06, 0.06), head, 5, 7, cap=head)


def _motorcycle(rng: np.random.Generator, length: float) -> Mesh:
    paint = _pick(rng, PAINTS)
    b = _Builder()
    for x in (0.68, -0.68):
        b.face(_ring(x, 0.3), TYRE, None, 0, 0, PLAIN, 0.14)
        b.box(x - 0.2, x + 0.2, 0.08, 0.12, 0.5, (60, 60, 62), 0.1)
    inside = b.prism(
        [(-0.85, 0.55), (0.3, 0.32), (0.62, 0.6), (0.45, 0.95), (-0.3, 0.82), (-0.95, 0.92)],
        [0.22, 0.36, 0.24, 0.3, 0.4, 0.3],
        paint,
        0.5,
    )
    inside = b.prism([(0.45, 0.75), (0.72, 0.72), (0.6, 1.12), (0.42, 1.05)], [0.3, 0.24, 0.36, 0.42], paint, 0.6)
    b.face(
        [(0.735, -0.12, 0.78), (0.735, 0.12, 0.78), (0.69, 0.11, 0.96), (0.69, -0.11, 0.96)],
        (240, 240, 230),
        inside,
        0.6,
        2,
        HEAD,
    )
    b.box(0.3, 0.4, 0.96, 1.0, 1.06, (40, 40, 42), 0.7)
    for side in (-1, 1):
        b.box(-0.85, -0.35, 0.22, 0.5, 0.8, (44, 44, 46), 0.55, middle=side * 0.34)
    inside = b.box(-1.02, -0.92, 0.26, 0.72, 0.88, (70, 20, 22), 0.56)
    b.face(
        [(-1.03, -0.12, 0.74), (-1.03, 0.12, 0.74), (-1.03, 0.12, 0.86), (-1.03, -0.12, 0.86)],
        (170, 20, 22),
        inside,
        0.56,
        2,
        TAIL,
    )
    _rider(b, rng, 0.84, 0.16, True, 0.0)
    return b.build()


def _bicycle(rng: np.random.Generator, length: float, pose: int) -> Mesh:
    paint = _pick(rng, PAINTS)
    swing = math.sin(pose * math.pi / 4)
    b = _Builder()
    for x in (0.54, -0.54):
        b.face(_ring(x, 0.34), (34, 34, 36), None, 0, 0, PLAIN, 0.06)
        b.face([(x - 0.24, 0, 0.1), (x + 0.24, 0, 0.58)], (150, 150, 152), None, 0, 0, PLAIN, 0.015)
    joints = {
        "rear": (-0.54, 0, 0.34),
        "crank": (-0.06, 0, 0.3),
        "seat": (-0.22, 0, 0.92),
        "head": (0.38, 0, 0.88),
        "front": (0.54, 0, 0.34),
    }
    for a, c in (
        ("rear", "crank"),
        ("crank", "seat"),
        ("seat", "rear"),
        ("crank", "head"),
        ("seat", "head"),
        ("head", "front"),
    ):
        b.face([joints[a], joints[c]], paint, None, 0.2, 0, PLAIN, 0.05)
    b.box(0.32, 0.4, 0.7, 1.0, 1.05, (40, 40, 42), 0.6)
    b.box(-0.34, -0.12, 0.2, 0.92, 0.98, (30, 30, 30), 0.4)
    if rng.random() < 0.5:
        b.box(-0.75, -0.4, 0.42, 0.68, 0.98, _pick(rng, CARGO), 0.45)
    inside = np.array([0.3, 0, 0.85])
    b.face(
        [(0.46, -0.05, 0.82), (0.46, 0.05, 0.82), (0.46, 0.05, 0.92), (0.46, -0.05, 0.92)],
        (235, 235, 220),
        inside,
        0.65,
        2,
        HEAD,
    )
    b.face(
        [(-0.6, -0.06, 0.66), (-0.6, 0.06, 0.66), (-0.6, 0.06, 0.78), (-0.6, -0.06, 0.78)],
        (180, 20, 22),
        np.array([-0.3, 0, 0.7]),
        0.65,
        2,
        TAIL,
    )
    _rider(b, rng, 0.95, 0.2, rng.random() < 0.5, swing)
    return b.build()


def _pedestrian(rng: np.random.Generator, pose: int) -> Mesh:
    tall = float(rng.uniform(1.62, 1.92))
    coat, trousers, skin = _pick(rng, CLOTHES), _pick(rng, CLOTHES), _pick(rng, SKINS)
    hair: Colour = ((40, 30, 24), (88, 62, 40), (170, 140, 90), (150, 150, 150))[int(rng.integers(4))]
    swing = math.sin(pose * math.pi / 4)
    wide = float(rng.uniform(0.27, 0.33))
    hip, shoulder = tall * 0.5, tall * 0.82
    is_skirt = rng.random() < 0.25
    b = _Builder()
    for side, phase in ((-1, swing), (1, -swing)):
        foot = (0.34 * phase, side * 0.13, 0.02)
        b.limb(foot, (0.02, side * 0.12, hip + 0.04), (0.1, 0.075), (0.12, 0.12), skin if is_skirt else trousers, 0, 6)
        b.box(foot[0] - 0.1, foot[0] + 0.17, 0.11, 0.0, 0.09, (30, 28, 28), 0.1, middle=foot[1])
    low = hip - (0.28 if is_skirt or rng.random() < 0.3 else 0.06)
    b.limb((0, 0, low), (0.02, 0, shoulder), (0.2, wide * 0.85), (0.2, wide), coat, 1, 8)
    for side, phase in ((-1, -swing), (1, swing)):
        b.limb(
            (0.26 * phase, side * (wide + 0.14), hip - 0.02),
            (0.02, side * (wide + 0.02), shoulder - 0.02),
            (0.065, 0.065),
            (0.08, 0.08),
            coat,
            1.2,
            5,
        )
    extra = rng.random()
    if extra < 0.3:
        b.box(-0.36, -0.13, 0.36, hip + 0.12, shoulder - 0.02, _pick(rng, CLOTHES), 1.1)
    elif extra < 0.5:
        b.box(-0.16, 0.16, 0.14, hip - 0.3, hip + 0.08, _pick(rng, CLOTHES), 1.3, middle=wide + 0.22)
    b.limb((0.03, 0, shoulder), (0.03, 0, shoulder + 0.1), (0.07, 0.07), (0.07, 0.07), skin, 2, 6)
    b.limb((0.04, 0, shoulder + 0.07), (0.03, 0, tall - 0.06), (0.11, 0.1), (0.12, 0.115), skin, 3, 8, cap=hair)
    b.limb((0.0, 0, tall - 0.12), (0.0, 0, tall), (0.14, 0.125), (0.08, 0.08), hair, 4, 8, cap=hair)
    return b.build()


@lru_cache(maxsize=4096)
def mesh_of(class_name: str, variant: int, length_m: float, pose: int = 0) -> Mesh:
    """The body of a road user; `pose` 0..7 is where in a step or a turn of the pedals it is."""
    rng = np.random.default_rng([variant, 11])
    if class_name == "car":
        return _car(rng, length_m)
    if class_name == "truck":
        return _truck(rng, length_m)
    if class_name == "bus":
        return _bus(rng, length_m)
    if class_name == "motorcycle":
        return _motorcycle(rng, length_m)
    if class_name == "bicycle":
        return _bicycle(rng, length_m, pose)
    return _pedestrian(rng, pose)
