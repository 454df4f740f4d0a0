"""What light, weather, lens and sensor do to a picture.

A view and its conditions enter; cached maps (how each place is lit, how clear the air is, the dirt) and the
functions that apply them leave. What stands on the road is drawn before, by `renderer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from its_platform.errors import BadInput
from its_platform.simulation.ground import lamp_heads, lamp_light, scene_of
from its_platform.simulation.views import HEIGHT, WIDTH, View

LIGHTS = ("day", "dusk", "night")
WEATHERS = ("clear", "rain", "fog")
# ambient RGB, share of street lamps, strength of vehicle lamps, noise added (grey levels), shadow depth
_LIGHT = {
    "day": ((1.2, 1.19, 1.16), 0.0, 0.0, 0.0, 0.5),
    "dusk": ((0.56, 0.50, 0.52), 0.22, 0.45, 2.0, 0.22),
    "night": ((0.095, 0.105, 0.15), 0.44, 1.0, 8.0, 0.0),
}
_FOG_COLOUR = {"day": (196, 200, 204), "dusk": (118, 110, 116), "night": (46, 45, 46)}
_LAMP_COLOUR = np.array([1.0, 0.82, 0.56], np.float32)


@dataclass(frozen=True)
class Air:
    """Cached maps of one view under one light and weather; all float32."""

    ambient: np.ndarray
    clearness: np.ndarray | None
    veil: np.ndarray | None
    lens: np.ndarray
    glow: np.ndarray | None
    lamps: float
    shadow: float
    noise: float
    blur_px: float
    wetness: float


def check_conditions(light: str, weather: str) -> None:
    """Raise `BadInput` for a light or a weather that there is not."""
    if light not in LIGHTS or weather not in WEATHERS:
        raise BadInput(
            f"No such conditions: {light} and {weather}.",
            f"Light is {', '.join(LIGHTS)}; weather {', '.join(WEATHERS)}.",
        )


@lru_cache(maxsize=8)
def air_of(view: View, light: str, weather: str) -> Air:
    """The maps for a view's conditions."""
    scene = scene_of(view)
    ambient, street, lamps, noise, shadow = _LIGHT[light]
    level = np.asarray(ambient, np.float32) * (1.0 if weather == "clear" else 0.86 if weather == "rain" else 0.94)
    pools = lamp_light(view, scene.ground)[..., None] * _LAMP_COLOUR * street
    lit = (level + pools) * np.asarray(view.look.tint, np.float32) * view.look.gain
    if weather == "rain":
        lit = lit * (1 - 0.2 * scene.asphalt[..., None]).astype(np.float32)
    clearness = veil = None
    if weather != "clear":
        density, strength = (0.034, 1.0) if weather == "fog" else (0.007, 0.9)
        clear = np.exp(-density * scene.distance)[..., None].astype(np.float32)
        colour = np.asarray(_FOG_COLOUR[light], np.float32) * strength
        scattered = colour * (1 + (1.1 * pools if light != "day" else 0))
        clearness, veil = np.repeat(clear, 3, axis=2), ((1 - clear) * scattered).astype(np.float32)
    glow = _street_glow(view, weather, street) if street else None
    return Air(
        np.ascontiguousarray(lit, np.float32),
        clearness,
        veil,
        _lens(view),
        glow,
        lamps,
        shadow * (1.0 if weather == "clear" else 0.35),
        view.look.noise + noise,
        view.look.blur_px + (0.25 if weather != "clear" else 0),
        1.0 if weather == "rain" else 0.0,
    )


def _street_glow(view: View, weather: str, street: float) -> np.ndarray:
    """Light of the street lamps themselves, added to the picture, `[H,W,3]`."""
    spots = np.zeros((HEIGHT, WIDTH), np.float32)
    for head in lamp_heads(view):
        pixels, depth = view.camera.project(np.array([head]))
        if depth[0] > 1:
            cv2.circle(spots, tuple(int(v) for v in pixels[0]), 6, 255.0, -1, cv2.LINE_AA)
    wide = 34 if weather == "fog" else 14
    glow = 1.4 * cv2.GaussianBlur(spots, (0, 0), 3) + (9 if weather == "fog" else 3) * cv2.GaussianBlur(
        spots, (0, 0), wide
    )
    return (glow[..., None] * _LAMP_COLOUR * min(street * 1.6, 1)).astype(np.float32)


def _lens(view: View) -> np.ndarray:
    """Vignette and dirt as factors `[H,W,3]`."""
    rng = np.random.default_rng([83, view.number])
    columns, rows = np.meshgrid(np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT))
    factor = (1 - 0.16 * (columns**2 + rows**2) / 2).astype(np.float32)
    dirt = np.zeros((HEIGHT, WIDTH), np.float32)
    for _ in range(int(26 * view.look.dirt)):
        centre = (int(rng.integers(WIDTH)), int(rng.integers(HEIGHT)))
        axes = (int(rng.integers(3, 22)), int(rng.integers(3, 16)))
        cv2.ellipse(dirt, centre, axes, float(rng.uniform(0, 180)), 0, 360, float(rng.uniform(0.08, 0.3)), -1)
    return np.repeat((factor * (1 - cv2.GaussianBlur(dirt, (0, 0), 4)))[..., None], 3, axis=2)


@lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    """Sensor noise of unit deviation, larger than a picture so that each frame takes another part of it."""
    rng = np.random.default_rng(2024)
    shape = (HEIGHT + 128, WIDTH + 128)
    grey = rng.standard_normal((*shape, 1)).astype(np.float32)
    colour = rng.standard_normal((*shape, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(colour, (0, 0), 0.8) * 2
    return 0.8 * grey + 0.6 * soft


def add_noise(image: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """`image` float32 with sensor noise of deviation `level` grey levels."""
    y, x = int(rng.integers(128)), int(rng.integers(128))
    return cv2.scaleAdd(np.ascontiguousarray(_grain()[y : y + HEIGHT, x : x + WIDTH]), level, image)


@lru_cache(maxsize=1)
def _streaks() -> np.ndarray:
    """Falling rain, `[H+360, W+640]` float32 in 0..1."""
    rng = np.random.default_rng(77)
    layer = np.zeros((HEIGHT + 360, WIDTH + 640), np.float32)
    for _ in range(1500):
        x, y = int(rng.integers(layer.shape[1])), int(rng.integers(layer.shape[0]))
        length = float(rng.uniform(8, 26))
        cv2.line(layer, (x, y), (int(x + length * 0.16), int(y + length)), float(rng.uniform(0.3, 1.0)), 1, cv2.LINE_AA)
    return cv2.GaussianBlur(layer, (0, 0), 0.6)


def add_rain(image: np.ndarray, brightness: float, rng: np.random.Generator) -> np.ndarray:
    """`image` float32 with streaks of rain as bright as the air is."""
    y, x = int(rng.integers(360)), int(rng.integers(640))
    drops = np.ascontiguousarray(_streaks()[y : y + HEIGHT, x : x + WIDTH])
    return cv2.scaleAdd(cv2.merge([drops, drops, drops]), 14 + 46 * brightness, image)
