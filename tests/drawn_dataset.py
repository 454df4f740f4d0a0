"""A dataset of drawn streets in YOLO's form, small enough to be trained on in a test."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

CLASSES = ("car", "bus")


def write_dataset(folder: Path) -> Path:
    """Bright rectangles on a dark street, in YOLO's form: wide ones are buses."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for number in range(count):
            picture = np.full((90, 160, 3), 40, np.uint8)
            lines = []
            for kind in (0, 1):
                width, height = (40, 16) if kind else (16, 16)
                left, top = random.integers(0, 160 - width), random.integers(0, 90 - height)
                picture[top : top + height, left : left + width] = (220, 200, 90 + 100 * kind)
                centre = (left + width / 2) / 160, (top + height / 2) / 90
                lines.append(f"{kind} {centre[0]} {centre[1]} {width / 160} {height / 90}")
            image, labels = folder / "images" / split, folder / "labels" / split
            image.mkdir(parents=True, exist_ok=True)
            labels.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(image / f"{number}.jpg"), picture)
            (labels / f"{number}.txt").write_text("\n".join(lines) + "\n")
    names = "\n".join(f"  {number}: {name}" for number, name in enumerate(CLASSES))
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames:\n{names}\n")
    return folder
