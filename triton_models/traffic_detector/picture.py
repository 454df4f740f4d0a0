"""The figures of a picture (brightness, contrast, sharpness, noise, exposure) and the light that they tell of.

This is the one implementation: Triton's front runs it on live pictures and the platform runs it on stored frames
(`its_platform.frames.quality` loads this very file), so that the two can be compared. It therefore imports numpy and
OpenCV alone, and runs on numpy 1.26 as well as on 2. Enters: an RGB picture. Leaves: a dict of floats. Thresholds on
these figures, except for the light, do not belong here.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

FIGURES = ("brightness", "contrast", "sharpness", "noise", "overexposed", "underexposed")

GREY_WIDTH = 320
OVEREXPOSED = 250
UNDEREXPOSED = 8
NOISE_TILE = 64
NOISE_GRID = (3, 4)
# Immerkaer, "Fast noise variance estimation" (1996): the mask removes edges and planes and leaves noise.
NOISE_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
# A filtered normal value of sigma 1 has sigma 6 (the mask's norm); its median absolute value is 0.6745 sigma.
NOISE_SCALE = 1.0 / (6.0 * 0.6745)

# Calibrated on four real roadside cameras and on the simulated world by day, at dusk and by night in three weathers.
NIGHT_BELOW = 0.21
NIGHT_SIGNS_BELOW = 0.34
NIGHT_NOISE = 5.5
NIGHT_UNDEREXPOSED = 0.05
DUSK_BELOW = 0.325
VEIL_CONTRAST = 0.07
VEIL_SHARPNESS = 5.0
VEILED_DUSK_BELOW = 0.48


def grey_of(rgb: np.ndarray) -> np.ndarray:
    """The luma of an RGB uint8 `[H, W, 3]` picture, shrunk to `GREY_WIDTH` columns; uint8 `[h, GREY_WIDTH]`."""
    height, width = rgb.shape[:2]
    step = max(1, width // (2 * GREY_WIDTH))
    if step > 1:
        # Averaging every pixel of a large picture costs more than the figures gain from it. OpenCV takes every
        # `step`th pixel six times as fast as a numpy slice does; of whole steps, so that it never slips between two.
        columns, rows = width // step, max(1, height // step)
        whole = rgb[: rows * step, : columns * step]
        rgb = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_NEAREST)
    size = (GREY_WIDTH, max(1, round(height * GREY_WIDTH / width)))
    return cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)


def noise_of(rgb: np.ndarray) -> float:
    """Sigma of the noise in grey levels, from tiles at full resolution.

    Each tile gives a robust estimate; the lower quartile over the tiles is taken, because texture only ever adds to
    one. Tiles that are clipped to black or white carry no noise and are left out unless there are no others.
    """
    height, width = rgb.shape[:2]
    tile_h, tile_w = min(NOISE_TILE, height), min(NOISE_TILE, width)
    if tile_h < 3 or tile_w < 3:
        return 0.0
    tops = np.linspace(0, height - tile_h, NOISE_GRID[0]).astype(int)
    lefts = np.linspace(0, width - tile_w, NOISE_GRID[1]).astype(int)
    # The green channel alone: it carries most of luma, and needs no conversion.
    tiles = np.stack([rgb[y : y + tile_h, x : x + tile_w, 1] for y in tops for x in lefts])
    # One call for all of them, one below the other; the rows where two meet are cut off with the other borders.
    filtered = cv2.filter2D(tiles.reshape(-1, tile_w), cv2.CV_16S, NOISE_MASK).reshape(tiles.shape)
    rest = np.abs(filtered[:, 1:-1, 1:-1]).reshape(len(tiles), -1)
    sigmas = _medians(rest) * NOISE_SCALE
    means = tiles.mean(axis=(1, 2))
    is_fit = (means > 6.0) & (means < 249.0)
    ordered = np.sort(sigmas[is_fit] if is_fit.any() else sigmas)
    # `np.percentile(ordered, 25)`, of which its checks are the greatest part.
    return float(np.interp((len(ordered) - 1) / 4, np.arange(len(ordered)), ordered))


def _medians(values: np.ndarray) -> np.ndarray:
    """The median of each row of small whole numbers: counting them is several times as fast as ordering them."""
    rows, length = values.shape
    upper = length // 2
    lower = upper - (length % 2 == 0)
    # Each row counts into a stretch of its own.
    stretch = int(values.max()) + 1
    apart = values + np.arange(rows)[:, None] * stretch
    below = np.bincount(apart.ravel(), minlength=rows * stretch).reshape(rows, stretch).cumsum(axis=1)
    return ((below <= lower).sum(axis=1) + (below <= upper).sum(axis=1)) / 2.0


def figures(rgb: np.ndarray) -> dict[str, float]:
    """The figures of an RGB uint8 `[H, W, 3]` picture.

    brightness: mean luma, 0 to 1. contrast: standard deviation of luma, 0 to 0.5.
    sharpness: log(1 + variance of the Laplacian) of the grey picture 320 wide; about 4 (blurred) to 8 (crisp).
    noise: sigma in grey levels at full resolution. overexposed, underexposed: shares of the picture, 0 to 1.
    """
    grey = grey_of(rgb)
    mean, deviation = cv2.meanStdDev(grey)
    laplacian = cv2.Laplacian(grey, cv2.CV_16S)
    _, edge = cv2.meanStdDev(laplacian)
    counts = cv2.calcHist([grey], [0], None, [256], [0, 256])
    return {
        "brightness": float(mean[0, 0]) / 255.0,
        "contrast": float(deviation[0, 0]) / 255.0,
        "sharpness": float(np.log1p(float(edge[0, 0]) ** 2)),
        "noise": noise_of(rgb),
        "overexposed": float(counts[OVEREXPOSED:].sum()) / grey.size,
        "underexposed": float(counts[:UNDEREXPOSED].sum()) / grey.size,
    }


def light_of(figures: dict[str, Any]) -> str:
    """`day`, `dusk` or `night`, from the figures of one picture.

    Lamps and a sensor's gain lift a night picture's mean up to that of a dull day; crushed blacks, or the noise that
    comes with gain, give it away. Fog lifts the mean too, and takes contrast and sharpness: a veiled picture has to
    be much brighter to count as day.
    """
    brightness = float(figures["brightness"])
    is_night_like = figures["noise"] > NIGHT_NOISE or figures["underexposed"] > NIGHT_UNDEREXPOSED
    if brightness < NIGHT_BELOW or (brightness < NIGHT_SIGNS_BELOW and is_night_like):
        return "night"
    is_veiled = figures["contrast"] < VEIL_CONTRAST and figures["sharpness"] < VEIL_SHARPNESS
    return "dusk" if brightness < (VEILED_DUSK_BELOW if is_veiled else DUSK_BELOW) else "day"
