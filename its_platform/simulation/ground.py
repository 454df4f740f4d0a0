"""The still part of a view: textured ground, buildings, and the standing things that traffic passes behind.

A `View` enters; its daylight picture, the ground point behind each pixel, and sprites of lamp posts, trees and
signals leave. Nothing here moves or depends on the hour or the weather.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from its_platform.simulation.roads import Prop
from its_platform.simulation.views import HEIGHT, WIDTH, View

PIXELS_A_METRE, REACH_M = 26, 32.0
_COLOURS = {
    "asphalt": (92, 93, 96),
    "pavement": (150, 146, 140),
    "paving": (138, 132, 124),
    "grass": (88, 112, 62),
    "kerb": (176, 174, 168),
    "line": (222, 222, 214),
    "zebra": (224, 224, 218),
    "cycleway": (128, 84, 74),
    "median": (82, 106, 58),
}
_GRAIN = {
    "asphalt": 9,
    "pavement": 8,
    "paving": 9,
    "grass": 16,
    "kerb": 6,
    "line": 9,
    "zebra": 10,
    "cycleway": 8,
    "median": 18,
}


@dataclass(frozen=True)
class Sprite:
    """A standing thing as seen: RGB and opacity 0..1 in the box (x, y) .. of the picture; depth of its foot."""

    x: int
    y: int
    image: np.ndarray
    opacity: np.ndarray
    depth_m: float


@dataclass(frozen=True)
class Scene:
    """The still picture `[H,W,3]` uint8, ground metres of each pixel `[H,W,2]`, distance `[H,W]`, sprites."""

    image: np.ndarray
    ground: np.ndarray
    distance: np.ndarray
    sprites: tuple[Sprite, ...]
    asphalt: np.ndarray


def _noise(rng: np.random.Generator, size: int, cell: int) -> np.ndarray:
    """Smooth noise of unit deviation, `size` square, `cell` pixels a lump."""
    small = rng.standard_normal((size // cell + 3, size // cell + 3)).astype(np.float32)
    large = cv2.resize(small, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)[:size, :size]
    return large / max(float(large.std()), 1e-6)


def _map_points(points: tuple[tuple[float, float], ...]) -> np.ndarray:
    array = np.asarray(points, float)
    array = np.stack([(array[:, 0] + REACH_M) * PIXELS_A_METRE, (REACH_M - array[:, 1]) * PIXELS_A_METRE], 1)
    return np.round(np.clip(array, -30000, 30000) * 16).astype(np.int32)


def _ground_map(view: View, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The ground from above `[N,N,3]` uint8 and a mask of its asphalt."""
    size = int(2 * REACH_M * PIXELS_A_METRE)
    order = ["", *dict.fromkeys([view.layout.base, *(p.surface for p in view.layout.patches)])]
    kinds = np.full((size, size), order.index(view.layout.base), np.uint8)
    coloured = np.empty((size, size, 3), np.float32)
    coloured[:] = _COLOURS[view.layout.base]
    smooth = np.clip(coloured, 0, 255).astype(np.uint8)
    for patch in view.layout.patches:
        points = _map_points(patch.points)
        cv2.fillPoly(kinds, [points], order.index(patch.surface), shift=4)
        base = np.asarray(_COLOURS[patch.surface], float) * (
            rng.uniform(0.93, 1.04) if patch.surface in ("asphalt", "pavement") else 1
        )
        cv2.fillPoly(smooth, [points], base.tolist(), cv2.LINE_AA, shift=4)
    fine = rng.standard_normal((size, size)).astype(np.float32)
    middle, broad = _noise(rng, size, 8), _noise(rng, size, 90)
    grain = np.zeros(len(order), np.float32)
    for name in order[1:]:
        grain[order.index(name)] = _GRAIN[name]
    amount = grain[kinds]
    texture = amount * (0.55 * fine + 0.4 * middle + 0.75 * broad)
    tiles = np.isin(kinds, [order.index(s) for s in ("pavement", "paving") if s in order])
    rows = np.arange(size)
    joint = ((rows % (PIXELS_A_METRE)) < 2).astype(np.float32)
    texture -= tiles * 14 * np.maximum(joint[:, None], joint[None, :])
    asphalt = np.isin(kinds, [order.index(s) for s in ("asphalt", "cycleway", "line", "zebra") if s in order])
    _wear(texture, asphalt, view, rng)
    return np.clip(smooth + texture[..., None], 0, 255).astype(np.uint8), asphalt.astype(np.uint8)


