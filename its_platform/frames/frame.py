"""One picture of one camera at one moment, on its way through the platform.

What a source yields and what ingest, the live feed and the tests take. Quality, labels and storage do not belong here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

# Footage whose time nobody knows is numbered from here on, one second a picture: the order is true, the time is not.
UNTIMED_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture as its camera delivered it.

    captured_at: aware, UTC. Counted from `UNTIMED_EPOCH` where the time is unknown; `sequence` is then the number.
    image: RGB uint8 `[H, W, 3]`. jpeg: its bytes as delivered, None where the source delivers no JPEG; `image` is
    the decoding of them. source: the file or address that it came from. weather: as the source says, or `unknown`.
    """

    camera_id: str
    captured_at: datetime
    image: npt.NDArray[np.uint8]
    jpeg: bytes | None = None
    weather: str = "unknown"
    sequence: int | None = None
    source: str = ""

    @property
    def is_timed(self) -> bool:
        return self.sequence is None
