"""Boxes drawn on pictures for people to look at. Enters: a picture and detections. Leaves: a picture."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from its_platform.detections import Detections

GOLDEN_ANGLE = 0.381966
Image = npt.NDArray[np.uint8]


def draw_detections(image: Image, detections: Detections, classes: Sequence[str]) -> Image:
    """A copy of an RGB uint8 `[H, W, 3]` picture with a box, a class and a confidence for each detection."""
    import cv2

    drawn = np.ascontiguousarray(image).copy()
    scale = max(min(drawn.shape[:2]) / 720, 0.45)
    thickness = max(round(2 * scale), 1)
    # The best boxes last, so that they lie on top.
    for index in range(len(detections) - 1, -1, -1):
        class_id = int(detections.class_id[index])
        colour = class_colour(class_id)
        left, top, right, bottom = (round(float(value)) for value in detections.boxes[index])
        cv2.rectangle(drawn, (left, top), (right, bottom), colour, thickness)
        name = classes[class_id] if class_id < len(classes) else str(class_id)
        text = f"{name} {float(detections.confidence[index]):.2f}"
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.6 * scale, 1)
        above = top - height - 5 if top - height - 5 >= 0 else top
        left = min(left, max(drawn.shape[1] - width - 4, 0))
        cv2.rectangle(drawn, (left, above), (left + width + 4, above + height + 5), colour, -1)
        ink = (0, 0, 0) if _luma(colour) > 140 else (255, 255, 255)
        place = (left + 2, above + height + 1)
        cv2.putText(drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6 * scale, ink, 1, cv2.LINE_AA)
    return drawn


def class_colour(class_id: int) -> tuple[int, int, int]:
    """An RGB colour for a class: the same always, and far from those of its neighbours."""
    red, green, blue = colorsys.hsv_to_rgb((0.33 + class_id * GOLDEN_ANGLE) % 1.0, 0.85, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _luma(colour: tuple[int, int, int]) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
