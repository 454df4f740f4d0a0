"""Boxes round COCO segmentations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from its_platform.labels.masks import box_of


def runs_of(mask: np.ndarray) -> list[int]:
    """COCO's run lengths of a mask: down the columns, background first."""
    flat = mask.T.ravel().astype(int)
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    runs = np.diff(edges).tolist()
    return runs if not flat[0] else [0, *runs]


@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_the_box_round_runs_is_that_of_the_covered_pixels(height: int, width: int, random: object) -> None:
    mask = np.array([[random.random() < 0.2 for _ in range(width)] for _ in range(height)])  # type: ignore[attr-defined]
    mask[random.randrange(height), random.randrange(width)] = True  # type: ignore[attr-defined]
    down, across = np.nonzero(mask)
    wanted = (across.min(), down.min(), np.ptp(across) + 1, np.ptp(down) + 1)
    assert box_of({"segmentation": {"size": [height, width], "counts": runs_of(mask)}}) == wanted


def test_compressed_runs_are_read() -> None:
    # Rows 2 to 4 of columns 3 to 5, in a picture of 10 rows and 8 columns: 32 3 7 3 7 3 25, as COCO's API writes it.
    assert box_of({"segmentation": {"size": [10, 8], "counts": "P137000b0"}}) == (3, 2, 3, 3)


def test_polygons_are_framed_together_and_a_stated_box_goes_first() -> None:
    polygons = [[10, 20, 30, 20, 30, 50], [5, 25, 12, 60, 8, 40]]
    assert box_of({"segmentation": polygons}) == (5, 20, 25, 40)
    assert box_of({"segmentation": polygons, "bbox": [1, 2, 3, 4]}) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    "segmentation",
    [
        [],
        [[1, 2, 3]],
        {"size": [4, 4], "counts": [20, 5]},
        {"size": [4, 4], "counts": [16]},
        {"size": [4, 4], "counts": [3, -1]},
        {"size": [4, 4], "counts": "~~"},
        {"counts": [1]},
        None,
    ],
)
def test_what_is_no_segmentation_is_an_error(segmentation: object) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, IndexError)):
        box_of({"segmentation": segmentation})
