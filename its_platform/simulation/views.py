"""Cameras over the simulated roads: a pinhole looking at the ground, and the named and numbered views.

A view's name enters (`junction`, `boulevard`, `motorway`, `crossing`, or `camera-<number>` for any of a family of
others) and a frozen `View` leaves: layout, camera, look of its lens and sensor. Rendering is elsewhere.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from its_platform.errors import NotFound
from its_platform.simulation.roads import LAYOUTS, Layout

WIDTH, HEIGHT = 640, 360


@dataclass(frozen=True)
class Camera:
    """A pinhole: `position` in metres, rows of `rotation` are the right, down and forward axes, focal in pixels."""

    position: tuple[float, float, float]
    rotation: tuple[tuple[float, float, float], ...]
    focal_px: float

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points `[n,3]` in metres to pixels `[n,2]` and depth `[n]` in metres."""
        seen = (points - np.asarray(self.position)) @ np.asarray(self.rotation).T
        depth = seen[:, 2]
        safe = np.maximum(depth, 0.05)
        pixels = np.stack(
            [WIDTH / 2 + self.focal_px * seen[:, 0] / safe, HEIGHT / 2 + self.focal_px * seen[:, 1] / safe], 1
        )
        return pixels, depth

    def ground_homography(self) -> np.ndarray:
        """The 3x3 matrix from ground metres (x, y, 1) to pixels."""
        rotation = np.asarray(self.rotation)
        centre = np.asarray(self.position)
        inner = np.array([[self.focal_px, 0, WIDTH / 2], [0, self.focal_px, HEIGHT / 2], [0, 0, 1.0]])
        return inner @ np.column_stack([rotation[:, 0], rotation[:, 1], -rotation @ centre])


@dataclass(frozen=True)
class Look:
    """What lens and sensor add: gain, tint (RGB factors), blur in pixels, noise in grey levels, dirt 0..1."""

    gain: float = 1.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    blur_px: float = 0.5
    noise: float = 2.0
    dirt: float = 0.3
    sun_azimuth: float = 0.8


@dataclass(frozen=True)
class View:
    name: str
    number: int
    layout: Layout
    camera: Camera
    look: Look


def look_at(x: float, y: float, yaw_deg: float, pitch_deg: float, scale: float, focal_px: float) -> Camera:
    """A camera that looks at ground point (x, y) along `yaw_deg` from +y, `pitch_deg` under the horizon.

    `scale` is pixels a metre at that point, so that the distance is focal_px / scale metres.
    """
    yaw, pitch = math.radians(yaw_deg), math.radians(pitch_deg)
    forward = np.array([math.sin(yaw) * math.cos(pitch), math.cos(yaw) * math.cos(pitch), -math.sin(pitch)])
    right = np.array([math.cos(yaw), -math.sin(yaw), 0.0])
    down = np.cross(forward, right)
    position = np.array([x, y, 0.0]) - forward * (focal_px / scale)
    rotation = tuple(tuple(float(v) for v in axis) for axis in (right, down, forward))
    return Camera(tuple(float(v) for v in position), rotation, focal_px)  # type: ignore[arg-type]


_NAMED = {
    "junction": ((-1.0, -1.6, 24, 41, 32.0, 860.0), Look(dirt=0.35)),
    "boulevard": ((0.6, -0.5, -20, 40, 32.0, 880.0), Look(gain=1.04, tint=(1.02, 1.0, 0.97), dirt=0.25)),
    "motorway": ((0.0, 0.0, 12, 38, 29.0, 820.0), Look(gain=0.97, tint=(0.98, 1.0, 1.03), blur_px=0.6)),
    "crossing": ((-0.6, -1.2, 14, 40, 32.0, 800.0), Look(gain=1.0, dirt=0.4)),
}
_SPREAD = {"junction": (55, 4.0), "boulevard": (38, 2.0), "motorway": (28, 2.0), "crossing": (40, 2.5)}


def views() -> list[str]:
    """The names of the demo's cameras."""
    return list(_NAMED)


@lru_cache(maxsize=64)
def view_named(name: str) -> View:
    """The view `name`. Raises `NotFound` for one that there is not."""
    if name in _NAMED:
        pose, look = _NAMED[name]
        rng = np.random.default_rng([7, zlib.crc32(name.encode())])
        return View(name, zlib.crc32(name.encode()), LAYOUTS[name](rng), look_at(*pose), look)
    head, _, number = name.rpartition("-")
    if head == "camera" and number.isdecimal():
        return _numbered(int(number))
    raise NotFound(f"There is no simulated view {name!r}.", f"Take one of {', '.join(_NAMED)} or camera-<number>.")


def _numbered(number: int) -> View:
    rng = np.random.default_rng([9176, number])
    kind = list(LAYOUTS)[number % len(LAYOUTS)]
    yaw_reach, shift = _SPREAD[kind]
    camera = look_at(
        float(rng.uniform(-shift, shift)),
        float(rng.uniform(-shift, shift)),
        float(rng.uniform(-yaw_reach, yaw_reach)),
        float(rng.uniform(35, 48)),
        float(rng.uniform(27, 34) if kind == "motorway" else rng.uniform(30, 37)),
        float(rng.uniform(720, 1000)),
    )
    look = Look(
        gain=float(rng.uniform(0.85, 1.12)),
        tint=tuple(float(v) for v in rng.uniform(0.95, 1.05, 3)),  # type: ignore[arg-type]
        blur_px=float(rng.uniform(0.35, 0.9)),
        noise=float(rng.uniform(1.0, 4.0)),
        dirt=float(rng.uniform(0.0, 0.6)),
        sun_azimuth=float(rng.uniform(0, 6.28)),
    )
    return View(f"camera-{number}", 100_000 + number, LAYOUTS[kind](rng), camera, look)
