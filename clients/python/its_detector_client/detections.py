"""The boxes that a detector found, and what a request was answered. How they were found does not belong here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_DETECTIONS = 300


@dataclass(frozen=True, slots=True)
class Detection:
    """One box. `box`: x1, y1, x2, y2 in pixels of the picture; `class_id`: index into the model's class list."""

    box: tuple[float, float, float, float]
    confidence: float
    class_id: int


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes in one picture, best first.

    boxes: float32 `[n, 4]`, x1, y1, x2, y2 in pixels of the picture.
    confidence: float32 `[n]`, 0 to 1.
    class_id: int32 `[n]`, index into the model's class list.
    """

    boxes: npt.NDArray[np.float32]
    confidence: npt.NDArray[np.float32]
    class_id: npt.NDArray[np.int32]

    @classmethod
    def empty(cls) -> Detections:
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))

    @classmethod
    def from_rows(cls, rows: npt.NDArray[Any]) -> Detections:
        """Read `[k, 6]` rows (x1, y1, x2, y2, confidence, class); rows of zeros are padding and dropped."""
        rows = np.asarray(rows, np.float32).reshape(-1, 6)
        rows = rows[rows[:, 4] > 0]
        return cls(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int32))

    def __len__(self) -> int:
        return len(self.confidence)

    def __iter__(self) -> Iterator[Detection]:
        for box, confidence, class_id in zip(
            self.boxes.tolist(), self.confidence.tolist(), self.class_id.tolist(), strict=True
        ):
            yield Detection(tuple(box), confidence, class_id)

    def above(self, confidence: float) -> Detections:
        """Only the boxes of at least this confidence."""
        keep = self.confidence >= confidence
        return Detections(self.boxes[keep], self.confidence[keep], self.class_id[keep])


@dataclass(frozen=True)
class Answer:
    """What a request was answered: one `Detections` for each picture, and which version they came from.

    request_id: names the request in the server's log of predictions. endpoint: who answered.
    """

    detections: list[Detections]
    model_version: int
    model_name: str
    latency_ms: float = 0.0
    request_id: str = ""
    endpoint: str = ""
