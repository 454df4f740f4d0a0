"""Triton model `traffic_detector`: the one model that live systems call.

Enters: `images`, RGB uint8 `[n, H, W, 3]`, or `jpeg`, a JPEG file `[1]`; and request parameters (all optional):
`camera_id`, `captured_at` (ISO 8601), `stage` or `version`, `purpose` (`live`), `confidence` (instead of the
thresholds by class), `request` (the same for a request that is sent again), `cache` (`off`: detect anew).
Leaves: `detections`, float32 `[n, 300, 6]` in pixels of the picture, zero rows pad; and `served_version` int32 `[n]`
and `served_model` bytes `[1]` where they are asked for.
Letterboxing, the choice of the detector, its thresholds and the log of predictions happen here, and identical live
pictures are answered from a cache. How a detector is run, and what is done with the log, do not.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.insert(0, str(Path(__file__).parent))

from answer_cache import open_cache
from decoding import BrokenJpeg, decoded
from letterbox import letterbox, to_picture
from prediction_log import NO_CAMERA, Embedder, Measured, Prediction, PredictionLog
from routing import NoRoute, Route, Routes
from spool import Spool

MOST_DETECTIONS = 300
MOST_IMAGES = 64
NOT_LOGGED = frozenset({"probe"})
# Gates, references and pictures drawn by hand ask what the detector says now.
CACHED = frozenset({"live"})


class Refused(Exception):
    """The request cannot be answered. `code` is one of Triton's."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class TritonPythonModel:
    """One instance of the front. Each has a log of its own."""

    def initialize(self, args: dict[str, str]) -> None:
        # The threads of OpenCV's pool spin while they wait, which costs more than these small pictures gain from them.
        cv2.setNumThreads(1)
        parameters = {
            name: value["string_value"] for name, value in json.loads(args["model_config"])["parameters"].items()
        }
        # Relative to the model, so that the same repository works wherever it is mounted.
        state = (Path(args["model_repository"]) / parameters["state"]).resolve()
        self.max_batch = int(parameters["max_batch"])
        self.routes = Routes(state / "routes.json", float(parameters["confidence"]))
        models = Path(args["model_repository"]).parent
        self.cache = open_cache(models, state, float(parameters["cache_mb"]))
        self.log = PredictionLog(
            Spool(state / "spool", float(parameters["spool_flush_s"])),
            Embedder(state / "embedder.onnx", float(parameters["embed_every_s"])),
            Measured(float(parameters["measure_every_s"])),
            int(parameters["spool_rows"]),
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        self.log.close()
        if self.cache is not None:
            self.cache.close()

    def _respond(self, request: Any) -> Any:
        started = time.perf_counter()
        try:
            asked = _Asked(request)
            route, rows, are_cached = self._detect(asked)
        except Refused as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), error.code))
        thresholds = route.thresholds if asked.confidence is None else [asked.confidence] * len(route.classes)
        answer = np.zeros((len(rows), MOST_DETECTIONS, 6), np.float32)
        for index, found in enumerate(rows):
            kept = _above(found, np.asarray(thresholds, np.float32))
            answer[index, : len(kept)] = kept
        tensors = {"detections": answer}
        tensors["served_version"] = np.full(len(rows), route.version, np.int32)
        tensors["served_model"] = np.array([route.model.encode()], np.object_)
        wanted = request.requested_output_names()
        outputs = [pb_utils.Tensor(name, value) for name, value in tensors.items() if name in wanted]
        self._keep(asked, route, rows, are_cached, (time.perf_counter() - started) * 1000)
        return pb_utils.InferenceResponse(outputs)

    def _detect(self, asked: _Asked) -> tuple[Route, list[Any], list[bool]]:
        """The detector's rows, `[k, 6]` for each picture in its own pixels, best first, before any threshold.

        And for each picture whether they were found before.
        """
        route = self._choose(asked)
        try:
            return route, *self._answer(route, asked)
        except Refused:
            # Between the choice and the call the version may have been replaced by the next one.
            again = self._choose(asked, is_fresh=True)
            if again == route:
                raise
            return again, *self._answer(again, asked)

    def _answer(self, route: Route, asked: _Asked) -> tuple[list[Any], list[bool]]:
        if self.cache is None or not asked.may_be_cached:
            return self._run(route, asked.images), [False] * len(asked.images)
        return self.cache.rows(route, asked.images, lambda images: self._run(route, images))

    def _choose(self, asked: _Asked, is_fresh: bool = False) -> Route:
        try:
            return self.routes.choose(asked.stage, asked.version, is_fresh)
        except NoRoute as error:
            raise Refused(str(error), pb_utils.TritonError.NOT_FOUND) from error

    def _run(self, route: Route, images: Any) -> list[Any]:
        size = route.image_size
        height, width = images.shape[1:3]
        rows = []
        for start in range(0, len(images), self.max_batch):
            fitted = [letterbox(image, size) for image in images[start : start + self.max_batch]]
            fit = fitted[0][1]
            squares = [square for square, _ in fitted]
            for found in _infer(route, squares[0][None] if len(squares) == 1 else np.stack(squares)):
                found = found[(found[:, 4] > 0) & (found[:, 5] < len(route.classes))]
                found = found[np.argsort(-found[:, 4], kind="stable")]
                found[:, :4] = to_picture(found[:, :4], fit, height, width)
                rows.append(found)
        return rows

    def _keep(self, asked: _Asked, route: Route, rows: list[Any], are_cached: list[bool], latency_ms: float) -> None:
        if asked.purpose in NOT_LOGGED:
            return
        height, width = asked.images.shape[1:3]
        for number, (image, found, is_cached) in enumerate(zip(asked.images, rows, are_cached, strict=True)):
            # The tensor lies in memory that Triton takes back with the response.
            copy = np.array(image)
            self.log.add(
                Prediction(
                    asked.captured_at,
                    asked.camera_id,
                    asked.purpose,
                    route,
                    width,
                    height,
                    copy,
                    found,
                    latency_ms,
                    f"{asked.request}/{number}" if asked.request else "",
                    is_cached,
                )
            )


