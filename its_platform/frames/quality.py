"""How good a picture is, and whether it says anything new after the last one that was kept.

Enters: a picture, and the picture kept before it. Leaves: figures, light, and how much has changed. The figures
themselves are computed by `triton_models/traffic_detector/picture.py`, which Triton's front runs too: it is loaded
from there, so that a stored frame and a live one are measured alike. What is done about a poor picture does not
belong here.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from its_platform.errors import BadInput
from its_platform.settings import REPOSITORY

PICTURE_MODULE = REPOSITORY / "triton_models" / "traffic_detector" / "picture.py"

SIGNATURE_WIDTH = 640
BLOCK = 8
# A block has changed when its mean grey level moved by more than compression does, and by more than noise can.
BLOCK_DIFFERENCE = 3.0
NOISE_SIGMAS = 5.0

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of one picture; see `picture.figures` for their units.

    difference: mean absolute change of grey level against the previous picture, None without one.
    changed_share: share of the picture's blocks that changed against it, 0 to 1, None without one.
    """

    brightness: float
    contrast: float
    sharpness: float
    noise: float
    overexposed: float
    underexposed: float
    light: str
    difference: float | None = None
    changed_share: float | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """What is kept of a picture to compare the next one with.

    grey: uint8 `[h, 640]`, or the picture's own width where that is less. noise: sigma in grey levels.
    """

    grey: Image
    noise: float


@cache
def _picture() -> ModuleType:
    spec = importlib.util.spec_from_file_location("its_platform_picture", PICTURE_MODULE)
    if spec is None or spec.loader is None or not PICTURE_MODULE.is_file():
        raise BadInput(f"The picture figures are missing: {PICTURE_MODULE}.", "Run from a complete checkout.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def figures(image: Image) -> dict[str, float]:
    """Brightness, contrast, sharpness, noise, overexposed and underexposed of an RGB uint8 `[H, W, 3]` picture."""
    return _picture().figures(image)


def light_of(figures: dict[str, Any]) -> str:
    """`day`, `dusk` or `night`, from the figures of one picture."""
    return _picture().light_of(figures)


def signature(image: Image, noise: float) -> Signature:
    """The signature of an RGB picture whose noise is known."""
    height, width = image.shape[:2]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # Halving and one bilinear step see every pixel, and cost a third of one area average over all of them.
    while grey.shape[1] >= 2 * SIGNATURE_WIDTH:
        half = (grey.shape[1] // 2, max(1, grey.shape[0] // 2))
        grey = cv2.resize(grey, half, interpolation=cv2.INTER_AREA)
    if grey.shape[1] > SIGNATURE_WIDTH:
        size = (SIGNATURE_WIDTH, max(1, round(height * SIGNATURE_WIDTH / width)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR)
    return Signature(np.asarray(grey, np.uint8), noise)


def compare(current: Signature, previous: Signature) -> tuple[float, float]:
    """Mean absolute difference in grey levels, and the share of 8x8 blocks that changed.

    Block by block, because a car in the distance moves the mean of the whole picture less than noise does. Pictures
    of different shapes have changed entirely.
    """
    if current.grey.shape != previous.grey.shape:
        return 255.0, 1.0
    change = cv2.subtract(current.grey, previous.grey, dtype=cv2.CV_32F)
    rows, columns = max(1, change.shape[0] // BLOCK), max(1, change.shape[1] // BLOCK)
    blocks = cv2.resize(change, (columns, rows), interpolation=cv2.INTER_AREA)
    sigma = float(np.hypot(current.noise, previous.noise))
    limit = BLOCK_DIFFERENCE + NOISE_SIGMAS * sigma / BLOCK
    difference = cv2.norm(current.grey, previous.grey, cv2.NORM_L1) / current.grey.size
    return float(difference), float((np.abs(blocks) > limit).mean())


def measure_with(image: Image, previous: Signature | None) -> tuple[Quality, Signature]:
    """The quality of a picture against the last kept one, and its own signature for the next."""
    numbers = figures(image)
    own = signature(image, numbers["noise"])
    difference, changed = compare(own, previous) if previous is not None else (None, None)
    return Quality(**numbers, light=light_of(numbers), difference=difference, changed_share=changed), own


def measure(image: Image, previous: Image | None = None) -> Quality:
    """The quality of an RGB uint8 `[H, W, 3]` picture, against the one before it where there is one."""
    before = None if previous is None else signature(previous, figures(previous)["noise"])
    return measure_with(image, before)[0]
