"""Pictures of the simulated traffic with their exact boxes.

View, seed, time and conditions enter; a `SimulatedFrame` leaves. Any moment can be asked for in any order and is
the same each time. Bodies are painted from far to near in daylight colours over the still scene, together with a
map of who covers each pixel, from which the boxes are read; then the picture is lit, veiled, and put through
lens and sensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from its_platform.simulation.ground import Sprite, scene_of
from its_platform.simulation.mesh import GLASS, HEAD, TAIL, Mesh
from its_platform.simulation.shapes import POSES, mesh_of
from its_platform.simulation.traffic import Traveller, travellers
from its_platform.simulation.views import HEIGHT, WIDTH, View, view_named
from its_platform.simulation.weather import Air, add_noise, add_rain, air_of, check_conditions

SMALLEST_PX = 24
VISIBLE_SHARE = 0.35
INSIDE_SHARE = 0.15
LINE_PX = 5  # how far a thick line, such as a tyre, may reach beyond its points


@dataclass(frozen=True)
class TruthBox:
    """A road user's visible box in pixels (x2, y2 exclusive), with its track and speed."""

    class_name: str
    x1: float
    y1: float
    x2: float
    y2: float
    track_id: int
    speed_mps: float


@dataclass(frozen=True)
class SimulatedFrame:
    """`image` is RGB uint8 `[360,640,3]`; `hidden` counts those in the picture who are seen too little for a box."""

    image: np.ndarray
    boxes: list[TruthBox]
    light: str
    weather: str
    hidden: int


@dataclass(frozen=True)
class _Body:
    traveller: Traveller
    mesh: Mesh
    pixels: np.ndarray
    order: np.ndarray
    shades: np.ndarray
    depth_m: float
    scale: float
    foot: np.ndarray


def render(view: str, seed: int, at_s: float, light: str = "day", weather: str = "clear") -> SimulatedFrame:
    """The frame that camera `view` takes of world `seed` at `at_s` seconds.

    Raises `NotFound` for an unknown view and `BadInput` for unknown conditions.
    """
    check_conditions(light, weather)
    return _render(view_named(view), seed, at_s, light, weather)


def truth(view: str, seed: int, at_s: float) -> list[TruthBox]:
    """The boxes of a frame without painting it; they do not depend on light or weather."""
    seen = view_named(view)
    bodies = _bodies(seen, seed, at_s)
    owners = _owners(bodies, scene_of(seen).sprites)
    return _boxes(bodies, owners)[0]


def _bodies(view: View, seed: int, at_s: float) -> list[_Body]:
    """Everybody who can be in the picture, farthest first."""
    found = []
    for traveller in travellers(view.layout, seed, view.number, at_s):
        body = _place(view, traveller)
        if body is not None:
            found.append(body)
    return sorted(found, key=lambda b: -b.depth_m)


def _place(view: View, traveller: Traveller) -> _Body | None:
    centre = np.array([traveller.x, traveller.y, 0.8])
    pixel, depth = view.camera.project(centre[None])
    reach = view.camera.focal_px / max(float(depth[0]), 1.0) * (traveller.length_m / 2 + 2.5)
    x, y = pixel[0]
    if depth[0] < 3 or not (-reach < x < WIDTH + reach and -reach < y < HEIGHT + reach):
        return None
    pose = 0
    if traveller.class_name in ("pedestrian", "bicycle"):
        stride = 0.19 if traveller.class_name == "pedestrian" else 0.55
        pose = int(traveller.gait / stride) % POSES
    mesh = mesh_of(traveller.class_name, traveller.variant, round(traveller.length_m, 2), pose)
    cosine, sine = math.cos(traveller.heading), math.sin(traveller.heading)
    turn = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1.0]])
    origin = np.array([traveller.x, traveller.y, 0.0])
    pixels, depths = view.camera.project(mesh.vertices @ turn + origin)
    if depths.min() < 1:
        return None
    eye = turn @ (np.asarray(view.camera.position) - origin)
    facing = ((eye - mesh.centres) * mesh.normals).sum(1)
    is_shown = (facing > 0) | (np.abs(mesh.normals).sum(1) == 0)
    distances = np.linalg.norm(eye - mesh.part_centres, axis=1)[mesh.part_of]
    order = np.lexsort((mesh.levels, mesh.part_of, -distances, mesh.tiers))
    azimuth = view.look.sun_azimuth
    sun = turn @ np.array([math.cos(azimuth) * 0.62, math.sin(azimuth) * 0.62, 0.78])
    shades = 0.56 + 0.5 * np.clip(mesh.normals @ sun, 0, 1) + 0.06 * mesh.normals[:, 2]
    foot = view.camera.project(mesh.footprint @ turn + origin)[0]
    near = float(view.camera.project(np.array([[traveller.x, traveller.y, 0.0]]))[1][0])
    return _Body(traveller, mesh, pixels, order[is_shown[order]], shades, near, view.camera.focal_px / near, foot)


