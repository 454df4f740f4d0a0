"""What stands for a Triton where a test needs none: a connection that says what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

AWAY = ("connection refused: failed to connect to all addresses", "StatusCode.UNAVAILABLE")


class Result:
    """An answer with a box of class 1 and 299 rows of padding for each picture."""

    def __init__(self, pictures: int = 1) -> None:
        rows = np.zeros((pictures, 300, 6), np.float32)
        rows[:, 0] = [1, 2, 3, 4, 0.5, 1]
        self.tensors = {
            "detections": rows,
            "served_version": np.full(pictures, 7, np.int32),
            "served_model": np.array([b"detector"], np.object_),
        }

    def as_numpy(self, name: str) -> Any:
        return self.tensors[name]


class Channel:
    """Stands for the connection: says what it is told to, one thing a call; the last thing again and again."""

    def __init__(self, *says: Result | tuple[str, str] | Callable[[], Awaitable[Result]]) -> None:
        self.says = list(says)
        self.calls: list[dict[str, Any]] = []
        self.cancelled = 0

    async def infer(self, model: str, inputs: Any, *rest: Any, **asked: Any) -> Result:
        shapes = [list(tensor.shape()) for tensor in inputs]
        shared = [tensor._get_tensor().parameters["shared_memory_region"].string_param for tensor in inputs]
        self.calls.append({"model": model, "shapes": shapes, "shared": [name for name in shared if name], **asked})
        saying = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(saying, tuple):
            raise InferenceServerException(*saying)
        if isinstance(saying, Result):
            return saying
        try:
            return await saying()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def close(self) -> None:
        pass