def _wear(texture: np.ndarray, asphalt: np.ndarray, view: View, rng: np.random.Generator) -> None:
    """Tyre tracks, patches, cracks and manholes, drawn into the texture in grey levels."""
    marks: np.ndarray = np.zeros(texture.shape, np.float32)
    for lane in view.layout.lanes:
        if lane.is_walk:
            continue
        path = np.asarray(lane.points, float)
        along = (path[-1] - path[0]) / np.hypot(*(path[-1] - path[0]))
        for side in (-0.75, 0.75):
            shifted = path + np.array([-along[1], along[0]]) * side
            cv2.polylines(
                marks, [_map_points(tuple(map(tuple, shifted)))], False, -9.0, int(0.45 * PIXELS_A_METRE), shift=4
            )
    marks = cv2.GaussianBlur(marks, (0, 0), 5)
    for _ in range(14):
        x, y = rng.uniform(-REACH_M, REACH_M, 2)
        length, width = rng.uniform(1, 5), rng.uniform(0.6, 1.8)
        corner = ((x, y), (x + width, y), (x + width, y + length), (x, y + length))
        cv2.fillPoly(marks, [_map_points(corner)], float(rng.uniform(-16, 10)), shift=4)
    for _ in range(40):
        points = np.cumsum(rng.normal(0, 0.4, (12, 2)), 0) + rng.uniform(-REACH_M, REACH_M, 2)
        cv2.polylines(marks, [_map_points(tuple(map(tuple, points)))], False, -22.0, 1, shift=4)
    for _ in range(16):
        x, y = rng.uniform(-REACH_M, REACH_M, 2)
        centre = _map_points(((x, y),))[0]
        cv2.circle(marks, tuple(int(v) for v in centre), int(0.33 * PIXELS_A_METRE * 16), -26.0, -1, shift=4)
    texture += marks * asphalt


def _paint(image: np.ndarray, points: np.ndarray, colour: tuple[float, ...] | np.ndarray) -> None:
    cv2.fillPoly(image, [np.round(points * 16).astype(np.int32)], [float(c) for c in colour], cv2.LINE_AA, shift=4)


def _box_faces(x: float, y: float, wide: float, deep: float, high: float) -> list[tuple[np.ndarray, float]]:
    corners = np.array([[x - wide, y - deep], [x + wide, y - deep], [x + wide, y + deep], [x - wide, y + deep]])
    faces = []
    for i in range(4):
        a, b = corners[i], corners[(i + 1) % 4]
        shade = (0.95, 0.75, 0.6, 0.85)[i]
        faces.append((np.array([[*a, 0], [*b, 0], [*b, high], [*a, high]]), shade))
    faces.append((np.array([[*c, high] for c in corners]), 1.1))
    return faces


def _draw_building(view: View, image: np.ndarray, mask: np.ndarray, prop: Prop) -> None:
    rng = np.random.default_rng(prop.seed)
    colour = np.array([(158, 130, 110), (170, 166, 158), (140, 96, 80), (122, 128, 136)][int(rng.integers(4))], float)
    camera = np.asarray(view.camera.position)
    faces = _box_faces(prop.x, prop.y, prop.size * 0.55, 3.5, prop.size)
    faces.sort(key=lambda f: -float(np.hypot(*(f[0].mean(0)[:2] - camera[:2]))))
    for corners, shade in faces:
        pixels, depth = view.camera.project(corners)
        if depth.min() < 1:
            continue
        _paint(image, pixels, np.clip(colour * shade, 0, 255))
        _paint(mask, pixels, (255,))
        if corners[0, 2] == corners[2, 2]:
            continue
        for u in np.arange(0.08, 0.9, 0.2):
            for v in np.arange(0.12, 0.9, 0.25):
                a, b = corners[0], corners[1]
                up = np.array([0, 0, prop.size])
                quad = np.array(
                    [a + (b - a) * s + up * t for s, t in ((u, v), (u + 0.12, v), (u + 0.12, v + 0.14), (u, v + 0.14))]
                )
                _paint(image, view.camera.project(quad)[0], colour * shade * 0.42)


