"""JPEG in and out."""

from __future__ import annotations

import numpy as np
import pytest

from its_platform.errors import BadInput
from its_platform.frames.images import content_hash, decode, encode


def test_colours_survive_the_way_through_jpeg() -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 220
    back = decode(encode(red, 92))
    assert abs(int(back[16, 16, 0]) - 220) < 4
    assert back[16, 16, 2] < 6


def test_the_same_picture_has_the_same_name() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    assert content_hash(encode(image, 92)) == content_hash(encode(image.copy(), 92))
    assert len(content_hash(b"")) == 64


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_a_cut_jpeg_is_refused(share: float) -> None:
    whole = encode(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8), 92)
    with pytest.raises(BadInput):
        decode(whole[: int(len(whole) * share)])


@pytest.mark.parametrize("shape", [(8, 200), (200, 8), (70000, 16)])
def test_a_shape_that_cannot_be_a_frame_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(BadInput):
        encode(np.zeros((*shape, 3), np.uint8), 92)
