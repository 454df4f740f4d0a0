"""What people look like, on foot and on two wheels: a generator and a pose in, a mesh out."""

from __future__ import annotations

import math

import numpy as np

from its_platform.simulation.mesh import (
    CARGO,
    CLOTHES,
    HEAD,
    PAINTS,
    PLAIN,
    SKINS,
    TAIL,
    TYRE,
    Builder,
    Colour,
    Mesh,
    Vector,
    pick,
)


def _ring(x: float, radius: float) -> list[Vector]:
    return [(x + radius * math.cos(t), 0.0, radius + radius * math.sin(t)) for t in np.arange(14) * (2 * math.pi / 14)]


def _rider(b: Builder, rng: np.random.Generator, seat: float, lean: float, has_helmet: bool, swing: float) -> None:
    shirt, trousers, skin = pick(rng, CLOTHES), pick(rng, CLOTHES), pick(rng, SKINS)
    head: Colour = pick(rng, PAINTS) if has_helmet else (52, 40, 32)
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


def motorcycle(rng: np.random.Generator) -> Mesh:
    paint = pick(rng, PAINTS)
    b = Builder()
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


def bicycle(rng: np.random.Generator, pose: int) -> Mesh:
    paint = pick(rng, PAINTS)
    swing = math.sin(pose * math.pi / 4)
    b = Builder()
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
        b.box(-0.75, -0.4, 0.42, 0.68, 0.98, pick(rng, CARGO), 0.45)
    inside = (0.3, 0.0, 0.85)
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
        (-0.3, 0.0, 0.7),
        0.65,
        2,
        TAIL,
    )
    _rider(b, rng, 0.95, 0.2, rng.random() < 0.5, swing)
    return b.build()


def pedestrian(rng: np.random.Generator, pose: int) -> Mesh:
    tall = float(rng.uniform(1.62, 1.92))
    coat, trousers, skin = pick(rng, CLOTHES), pick(rng, CLOTHES), pick(rng, SKINS)
    hair: Colour = ((40, 30, 24), (88, 62, 40), (170, 140, 90), (150, 150, 150))[int(rng.integers(4))]
    swing = math.sin(pose * math.pi / 4)
    wide = float(rng.uniform(0.27, 0.33))
    hip, shoulder = tall * 0.5, tall * 0.82
    is_skirt = rng.random() < 0.25
    b = Builder()
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
        b.box(-0.36, -0.13, 0.36, hip + 0.12, shoulder - 0.02, pick(rng, CLOTHES), 1.1)
    elif extra < 0.5:
        b.box(-0.16, 0.16, 0.14, hip - 0.3, hip + 0.08, pick(rng, CLOTHES), 1.3, middle=wide + 0.22)
    b.limb((0.03, 0, shoulder), (0.03, 0, shoulder + 0.1), (0.07, 0.07), (0.07, 0.07), skin, 2, 6)
    b.limb((0.04, 0, shoulder + 0.07), (0.03, 0, tall - 0.06), (0.11, 0.1), (0.12, 0.115), skin, 3, 8, cap=hair)
    b.limb((0.0, 0, tall - 0.12), (0.0, 0, tall), (0.14, 0.125), (0.08, 0.08), hair, 4, 8, cap=hair)
    return b.build()