def _draw_prop(view: View, image: np.ndarray, mask: np.ndarray, prop: Prop) -> None:
    """One standing thing into a picture and the opacity `mask` (uint8) of what it covers."""
    if prop.kind == "building":
        _draw_building(view, image, mask, prop)
        return
    rng = np.random.default_rng(prop.seed)

    def at(dx: float, dy: float, z: float) -> tuple[np.ndarray, float]:
        pixels, depth = view.camera.project(np.array([[prop.x + dx, prop.y + dy, z]]))
        return pixels[0], view.camera.focal_px / max(float(depth[0]), 1.0)

    def post(low: float, high: float, width: float, colour: tuple[int, int, int]) -> None:
        (a, scale), (b, _) = at(0, 0, low), at(0, 0, high)
        w = max(width * scale / 2, 0.8)
        column = np.array([a, a, b, b]) + np.array([(-w, 0), (w, 0), (w * 0.7, 0), (-w * 0.7, 0)])
        _paint(image, column, colour)
        _paint(mask, column, (255,))

    if prop.kind == "tree":
        post(0, prop.size * 0.5, 0.28, (84, 66, 50))
        spread = prop.size * 0.33
        green = np.array([(62, 92, 44), (78, 104, 50), (52, 82, 52)][int(rng.integers(3))], float)
        blobs = sorted(
            ((rng.normal(0, spread * 0.5, 3), rng.uniform(0.7, 1.2)) for _ in range(46)), key=lambda b: b[0][2]
        )
        for offset, light in blobs:
            centre, scale = at(offset[0], offset[1], prop.size * 0.66 + offset[2])
            radius = float(rng.uniform(0.16, 0.34)) * spread * scale
            shade = np.clip(green * (light + 0.25 * offset[2] / spread), 0, 255)
            middle = tuple(int(v * 16) for v in centre)
            cv2.circle(image, middle, int(radius * 16), [float(c) for c in shade], -1, cv2.LINE_AA, shift=4)
            cv2.circle(mask, middle, int(radius * 16), 255, -1, cv2.LINE_AA, shift=4)
    elif prop.kind == "lamp":
        post(0, prop.size, 0.16, (92, 96, 98))
        (centre, scale) = at(0, 0, prop.size)
        middle = tuple(int(v) for v in centre)
        cv2.ellipse(image, middle, (int(0.4 * scale), int(0.16 * scale)), 0, 0, 360, (196, 198, 190), -1, cv2.LINE_AA)
        cv2.ellipse(mask, middle, (int(0.4 * scale), int(0.16 * scale)), 0, 0, 360, 255, -1, cv2.LINE_AA)
    elif prop.kind in ("signal", "sign"):
        post(0, prop.size, 0.11, (80, 82, 84))
        (centre, scale) = at(0, 0, prop.size)
        w, h = (0.18 * scale, 0.45 * scale) if prop.kind == "signal" else (0.32 * scale, 0.32 * scale)
        box = centre + np.array([(-w, -h), (w, -h), (w, h), (-w, h)])
        _paint(image, box, (34, 36, 36) if prop.kind == "signal" else (42, 88, 170))
        _paint(mask, box, (255,))


@lru_cache(maxsize=8)
def scene_of(view: View) -> Scene:
    """The still part of a view (about a quarter of a second the first time)."""
    rng = np.random.default_rng([51, view.number])
    homography = view.camera.ground_homography()
    from_map = np.array([[1 / PIXELS_A_METRE, 0, -REACH_M], [0, -1 / PIXELS_A_METRE, REACH_M], [0, 0, 1.0]])
    above, asphalt_map = _ground_map(view, rng)
    warp = homography @ from_map
    image = cv2.warpPerspective(above, warp, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    asphalt = cv2.warpPerspective(asphalt_map, warp, (WIDTH, HEIGHT), flags=cv2.INTER_NEAREST)
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rays = np.linalg.inv(homography) @ np.stack([columns.ravel(), rows.ravel(), np.ones(WIDTH * HEIGHT)])
    ground = (rays[:2] / rays[2]).T.reshape(HEIGHT, WIDTH, 2).astype(np.float32)
    offset = ground - np.asarray(view.camera.position[:2], np.float32)
    distance = np.sqrt((offset**2).sum(2) + view.camera.position[2] ** 2)
    sprites = []
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for prop in sorted(view.layout.props, key=lambda p: -_foot_depth(view, p)):
        if prop.kind == "building":
            _draw_prop(view, image, mask, prop)
        else:
            sprite = _sprite(view, prop)
            sprites += [sprite] if sprite else []
    return Scene(image, ground, distance, tuple(sprites), asphalt)


def _foot_depth(view: View, prop: Prop) -> float:
    return float(view.camera.project(np.array([[prop.x, prop.y, 0.0]]))[1][0])


def _sprite(view: View, prop: Prop) -> Sprite | None:
    depth = _foot_depth(view, prop)
    if depth < 2:
        return None
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    _draw_prop(view, image, mask, prop)
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return None
    y0, y1, x0, x1 = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    opacity = mask[y0:y1, x0:x1].astype(np.float32) / 255
    colour = image[y0:y1, x0:x1].astype(np.float32) / np.maximum(opacity[..., None], 0.05)
    return Sprite(int(x0), int(y0), np.clip(colour, 0, 255), opacity[..., None], depth)


def lamp_heads(view: View) -> list[tuple[float, float, float]]:
    """Where the street lamps hang, metres."""
    return [(p.x, p.y, p.size) for p in view.layout.props if p.kind == "lamp"]


def lamp_light(view: View, ground: np.ndarray) -> np.ndarray:
    """How strongly street lamps light each pixel's ground, `[H,W]` float32, about 1 under a lamp."""
    light = np.zeros(ground.shape[:2], np.float32)
    for x, y, height in lamp_heads(view):
        square = ((ground - np.array([x, y], np.float32)) ** 2).sum(2)
        light += height**3 / np.power(square + height**2, 1.5) * min(1.0, 8.0 / height + 0.1)
    return np.minimum(light, 1.6)


__all__ = ["Scene", "Sprite", "lamp_heads", "lamp_light", "scene_of"]
