"""Triton model `traffic_detector`: the one model that live systems call.

Enters: `images`, RGB uint8 `[n, H, W, 3]`, or `jpeg`, a JPEG file `[1]`; and request parameters (all optional):
`camera_id`, `captured_at` (ISO 8601), `stage` or `version`, `purpose` (`live`), `confidence` (instead of the
thresholds by class), `request` (the same for a request that is sent again), `cache` (`off`: detect anew).
Leaves: `detections`, float32 `[n, 300, 6]` in pixels of the picture, zero rows pad; and `served_version` int32 `[n]`
and `served_model` bytes `[1]` where they are asked for.
Letterboxing, the choice of the detector, its thresholds and the log of predictions happen here, and identical live
pictures are answered from a cache; while there is a canary also its share of the live requests, and the second answer
to some of them, with which the two versions are compared. How a detector is run, and what is done with the logs, do
not.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import picture
import triton_python_backend_utils as pb_utils

sys.path.insert(0, str(Path(__file__).parent))

from answer_cache import open_cache
from counting import Figures
from decoding import BrokenJpeg, decoded
from letterbox import letterbox, to_picture
from prediction_log import NO_CAMERA, Embedder, Measured, Pair, Prediction, PredictionLog
from routing import CANARY_STAGE, DEFAULT_STAGE, NoRoute, Route, Routes
from said import warn
from spool import Spool

MOST_DETECTIONS = 300
MOST_IMAGES = 64
LIVE = "live"
NOT_LOGGED = frozenset({"probe"})
# What a figure is told apart by; a caller may name any purpose.
PURPOSES = frozenset({LIVE, "probe", "reference", "gate", "detect"})
CODES = ("INVALID_ARG", "NOT_FOUND", "UNAVAILABLE")
# Gates, references and pictures drawn by hand ask what the detector says now.
CACHED = frozenset({LIVE})


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
            Spool(state / "pairs", float(parameters["spool_flush_s"]), "pairs"),
        )
        self.figures = Figures(pb_utils, int(parameters["cameras"]))

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        self.figures.close()
        self.log.close()
        if self.cache is not None:
            self.cache.close()

    def _respond(self, request: Any) -> Any:
        """The response, or None where it has been sent already so that nobody waits for what is done afterwards."""
        started = time.perf_counter()
        asked = None
        try:
            asked = _Asked(request)
            compared = self.routes.to_compare(asked.block)
            # What is compared is detected by both, and takes the time that it takes.
            asked.may_be_cached &= compared is None
            answered = self._detect(asked)
        except Refused as error:
            self._tell_of_refusal(error, asked)
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), error.code))
        route, rows = answered.route, answered.rows
        thresholds = route.thresholds if asked.confidence is None else [asked.confidence] * len(route.classes)
        answer = np.zeros((len(rows), MOST_DETECTIONS, 6), np.float32)
        for index, found in enumerate(rows):
            kept = _above(found, thresholds)
            answer[index, : len(kept)] = kept
        tensors = {"detections": answer}
        tensors["served_version"] = np.full(len(rows), route.version, np.int32)
        tensors["served_model"] = np.array([route.model.encode()], np.object_)
        wanted = request.requested_output_names()
        response = pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, value) for name, value in tensors.items() if name in wanted]
        )
        seconds = time.perf_counter() - started
        self._keep(asked, answered, seconds * 1000)
        self._count(asked, answered, seconds)
        if compared is None or answered.has_pair:
            return response
        # The pictures lie in memory that goes back with the response.
        asked.images = np.array(asked.images)
        request.get_response_sender().send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        self._compare(asked, answered, *compared)
        return None

    def _detect(self, asked: _Asked) -> _Answered:
        """What the chosen detector finds. Where a canary fails production answers, and the failure is kept."""
        route = self._choose(asked)
        try:
            return self._ask(route, asked)
        except Refused as error:
            # Between the choice and the call the version may have been replaced by the next one.
            again = self._choose(asked, is_fresh=True)
            if again != route:
                return self._ask(again, asked)
            if route.stage != CANARY_STAGE or not asked.block:
                raise
            answered = self._ask(self._choose(asked, stage=DEFAULT_STAGE), asked)
            self._keep_pairs(asked, CANARY_STAGE, answered, _Answered(route, [], None, problem=str(error)))
            return replace(answered, has_pair=True)

    def _ask(self, route: Route, asked: _Asked) -> _Answered:
        """A detector's rows, `[k, 6]` for each picture in its own pixels, best first, before any threshold."""
        started = time.perf_counter()
        if self.cache is None or not asked.may_be_cached:
            rows, are_cached = self._run(route, asked.images, asked.trace), [False] * len(asked.images)
        else:
            rows, are_cached = self.cache.rows(
                route, asked.images, lambda images: self._run(route, images, asked.trace)
            )
        return _Answered(route, rows, (time.perf_counter() - started) * 1000, are_cached)

    def _compare(self, asked: _Asked, answered: _Answered, production: Route, canary: Route) -> None:
        """Ask the version that did not answer as well, and keep both answers."""
        if answered.route not in (production, canary):
            return
        is_canary = answered.route == canary
        try:
            other = self._ask(production if is_canary else canary, asked)
        except Refused as error:
            other = _Answered(production if is_canary else canary, [], None, problem=str(error))
        both = (other, answered) if is_canary else (answered, other)
        self._keep_pairs(asked, answered.route.stage, *both)

    def _keep_pairs(self, asked: _Asked, answered_by: str, production: _Answered, canary: _Answered) -> None:
        height, width = asked.images.shape[1:3]
        for number, image in enumerate(asked.images):
            self.log.add_pair(
                Pair(
                    asked.captured_at,
                    asked.camera_id,
                    picture.light_of(picture.figures(image)),
                    answered_by,
                    asked.key_of(number),
                    width,
                    height,
                    *((one.route, one.seen(number), one.ms, one.problem) for one in (production, canary)),
                )
            )

    def _choose(self, asked: _Asked, is_fresh: bool = False, stage: str | None = None) -> Route:
        try:
            return self.routes.choose(stage or asked.stage, asked.version, is_fresh, asked.block)
        except NoRoute as error:
            raise Refused(str(error), pb_utils.TritonError.NOT_FOUND) from error

    def _run(self, route: Route, images: Any, trace: Any) -> list[Any]:
        size = route.image_size
        height, width = images.shape[1:3]
        rows = []
        for start in range(0, len(images), self.max_batch):
            fitted = [letterbox(image, size) for image in images[start : start + self.max_batch]]
            fit = fitted[0][1]
            squares = [square for square, _ in fitted]
            for found in _infer(route, squares[0][None] if len(squares) == 1 else np.stack(squares), trace):
                found = found[(found[:, 4] > 0) & (found[:, 5] < len(route.classes))]
                found = found[np.argsort(-found[:, 4], kind="stable")]
                found[:, :4] = to_picture(found[:, :4], fit, height, width)
                rows.append(found)
        return rows

    def _count(self, asked: _Asked, answered: _Answered, seconds: float) -> None:
        route = answered.route
        what = (route.stage, str(route.version), asked.purpose if asked.purpose in PURPOSES else "other")
        self.figures.answered(what, len(answered.rows), sum(answered.are_cached), seconds)
        if asked.purpose == LIVE:
            self.figures.seen(asked.camera_id, len(answered.rows))

    def _tell_of_refusal(self, error: Refused, asked: _Asked | None) -> None:
        if asked is not None and asked.purpose in NOT_LOGGED:
            # Where nothing is released yet a refusal is what a living front says, every two seconds.
            return
        self.figures.refused(
            next((name for name in CODES if getattr(pb_utils.TritonError, name) == error.code), "OTHER")
        )
        whose = (
            {}
            if asked is None
            else {
                "request": asked.request,
                "camera": asked.camera_id,
                "captured_at": asked.captured_at,
            }
        )
        warn("refused", reason=str(error), **whose)

    def _keep(self, asked: _Asked, answered: _Answered, latency_ms: float) -> None:
        if asked.purpose in NOT_LOGGED:
            return
        height, width = asked.images.shape[1:3]
        answers = zip(asked.images, answered.rows, answered.are_cached, strict=True)
        for number, (image, found, is_cached) in enumerate(answers):
            self.log.add(
                Prediction(
                    asked.captured_at,
                    asked.camera_id,
                    asked.purpose,
                    answered.route,
                    width,
                    height,
                    found,
                    latency_ms,
                    asked.key_of(number),
                    is_cached,
                ),
                image,
            )


