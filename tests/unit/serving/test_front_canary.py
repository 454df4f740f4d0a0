"""What the front keeps of a canary's answers: one pair a picture, whether the canary answered or failed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

Front = Callable[[str], ModuleType]
PRODUCTION, CANARY = 1, 2


@dataclass
class Tensor:
    name: str
    value: Any

    def as_numpy(self) -> Any:
        return self.value


class TritonError(Exception):
    """Triton's, with the codes that the front gives."""

    INVALID_ARG, NOT_FOUND, UNAVAILABLE = 1, 2, 3

    def message(self) -> str:
        return str(self.args[0])


@dataclass
class Response:
    output_tensors: list[Tensor] = field(default_factory=list)
    error_given: TritonError | None = None

    def has_error(self) -> bool:
        return self.error_given is not None

    def error(self) -> TritonError | None:
        return self.error_given


@dataclass
class Request:
    """One grey live picture of a camera. sent: what was answered before the front was done with the request."""

    sent: list[Response] = field(default_factory=list)
    images: Any = field(default_factory=lambda: np.full((1, 48, 64, 3), 128, np.uint8))

    def trace(self) -> None:
        return None

    def parameters(self) -> str:
        return json.dumps({"camera_id": "north", "captured_at": "2026-05-01T12:00:00+00:00", "request": "r"})

    def requested_output_names(self) -> list[str]:
        return ["detections", "served_version"]

    def get_response_sender(self) -> Any:
        return SimpleNamespace(send=lambda response, flags: self.sent.append(response))


class Detectors:
    """Triton's Python API, behind which detectors answer one box or, those that are `broken`, fail."""

    TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.broken: set[int] = set()
        self.Tensor, self.TritonError, self.InferenceResponse = Tensor, TritonError, Response

    def get_input_tensor_by_name(self, request: Request, name: str) -> Tensor | None:
        return Tensor(name, request.images) if name == "images" else None

    def get_output_tensor_by_name(self, response: Response, name: str) -> Tensor:
        return next(one for one in response.output_tensors if one.name == name)

    def InferenceRequest(self, model_version: int, **rest: Any) -> Any:
        return SimpleNamespace(exec=lambda: self._answer(model_version))

    def _answer(self, version: int) -> Response:
        self.asked.append(version)
        if version in self.broken:
            return Response(error_given=TritonError("out of memory"))
        rows = np.zeros((1, 300, 6), np.float32)
        rows[0, 0] = (8, 8, 24, 24, 0.9, 0)
        return Response([Tensor("detections", rows)])


@pytest.fixture
def detectors(monkeypatch: pytest.MonkeyPatch) -> Detectors:
    made = Detectors()
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", made)  # type: ignore[arg-type]
    return made


@pytest.fixture
def instance(detectors: Detectors, front: Front, tmp_path: Path) -> Any:
    """An instance of the front while all blocks are the canary's, and both are to be asked of each."""
    served = {"model": "detector", "image_size": 64, "classes": ["car"], "thresholds": {"car": 0.3}}
    canary = {**served, "version": CANARY, "percent": 100, "pairs_percent": 100}
    stages = {"production": {**served, "version": PRODUCTION}, "canary": canary}
    (tmp_path / "routes.json").write_text(json.dumps({"stages": stages}))
    made = front("model").TritonPythonModel()
    made.routes = front("routing").Routes(tmp_path / "routes.json", 0.25)
    made.cache, made.max_batch, made.pairs = None, 8, []
    made.log = SimpleNamespace(add=lambda prediction, image: None, add_pair=made.pairs.append)
    made.figures = SimpleNamespace(answered=lambda *what: None, seen=lambda *what: None)
    return made


def answered_by(response: Response) -> int:
    return int(next(one for one in response.output_tensors if one.name == "served_version").value[0])


def test_both_versions_are_asked_once_and_kept_as_one_pair(instance: Any, detectors: Detectors) -> None:
    request = Request()
    assert instance.execute([request]) == [None]
    assert [answered_by(response) for response in request.sent] == [CANARY]
    assert detectors.asked == [CANARY, PRODUCTION]
    (pair,) = instance.pairs
    assert (len(pair.production[1]), len(pair.canary[1]), pair.canary[3]) == (1, 1, "")


def test_a_canary_that_fails_is_asked_once_and_its_failure_counts_once(instance: Any, detectors: Detectors) -> None:
    detectors.broken = {CANARY}
    request = Request()
    (response,) = instance.execute([request])
    assert (answered_by(response), request.sent) == (PRODUCTION, [])
    assert detectors.asked == [CANARY, PRODUCTION]
    (pair,) = instance.pairs
    assert "out of memory" in pair.canary[3]
    assert (len(pair.production[1]), pair.production[3]) == (1, "")
