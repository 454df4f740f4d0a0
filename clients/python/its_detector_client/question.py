"""What a request holds: pictures or JPEGs, and whose they are. Checked here, before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from its_detector_client.errors import BadRequest

Images = npt.NDArray[np.uint8]
MOST_PICTURES = 64


class Asked(TypedDict, total=False):
    """What may be asked for beside the camera and the time; see `AsyncDetectorClient.detect`."""

    stage: str | None
    version: int | None
    purpose: str
    confidence: float | None
    deadline_s: float | None
    request_id: str | None


@dataclass(frozen=True)
class Question:
    """A request's parameters. `request_id` is the same each time that it is sent: the server logs it once."""

    request_id: str
    camera_id: str = "unknown"
    captured_at: datetime | None = None
    stage: str | None = None
    version: int | None = None
    purpose: str = "live"
    confidence: float | None = None

    def parameters(self) -> dict[str, Any]:
        """As Triton takes them. Raises `BadRequest` for a time without a zone."""
        if self.captured_at is not None and self.captured_at.tzinfo is None:
            raise BadRequest("captured_at has no time zone.", "Give it in UTC.")
        given = {
            "camera_id": self.camera_id,
            "captured_at": self.captured_at.astimezone(UTC).isoformat() if self.captured_at else None,
            "stage": self.stage,
            "version": self.version,
            "purpose": self.purpose,
            # Triton's parameters know no floating point.
            "confidence": None if self.confidence is None else str(self.confidence),
            # An answer that was lost on its way is logged, and then again, unless both carry the same name.
            "request": self.request_id,
        }
        return {name: value for name, value in given.items() if value is not None}


def batch_of(images: Images) -> Images:
    """RGB uint8 `[H, W, 3]` or `[n, H, W, 3]` as a contiguous `[n, H, W, 3]`. Raises `BadRequest`."""
    batch = images[None] if images.ndim == 3 else images
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[3] != 3 or 0 in batch.shape:
        raise BadRequest(
            f"A picture must be RGB uint8 [H, W, 3] or [n, H, W, 3], not {images.dtype} {list(images.shape)}.",
            "Convert it first.",
        )
    return np.ascontiguousarray(batch)


def jpeg_of(jpeg: bytes) -> npt.NDArray[np.object_]:
    """A JPEG file as Triton takes a text, `[1]`. Raises `BadRequest` for what does not begin like a JPEG."""
    if not isinstance(jpeg, bytes) or not jpeg.startswith(b"\xff\xd8"):
        raise BadRequest("A JPEG must be the bytes of one JPEG file.", "Encode the picture first.")
    return np.array([jpeg], np.object_)


def encode_jpeg(image: Images, quality: int = 92) -> bytes:
    """RGB uint8 `[H, W, 3]` as a JPEG; needs OpenCV (`its-detector-client[jpeg]`). Raises `BadRequest`."""
    import cv2

    batch = batch_of(image)
    if len(batch) != 1:
        raise BadRequest(f"One picture makes one JPEG, not {len(batch)}.", "Encode each by itself.")
    is_encoded, data = cv2.imencode(".jpg", batch[0, :, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not is_encoded:
        raise BadRequest("OpenCV could not encode the picture.", "It may be too large for a JPEG.")
    return data.tobytes()
