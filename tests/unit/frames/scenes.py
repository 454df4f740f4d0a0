"""The scene that small footage shows."""

from __future__ import annotations

import cv2
import numpy as np


def scene(number: int, width: int = 160, height: int = 96, seed: int = 0) -> np.ndarray:
    """A textured still background with a bright square that moves 6 px a step; RGB uint8."""
    rng = np.random.default_rng(seed)
    background = cv2.resize(rng.integers(70, 150, (12, 20, 3), np.uint8), (width, height))
    x = (number * 6) % (width - 24)
    background[30:54, x : x + 24] = (250, 240, 60)
    return background
