"""A JPEG file as a picture: what a request brings as `jpeg` becomes what it could have brought as `images`.

Enters: the bytes of a JPEG file. Leaves: RGB uint8 `[H, W, 3]`. A file that cannot be decoded is told in one line.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

JPEG_BEGINS = b"\xff\xd8"
JPEG_ENDS = b"\xff\xd9"
TAIL_BYTES = 4096
# A few kilobytes can unpack to gigabytes.
MOST_PIXELS = 64_000_000
# Markers of a frame header, which tells the size (ITU T.81, table B.1): all of C0 to CF but DHT, JPG and DAC.
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class BrokenJpeg(ValueError):
    """A file is no JPEG that can be decoded whole."""


def decoded(file: bytes) -> npt.NDArray[np.uint8]:
    """The picture of a JPEG file, turned as the file says. Raises `BrokenJpeg`."""
    if not file.startswith(JPEG_BEGINS):
        raise BrokenJpeg("jpeg is no JPEG file")
    width, height = _size_of(file)
    if width * height > MOST_PIXELS:
        raise BrokenJpeg(f"jpeg has {width}x{height} pixels, at most {MOST_PIXELS} are taken")
    # A file that was cut off decodes to a picture with a grey rest; some cameras add bytes after the end.
    if width * height == 0 or JPEG_ENDS not in file[-TAIL_BYTES:]:
        raise BrokenJpeg("jpeg is cut off")
    try:
        picture = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise BrokenJpeg("jpeg cannot be decoded") from error
    if picture is None:
        raise BrokenJpeg("jpeg cannot be decoded")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=picture)


def _size_of(file: bytes) -> tuple[int, int]:
    """Width and height from the frame header; zeros where there is none."""
    at = 2
    while at + 9 <= len(file) and file[at] == 0xFF:
        marker = file[at + 1]
        if marker in FRAME_HEADERS:
            return int.from_bytes(file[at + 7 : at + 9], "big"), int.from_bytes(file[at + 5 : at + 7], "big")
        # Fill bytes may stand before a marker.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(file[at + 2 : at + 4], "big")
    return 0, 0