class _Asked:
    """A request, read and checked. Raises `Refused`."""

    def __init__(self, request: Any) -> None:
        invalid = pb_utils.TritonError.INVALID_ARG
        self.images = _pictures_of(request)
        shape = self.images.shape
        if len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise Refused(f"images must be RGB [n, H, W, 3] with nothing empty, not {list(shape)}", invalid)
        if shape[0] > MOST_IMAGES:
            raise Refused(f"at most {MOST_IMAGES} images in one request, not {shape[0]}", invalid)
        text = request.parameters()
        given = json.loads(text) if text else {}
        self.camera_id = str(given.get("camera_id", NO_CAMERA))
        self.purpose = str(given.get("purpose", "live"))
        self.request = str(given.get("request", ""))
        self.may_be_cached = self.purpose in CACHED and str(given.get("cache", "on")) != "off"
        self.stage = str(given["stage"]) if "stage" in given else None
        try:
            self.version = int(given["version"]) if "version" in given else None
            self.confidence = float(given["confidence"]) if "confidence" in given else None
            captured_at = datetime.fromisoformat(str(given["captured_at"])) if "captured_at" in given else None
        except ValueError as error:
            raise Refused(f"a request parameter cannot be read: {error}", invalid) from error
        captured_at = captured_at or datetime.now(UTC)
        if captured_at.tzinfo is None:
            raise Refused("captured_at needs a time zone", invalid)
        self.captured_at = captured_at.astimezone(UTC).isoformat()


def _pictures_of(request: Any) -> Any:
    """What was sent as `images`, or else as `jpeg`. Raises `Refused`.

    A load generator fills every input that a model names: `images` go first, and `jpeg` is then not looked at.
    """
    images, jpeg = (pb_utils.get_input_tensor_by_name(request, name) for name in ("images", "jpeg"))
    if images is not None:
        return images.as_numpy()
    if jpeg is None:
        raise Refused("a request holds images or jpeg, not neither", pb_utils.TritonError.INVALID_ARG)
    try:
        return decoded(bytes(jpeg.as_numpy()[0]))[None]
    except BrokenJpeg as error:
        raise Refused(str(error), pb_utils.TritonError.INVALID_ARG) from error


def _infer(route: Route, batch: Any) -> Any:
    """One call of the detector: uint8 `[n, S, S, 3]` to float32 `[n, 300, 6]`. Raises `Refused`."""
    response = pb_utils.InferenceRequest(
        model_name=route.model,
        model_version=route.version,
        requested_output_names=["detections"],
        inputs=[pb_utils.Tensor("images", batch)],
    ).exec()
    if response.has_error():
        message = f"{route.model} version {route.version} did not answer: {response.error().message()}"
        raise Refused(message, pb_utils.TritonError.UNAVAILABLE)
    return pb_utils.get_output_tensor_by_name(response, "detections").as_numpy().copy()


def _above(rows: Any, thresholds: Any) -> Any:
    return rows[rows[:, 4] >= thresholds[rows[:, 5].astype(int)]][:MOST_DETECTIONS]
