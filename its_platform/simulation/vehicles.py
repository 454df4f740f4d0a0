"""What cars, trucks and buses look like: a generator and a length in, a mesh out; each variant its own."""

from __future__ import annotations

import numpy as np

from its_platform.simulation.mesh import (
    CARGO,
    GLASS,
    GLASS_COLOUR,
    LIVERIES,
    PAINTS,
    PLAIN,
    Builder,
    Colour,
    Mesh,
    Vector,
    add_lamps,
    add_plate,
    pick,
)

_CARS = {
    # base rear, base front, roof rear, roof front (shares of the length), belt, roof height
    "sedan": (-0.40, 0.25, -0.25, 0.06, 0.92, 1.45),
    "hatch": (-0.485, 0.24, -0.40, 0.05, 0.95, 1.50),
    "suv": (-0.49, 0.25, -0.43, 0.07, 1.08, 1.72),
    "van": (-0.49, 0.37, -0.47, 0.20, 1.12, 1.92),
    "pickup": (-0.08, 0.25, -0.05, 0.09, 1.05, 1.75),
}


def car(rng: np.random.Generator, length: float) -> Mesh:
    kind = str(rng.choice(list(_CARS), p=[0.34, 0.28, 0.22, 0.1, 0.06]))
    rear, front, roof_rear, roof_front, belt, top = _CARS[kind]
    paint = pick(rng, PAINTS)
    width = float(rng.uniform(1.74, 1.86)) + (0.08 if kind in ("suv", "van", "pickup") else 0)
    half = length / 2
    b = Builder()
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
    add_lamps(b, half + 0.01, width * 0.94, 0.56, 0.74, inside, 0, True)
    add_lamps(b, -half - 0.01, width * 0.94, 0.66, 0.88, inside, 0, False)
    add_plate(b, -half - 0.01, inside, 0, 0.46)
    add_plate(b, half + 0.01, inside, 0, 0.36)
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


def _glaze(b: Builder, cabin: list[tuple[float, float]], wide: list[float], inside: Vector) -> None:
    """Glass on the four slanted sides of a cabin: rear base, front base, front top, rear top."""

    def corner(i: int, side: float, up: float, ahead: float) -> Vector:
        (rx, rz), (fx, _), (tx, tz), (sx, _) = cabin
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


def truck(rng: np.random.Generator, length: float) -> Mesh:
    half, width = length / 2, float(rng.uniform(2.25, 2.45))
    paint, load = pick(rng, PAINTS), pick(rng, CARGO)
    cab_length, cab_top = 1.75, float(rng.uniform(2.3, 2.7))
    b = Builder()
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
    add_lamps(b, front + 0.01, width * 0.9, 0.68, 0.9, inside, 1, True)
    add_plate(b, front + 0.01, inside, 1, 0.55)
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
            stripe = pick(rng, LIVERIES)
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
    add_lamps(b, rear - 0.02, width * 0.95, 0.98, 1.2, inside, 1, False)
    add_plate(b, rear - 0.02, inside, 1, 1.0)
    return b.build()


def bus(rng: np.random.Generator, length: float) -> Mesh:
    half, width, top = length / 2, 2.5, float(rng.uniform(2.85, 3.15))
    paint = pick(rng, LIVERIES)
    lower = pick(rng, LIVERIES) if rng.random() < 0.4 else paint
    b = Builder()
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
    add_lamps(b, half + 0.01, width * 0.95, 0.6, 0.84, inside, 0, True)
    add_lamps(b, -half - 0.01, width * 0.95, 0.8, 1.2, inside, 0, False)
    add_plate(b, half + 0.01, inside, 0, 0.42)
    b.box(-half + 1.0, -half + 3.0, 1.6, top, top + 0.22, (205, 206, 206), 1)
    b.box(half - 3.2, half - 2.2, 1.2, top, top + 0.14, (180, 182, 184), 1)
    return b.build()