def _fixed(points: np.ndarray) -> np.ndarray:
    return np.round(points * 16).astype(np.int32)


def _owners(bodies: list[_Body], sprites: tuple[Sprite, ...]) -> np.ndarray:
    """Which body (1 + its index) covers each pixel, `[H,W]` uint8; 0 is the still scene."""
    owners = np.zeros((HEIGHT, WIDTH), np.uint8)
    waiting = sorted(sprites, key=lambda s: -s.depth_m)
    for index, body in enumerate(bodies):
        while waiting and waiting[0].depth_m > body.depth_m:
            _hide(owners, waiting.pop(0))
        _cover(owners, body, index + 1, np.zeros(2))
    for sprite in waiting:
        _hide(owners, sprite)
    return owners


def _hide(owners: np.ndarray, sprite: Sprite) -> None:
    height, width = sprite.opacity.shape[:2]
    part = owners[sprite.y : sprite.y + height, sprite.x : sprite.x + width]
    part[sprite.opacity[..., 0] > 0.5] = 0


def _cover(owners: np.ndarray, body: _Body, value: int, shift: np.ndarray) -> None:
    corners = _fixed(body.pixels - shift)
    for face in body.order:
        if body.mesh.levels[face] >= 2:
            continue
        points = corners[list(body.mesh.faces[face])]
        width = body.mesh.widths[face]
        if width:
            cv2.polylines(owners, [points], len(points) > 2, value, max(1, round(width * body.scale)), shift=4)
        else:
            cv2.fillPoly(owners, [points], value, shift=4)


def _boxes(bodies: list[_Body], owners: np.ndarray) -> tuple[list[TruthBox], int]:
    """The boxes of those who can be seen well enough, and how many in the picture were left out."""
    boxes, left_out = [], 0
    for index, body in enumerate(bodies):
        low, high = (
            np.floor(body.pixels.min(0)).astype(int) - LINE_PX,
            np.ceil(body.pixels.max(0)).astype(int) + LINE_PX,
        )
        x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
        x1, y1 = min(int(high[0]), WIDTH), min(int(high[1]), HEIGHT)
        if x0 >= x1 or y0 >= y1:
            continue
        mine = owners[y0:y1, x0:x1] == index + 1
        visible = int(np.count_nonzero(mine))
        if not visible:
            continue
        alone = np.zeros((int(high[1] - low[1]), int(high[0] - low[0])), np.uint8)
        _cover(alone, body, 1, low.astype(float))
        inside = int(np.count_nonzero(alone[y0 - low[1] : y1 - low[1], x0 - low[0] : x1 - low[0]]))
        whole = max(int(np.count_nonzero(alone)), 1)
        columns, rows = np.flatnonzero(mine.any(0)), np.flatnonzero(mine.any(1))
        left, right = x0 + int(columns[0]), x0 + int(columns[-1]) + 1
        top, bottom = y0 + int(rows[0]), y0 + int(rows[-1]) + 1
        is_large = right - left >= SMALLEST_PX and bottom - top >= SMALLEST_PX
        if not is_large or visible < VISIBLE_SHARE * inside or inside < INSIDE_SHARE * whole:
            left_out += 1
            continue
        who = body.traveller
        boxes.append(TruthBox(who.class_name, left, top, right, bottom, who.track_id, round(who.speed_mps, 3)))
    return boxes, left_out


