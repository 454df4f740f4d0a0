"""The letterbox keeps Ultralytics' maths, and its inverse brings every box back."""

from __future__ import annotations

import numpy as np
import pytest

from its_platform.model.letterbox import PADDING_GREY, fit_of, letterbox, to_picture, to_square

SHAPES = [(540, 960), (960, 540), (320, 320), (101, 77), (33, 640), (1, 500), (17, 16)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [160, 320])
def test_the_square_is_the_one_that_ultralytics_makes(shape: tuple[int, int], size: int) -> None:
    from ultralytics.data.augment import LetterBox

    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    ours, _ = letterbox(picture, size)
    theirs = LetterBox(new_shape=(size, size))(image=picture)
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_rectangle_is_the_one_that_ultralytics_makes(shape: tuple[int, int]) -> None:
    from ultralytics.data.augment import LetterBox

    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    ours, _ = letterbox(picture, (192, 320))
    assert np.array_equal(ours, LetterBox(new_shape=(192, 320))(image=picture))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [320, (192, 320), (320, 192)])
def test_a_box_comes_back_to_where_it_was(shape: tuple[int, int], size: int | tuple[int, int]) -> None:
    height, width = shape
    fit = fit_of(height, width, size)
    boxes = np.array([[0, 0, width, height], [width / 4, height / 4, width / 2, height / 2]], np.float32)
    assert np.allclose(to_picture(to_square(boxes, fit), fit, height, width), boxes, atol=1e-3)


def test_boxes_in_the_border_are_clipped_to_the_picture() -> None:
    fit = fit_of(100, 200, 320)
    (x1, y1, x2, y2) = to_picture(np.array([[0, 0, 320, 320]]), fit, 100, 200)[0]
    assert (x1, y1, x2, y2) == (0, 0, 200, 100)


def test_the_border_is_grey_and_the_picture_is_centred() -> None:
    square, fit = letterbox(np.zeros((100, 200, 3), np.uint8), 320)
    assert (fit.left, fit.top, fit.width, fit.height) == (0, 80, 320, 160)
    assert (square[:80] == PADDING_GREY).all()
    assert (square[80:240] == 0).all()
    assert (square[240:] == PADDING_GREY).all()
