"""Boxes round COCO segmentations: polygons, and run lengths as numbers or in COCO's compressed text.

Pure: one annotation as JSON has it enters, x, y, width and height in its picture's pixels leave. Masks themselves are
not kept: detectors here are taught boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

Bounds = tuple[float, float, float, float]


def box_of(annotation: Mapping[str, Any]) -> Bounds:
    """The annotation's `bbox`, else the box round its `segmentation`.

    Raises `KeyError`, `TypeError`, `ValueError` or `IndexError` where there is neither in a form that COCO knows.
    """
    if annotation.get("bbox"):
        x, y, width, height = (float(value) for value in annotation["bbox"])
        return x, y, width, height
    outline = annotation["segmentation"]
    return _round_runs(outline) if isinstance(outline, Mapping) else _round_polygons(outline)


def _round_polygons(polygons: Sequence[Any]) -> Bounds:
    rings = polygons if isinstance(polygons[0], Sequence) else [polygons]
    across = [float(value) for ring in rings for value in ring[0::2]]
    down = [float(value) for ring in rings for value in ring[1::2]]
    if len(across) < 3 or len(across) != len(down):
        raise ValueError("a polygon has three points or more")
    return min(across), min(down), max(across) - min(across), max(down) - min(down)


def _round_runs(mask: Mapping[str, Any]) -> Bounds:
    """Runs go down the columns, background first."""
    height, width = (int(side) for side in mask["size"])
    counts = mask["counts"]
    runs = _decompressed(counts) if isinstance(counts, str) else [int(run) for run in counts]
    ends = list(accumulate(runs))
    if not ends or min(runs) < 0 or ends[-1] > height * width:
        raise ValueError("the runs do not fill the picture")
    covered = [(ends[place - 1], ends[place] - 1) for place in range(1, len(runs), 2) if runs[place]]
    if not covered:
        raise ValueError("the mask is empty")
    left, right = covered[0][0] // height, covered[-1][1] // height
    # A run that goes on in the next column covers the bottom of one and the top of the other.
    is_tall = [first // height != last // height for first, last in covered]
    top = min(0 if tall else first % height for (first, _), tall in zip(covered, is_tall, strict=True))
    bottom = max(height - 1 if tall else last % height for (_, last), tall in zip(covered, is_tall, strict=True))
    return float(left), float(top), float(right - left + 1), float(bottom - top + 1)


def _decompressed(text: str) -> list[int]:
    """COCO's text of run lengths: six bits a character, five of them value; from the third on, differences."""
    runs: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            six = ord(text[place]) - 48
            if not 0 <= six < 64:
                raise ValueError("no run lengths")
            value |= (six & 0x1F) << shift
            more, place, shift = bool(six & 0x20), place + 1, shift + 5
            if not more and six & 0x10:
                value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
