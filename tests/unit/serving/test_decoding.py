"""JPEGs in a request become pictures, and a broken one is one clear line."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from its_platform.frames.images import decode, encode

Front = Callable[[str], ModuleType]
PICTURE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
JPEG = encode(PICTURE, 92)


def test_a_jpeg_becomes_the_picture_that_the_platform_stores(front: Front) -> None:
    picture = front("decoding").decoded(JPEG)
    assert np.array_equal(picture, decode(JPEG, "frame"))


def test_grey_jpegs_have_three_channels(front: Front) -> None:
    cv2 = pytest.importorskip("cv2")
    grey = cv2.imencode(".jpg", PICTURE[:, :, 0])[1].tobytes()
    picture = front("decoding").decoded(grey)
    assert picture.shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"", "no JPEG"),
        (b"GIF89a" * 20, "no JPEG"),
        (JPEG[: len(JPEG) // 2], "cut off"),
        (b"\xff\xd8" + bytes(200) + b"\xff\xd9", "cut off"),
    ],
)
def test_what_is_no_whole_jpeg_is_told_in_one_line(front: Front, file: bytes, said: str) -> None:
    module = front("decoding")
    with pytest.raises(module.BrokenJpeg, match=said) as caught:
        module.decoded(file)
    assert "\n" not in str(caught.value)


def test_a_header_that_claims_a_huge_picture_is_refused_before_it_is_unpacked(front: Front) -> None:
    module = front("decoding")
    at = JPEG.index(b"\xff\xc0")
    huge = JPEG[: at + 5] + (60_000).to_bytes(2, "big") * 2 + JPEG[at + 9 :]
    with pytest.raises(module.BrokenJpeg, match="60000x60000 pixels"):
        module.decoded(huge)