def _render(view: View, seed: int, at_s: float, light: str, weather: str) -> SimulatedFrame:
    scene, air = scene_of(view), air_of(view, light, weather)
    bodies = _bodies(view, seed, at_s)
    owners = _owners(bodies, scene.sprites)
    boxes, left_out = _boxes(bodies, owners)
    image = scene.image.copy()
    _shade_ground(image, bodies, view, air)
    waiting = sorted(scene.sprites, key=lambda s: -s.depth_m)
    for body in bodies:
        while waiting and waiting[0].depth_m > body.depth_m:
            _stamp(image, waiting.pop(0))
        _paint(image, body)
    for sprite in waiting:
        _stamp(image, sprite)
    moment = np.random.default_rng([seed & 0xFFFFFFFF, view.number, round(at_s * 1000) & 0xFFFFFFFF])
    lit = _light(image, bodies, owners, air, light, weather)
    if weather == "rain":
        lit = add_rain(lit, {"day": 1.0, "dusk": 0.5, "night": 0.2}[light], moment)
    lit = cv2.GaussianBlur(lit, (0, 0), air.blur_px)
    lit = cv2.multiply(lit, air.lens)
    lit = add_noise(lit, air.noise, moment)
    return SimulatedFrame(cv2.convertScaleAbs(np.maximum(lit, 0, out=lit)), boxes, light, weather, left_out)


def _shade_ground(image: np.ndarray, bodies: list[_Body], view: View, air: Air) -> None:
    """Shadows under and beside the bodies, in place."""
    mask = np.zeros((HEIGHT // 2, WIDTH // 2), np.uint8)
    if air.shadow > 0.1:
        azimuth = view.look.sun_azimuth
        for body in bodies:
            who = body.traveller
            cosine, sine = math.cos(who.heading), math.sin(who.heading)
            turn = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1.0]])
            world = body.mesh.vertices @ turn + (who.x, who.y, 0)
            thrown = world - world[:, 2:] * np.array([math.cos(azimuth) * 0.75, math.sin(azimuth) * 0.75, 1.0])
            hull = cv2.convexHull(view.camera.project(thrown)[0].astype(np.float32))[:, 0]
            cv2.fillConvexPoly(mask, _fixed(hull / 2), int(255 * air.shadow), shift=4)
    for body in bodies:
        if body.traveller.class_name != "pedestrian":
            cv2.fillConvexPoly(mask, _fixed(body.foot / 2), 150, shift=4)
    if not mask.any():
        return
    soft = cv2.resize(cv2.GaussianBlur(mask, (0, 0), 1.2), (WIDTH, HEIGHT))
    keep = cv2.merge([255 - soft] * 3)
    cv2.multiply(image, keep, dst=image, scale=1 / 255)


def _paint(image: np.ndarray, body: _Body) -> None:
    corners = _fixed(body.pixels)
    mesh = body.mesh
    for face in body.order:
        points = corners[list(mesh.faces[face])]
        material = mesh.materials[face]
        shade = body.shades[face] if material != GLASS else 0.75 + 0.45 * body.shades[face]
        colour = np.minimum(mesh.colours[face] * shade, 255).tolist()
        if mesh.widths[face]:
            width = max(1, round(mesh.widths[face] * body.scale))
            cv2.polylines(image, [points], len(points) > 2, colour, width, cv2.LINE_AA, shift=4)
        else:
            cv2.fillPoly(image, [points], colour, cv2.LINE_AA, shift=4)


def _stamp(image: np.ndarray, sprite: Sprite) -> None:
    height, width = sprite.opacity.shape[:2]
    part = image[sprite.y : sprite.y + height, sprite.x : sprite.x + width]
    part[:] = part * (1 - sprite.opacity) + sprite.image * sprite.opacity