@dataclass(frozen=True)
class _Answered:
    """What a detector found in each picture, before any threshold, and how long all of it took; or why it did not.

    are_cached: which pictures it was not asked about anew. has_pair: it stands in for a canary that failed, and the
    pair of both is kept.
    """

    route: Route
    rows: list[Any]
    ms: float | None
    are_cached: Sequence[bool] = ()
    has_pair: bool = False
    problem: str = ""

    def seen(self, number: int) -> Any:
        """The rows of one picture that live systems see; none where the detector failed."""
        return _above(self.rows[number], self.route.thresholds) if self.rows else np.zeros((0, 6), np.float32)


class _Asked:
    """A request, read and checked. Raises `Refused`."""

    def __init__(self, request: Any) -> None:
        invalid = pb_utils.TritonError.INVALID_ARG
        self.images = _pictures_of(request)
        self.trace = request.trace()
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
            captured_at = (
                datetime.fromisoformat(str(given["captured_at"])) if "captured_at" in given else datetime.now(UTC)
            )
            if captured_at.tzinfo is None:
                raise Refused("captured_at needs a time zone", invalid)
            self.captured_at = captured_at.astimezone(UTC).isoformat()
        except (ValueError, OverflowError) as error:
            # In the first and last hours of what a calendar holds there is no such time in UTC.
            raise Refused(f"a request parameter cannot be read: {error}", invalid) from error
        if self.confidence is not None and math.isnan(self.confidence):
            # No score is above it: it would be answered with no box, as an empty road is.
            raise Refused("confidence is no number", invalid)
        # Camera and minute, the unit in which live traffic is shared out; empty for what takes no part in that.
        self.block = ""
        if self.purpose == LIVE and self.stage is None and self.version is None:
            unit = self.captured_at[:16] if self.camera_id != NO_CAMERA else f"{self.captured_at} {self.request}"
            self.block = f"{self.camera_id}/{unit}"

    def key_of(self, number: int) -> str:
        """A picture's place in a request that its sender named; empty where it has no name."""
        return f"{self.request}/{number}" if self.request else ""


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


def _infer(route: Route, batch: Any, trace: Any) -> Any:
    """One call of the detector: uint8 `[n, S, S, 3]` to float32 `[n, 300, 6]`. Raises `Refused`."""
    response = pb_utils.InferenceRequest(
        model_name=route.model,
        model_version=route.version,
        requested_output_names=["detections"],
        inputs=[pb_utils.Tensor("images", batch)],
        # The detector's span then lies below the front's.
        trace=trace,
    ).exec()
    if response.has_error():
        message = f"{route.model} version {route.version} did not answer: {response.error().message()}"
        raise Refused(message, pb_utils.TritonError.UNAVAILABLE)
    return pb_utils.get_output_tensor_by_name(response, "detections").as_numpy().copy()


def _above(rows: Any, thresholds: Sequence[float]) -> Any:
    least = np.asarray(thresholds, np.float32)
    return rows[rows[:, 4] >= least[rows[:, 5].astype(int)]][:MOST_DETECTIONS]
