"""JPEG in, JPEG out: the only place where a picture's bytes are decoded or encoded.

Enters: bytes, or an RGB picture. Leaves: the other of the two. Where the bytes lie does not belong here.
"""

from __future__ import annotations

import hashlib
import io
import warnings

import cv2
import numpy as np
import numpy.typing as npt

from its_platform.errors import BadInput

Image = npt.NDArray[np.uint8]

# 16384 x 8192: four times what an 8K camera delivers. A header can claim more memory than the machine has.
MAXIMUM_PIXELS = 1 << 27
MINIMUM_SIDE = 16


def check_size(width: int, height: int, name: str) -> None:
    """Raise `BadInput` for a picture that is too large to decode or too small to show anything."""
    if width * height > MAXIMUM_PIXELS:
        raise BadInput(f"{name}: {width}x{height} pixels are more than the {MAXIMUM_PIXELS} that a frame may have.")
    if width < MINIMUM_SIDE or height < MINIMUM_SIDE:
        raise BadInput(f"{name}: {width}x{height} pixels are too few for a frame.")


def is_jpeg(data: bytes) -> bool:
    """Whether the bytes begin as a JPEG does."""
    return data[:3] == b"\xff\xd8\xff"


def decode(data: bytes, name: str = "picture") -> Image:
    """RGB uint8 `[H, W, 3]` of an encoded picture, turned as its EXIF says. Raises `BadInput`.

    A JPEG that ends early is refused: OpenCV would fill the rest with grey and say nothing.
    """
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    if not data:
        raise BadInput(f"{name}: the file is empty.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
            with Pillow.open(io.BytesIO(data)) as header:
                width, height = header.size
    except Pillow.DecompressionBombError as error:
        raise BadInput(f"{name}: its header claims more pixels than a frame may have.") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise BadInput(f"{name}: not a picture that can be read.") from error
    check_size(width, height, name)
    if is_jpeg(data) and b"\xff\xd9" not in data[-4096:]:
        raise BadInput(f"{name}: the JPEG is cut off.")
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if decoded is None:
        raise BadInput(f"{name}: the picture is broken.")
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def encode(image: Image, quality: int) -> bytes:
    """JPEG of an RGB uint8 `[H, W, 3]` picture. Raises `BadInput` for a picture that JPEG cannot hold."""
    height, width = image.shape[:2]
    check_size(width, height, "frame")
    if max(height, width) > 65500:
        raise BadInput(f"A JPEG cannot be {width}x{height} pixels.")
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise BadInput(f"A picture of {width}x{height} pixels could not be encoded.")
    return data.tobytes()


def content_hash(data: bytes) -> str:
    """The name of a frame: SHA-256 of its JPEG bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