def _light(
    image: np.ndarray, bodies: list[_Body], owners: np.ndarray, air: Air, light: str, weather: str
) -> np.ndarray:
    """The daylight picture under its light and through its air, float32."""
    lamps = None
    if air.lamps:
        beams, lamps = _lamps(bodies, owners, air, light)
        lit = cv2.multiply(image, air.ambient + beams, dtype=cv2.CV_32F)
    else:
        lit = cv2.multiply(image, air.ambient, dtype=cv2.CV_32F)
    if air.clearness is not None and air.veil is not None:
        lit = cv2.add(cv2.multiply(lit, air.clearness), air.veil)
    if air.glow is not None:
        lit = cv2.add(lit, air.glow)
    if lamps is not None:
        lit = cv2.add(lit, _bloom(lamps, air, weather))
    return lit


def _lamps(bodies: list[_Body], owners: np.ndarray, air: Air, light: str) -> tuple[np.ndarray, np.ndarray]:
    """What headlights throw on the road (factors, `[H,W,3]`) and the lamps that are seen (half size, uint8)."""
    throw: np.ndarray = np.zeros((HEIGHT // 4, WIDTH // 4), np.float32)
    seen = np.zeros((HEIGHT // 2, WIDTH // 2, 3), np.uint8)
    for index, body in enumerate(bodies):
        mesh, name = body.mesh, body.traveller.class_name
        if name == "pedestrian":
            continue
        rear, front = (body.foot[0] + body.foot[3]) / 2, (body.foot[1] + body.foot[2]) / 2
        ahead = (front - rear) / max(body.traveller.length_m, 1)
        side = (body.foot[2] - body.foot[1]) / 2
        power = 0.25 if name == "bicycle" else 0.55 if name == "motorcycle" else 0.8
        for reach, wide, share in ((7.0, 1.6, 0.35), (4.5, 1.25, 0.4), (2.2, 1.0, 0.45)):
            far = front + ahead * reach
            cone = np.array([front - side * 0.8, front + side * 0.8, far + side * wide, far - side * wide])
            layer = np.zeros_like(throw)
            cv2.fillConvexPoly(layer, _fixed(cone / 4), power * share * air.lamps, shift=4)
            throw = cv2.add(throw, layer)
        for face in body.order:
            material = mesh.materials[face]
            if material not in (HEAD, TAIL):
                continue
            middle = body.pixels[list(mesh.faces[face])].mean(0)
            x, y = int(middle[0]), int(middle[1])
            if not (0 <= x < WIDTH and 0 <= y < HEIGHT) or owners[y, x] != index + 1:
                continue
            size = (0.13 if material == HEAD else 0.11) * body.scale * (0.55 if name == "bicycle" else 1.0)
            bright = 1.0 if material == HEAD or body.traveller.is_braking else 0.55
            colour = (255, 246, 222) if material == HEAD else (255, 34, 26)
            cv2.circle(
                seen,
                (x * 8, y * 8),
                int(size * 8),
                [c * bright * min(1, air.lamps + 0.2) for c in colour],
                -1,
                cv2.LINE_AA,
                shift=4,
            )
    soft = cv2.resize(cv2.GaussianBlur(throw, (0, 0), 3.2), (WIDTH, HEIGHT))
    return cv2.merge([soft, soft * 0.95, soft * 0.84]), seen


def _bloom(lamps: np.ndarray, air: Air, weather: str) -> np.ndarray:
    """Lamps as the lens and the air spread them, `[H,W,3]` float32."""
    core = cv2.GaussianBlur(lamps, (0, 0), 1.0).astype(np.float32)
    wide = cv2.GaussianBlur(lamps.astype(np.float32), (0, 0), 14 if weather == "fog" else 6)
    glow = core + (2.6 if weather == "fog" else 1.5) * wide
    if air.wetness:
        streak = cv2.GaussianBlur(lamps.astype(np.float32), (0, 0), sigmaX=1.6, sigmaY=16)
        glow += 1.6 * np.roll(streak, 14, axis=0)
    return cv2.resize(glow * air.lamps, (WIDTH, HEIGHT))
