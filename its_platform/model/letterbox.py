"""A picture fitted into what the detector takes, mostly a square, and the boxes brought back.

The same maths as Ultralytics' own pre-processing (as large as fits, bilinear, grey 114, centred), because the
detector was trained on it. The Triton front carries a copy; `tests/unit/model/test_letterbox.py` holds the rule that
any copy has to keep. Pure functions of numpy and OpenCV; nothing else belongs here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

PADDING_GREY = 114


class Fit(NamedTuple):
    """How a picture was placed: picture pixels times `scale`, plus `left` and `top`, are pixels of the fitted one.

    `width` and `height` are those of the scaled picture.
    """

    scale: float
    left: int
    top: int
    width: int
    height: int


def shape_of(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of what a detector takes, of which a square is given by its side alone."""
    return (size, size) if isinstance(size, int) else size


def fit_of(height: int, width: int, size: int | tuple[int, int]) -> Fit:
    """Where a picture of `height` x `width` pixels lands in a square of side `size`, or in one of height and width."""
    full_height, full_width = shape_of(size)
    scale = min(full_height / height, full_width / width)
    scaled_width, scaled_height = max(round(width * scale), 1), max(round(height * scale), 1)
    # Ultralytics rounds the half pixel of an odd border towards the left and top (round(d / 2 - 0.1)).
    left = round((full_width - scaled_width) / 2 - 0.1)
    top = round((full_height - scaled_height) / 2 - 0.1)
    return Fit(scale, left, top, scaled_width, scaled_height)


def letterbox(image: npt.NDArray[np.uint8], size: int | tuple[int, int]) -> tuple[npt.NDArray[np.uint8], Fit]:
    """Fit an RGB picture uint8 `[H, W, 3]` into uint8 `[*shape_of(size), 3]`; returns it with its `Fit`."""
    import cv2

    height, width = image.shape[:2]
    fit = fit_of(height, width, size)
    if (height, width) != (fit.height, fit.width):
        image = cv2.resize(image, (fit.width, fit.height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
    if (fit.height, fit.width) == shape_of(size):
        return np.ascontiguousarray(image), fit
    square = np.full((*shape_of(size), 3), PADDING_GREY, np.uint8)
    square[fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = image
    return square, fit


def to_square(boxes: npt.NDArray[Any], fit: Fit) -> npt.NDArray[np.float32]:
    """Boxes `[n, 4]` xyxy in picture pixels, as pixels of the square."""
    return np.asarray(boxes, np.float32).reshape(-1, 4) * np.float32(fit.scale) + _offset(fit)


def to_picture(boxes: npt.NDArray[Any], fit: Fit, height: int, width: int) -> npt.NDArray[np.float32]:
    """Boxes `[n, 4]` xyxy in pixels of the square, as pixels of the picture, clipped to it."""
    restored = (np.asarray(boxes, np.float32).reshape(-1, 4) - _offset(fit)) / np.float32(fit.scale)
    return np.clip(restored, 0, np.array([width, height, width, height], np.float32))


def _offset(fit: Fit) -> npt.NDArray[np.float32]:
    return np.array([fit.left, fit.top, fit.left, fit.top], np.float32)
