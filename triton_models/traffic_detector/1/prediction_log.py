"""The log of predictions, kept off the path of the answer.

What enters is one answered picture, the detector's own rows with their low scores, and whose they are. The picture is
copied only if its camera is to be looked at again. A thread of its own then measures it, embeds it and writes the row.
The queue is bounded in rows and in bytes; what does not fit is counted as lost, because a live answer must never wait
for its log.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import queue
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import picture
from routing import Route
from spool import Spool

MOST_PICTURE_BYTES = 96 * 1024 * 1024
LOW_SCORES = 50
NO_CAMERA = "unknown"
STOP_WITHIN_S = 4.0
ADOPT_EVERY_S = 5.0
# A caller may name any camera, and another with each picture: beyond this number what is known of them is forgotten.
MOST_CAMERAS = 10_000
# Much longer than between two embeddings of a camera; one too many spoils nothing.
SHARED_FOR_S = 3600.0
# Of two pictures exactly an interval apart the second is due, whatever the times lose in double precision.
SLACK_S = 0.001


@dataclass(frozen=True)
class Prediction:
    """What was answered for one picture. `rows` are `[k, 6]` in pixels of the picture, before the thresholds.

    `request`: the picture's place in a request that its sender named, the same when it is sent again. `is_cached`: the
    rows were found before, for the same pixels, so that `latency_ms` says nothing of the detector.
    """

    at: str
    camera_id: str
    purpose: str
    route: Route
    width: int
    height: int
    rows: npt.NDArray[np.float32]
    latency_ms: float
    request: str = ""
    is_cached: bool = False


@dataclass(frozen=True)
class Look:
    """A picture that outlives its request, RGB uint8 `[H, W, 3]`, because one of these wants to see it."""

    image: npt.NDArray[np.uint8]
    is_measured: bool
    is_embedded: bool


Side = tuple[Route, npt.NDArray[np.float32], float | None, str]
"""A version's part in a pair: what it is, `[k, 6]` above its thresholds, milliseconds, and why it failed if it did."""


@dataclass(frozen=True)
class Pair:
    """One live picture of which both versions were asked, or of which the canary was and failed.

    light: what `picture.light_of` calls it. answered_by: the stage that was drawn for the caller's answer.
    """

    at: str
    camera_id: str
    light: str
    answered_by: str
    request: str
    width: int
    height: int
    production: Side
    canary: Side


class PredictionLog:
    """A bounded queue and the thread that empties it. Pairs go the same way, to a spool of their own."""

    def __init__(self, spool: Spool, embedder: Embedder, measured: Measured, most_rows: int, pairs: Spool) -> None:
        self._spool = spool
        self._pairs = pairs
        self._embedder = embedder
        self._measured = measured
        # Bounded by who puts: the queue that counts for itself costs a woken thread several times as much.
        self._queue: queue.SimpleQueue[tuple[Prediction, Look | None] | Pair | None] = queue.SimpleQueue()
        self._most_rows = most_rows
        self._bytes = 0
        self._lost: Counter[str] = Counter()
        self._lost_pairs: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._stop_by = float("inf")
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, prediction: Prediction, image: npt.NDArray[np.uint8]) -> None:
        """Hand over what was answered for `image`, which may be overwritten afterwards.

        Returns at once; when there is no room the row is lost and counted. For one thread alone: what is due is asked
        for only once there is room, since a camera that was marked as looked at and then was not would miss its turn.
        """
        with self._guard:
            if self._queue.qsize() >= self._most_rows or self._bytes + image.nbytes > MOST_PICTURE_BYTES:
                self._lost["queue is full"] += 1
                return
        is_measured, is_embedded = self._measured.is_due(prediction), self._embedder.is_due(prediction)
        look = None
        if is_measured or is_embedded:
            look = Look(np.array(image), is_measured, is_embedded)
            with self._guard:
                self._bytes += image.nbytes
        self._queue.put((prediction, look))

    def add_pair(self, pair: Pair) -> None:
        """The same for a pair, which holds no picture."""
        if self._queue.qsize() >= self._most_rows:
            with self._guard:
                self._lost_pairs["queue is full"] += 1
        else:
            self._queue.put(pair)

    def close(self) -> None:
        """Write what is waiting, for at most `STOP_WITHIN_S`, and hand the file over."""
        self._stop_by = time.monotonic() + STOP_WITHIN_S
        self._queue.put(None)
        self._thread.join(STOP_WITHIN_S + 2)

    def _run(self) -> None:
        is_open = True
        adopt_at = float("-inf")
        while is_open:
            # Another instance may be killed at any time, and no new one need start after it.
            if time.monotonic() >= adopt_at:
                adopt_at = time.monotonic() + ADOPT_EVERY_S
                self._spool.adopt_orphans()
                self._pairs.adopt_orphans()
            try:
                item = self._queue.get(timeout=0.2)
            except queue.Empty:
                item = None
            else:
                is_open = item is not None
            if item is not None:
                if isinstance(item, tuple) and item[1] is not None:
                    with self._guard:
                        self._bytes -= item[1].image.nbytes
                if time.monotonic() > self._stop_by:
                    self._count_lost("stopped before it was written", 1)
                else:
                    self._write(item)
            with self._guard:
                self._spool.lost += self._lost
                self._lost.clear()
                self._pairs.lost += self._lost_pairs
                self._lost_pairs.clear()
            self._spool.flush(is_last=not is_open)
            self._pairs.flush(is_last=not is_open)
        self._spool.adopt_orphans()
        self._pairs.adopt_orphans()

    def _write(self, item: tuple[Prediction, Look | None] | Pair) -> None:
        if isinstance(item, Pair):
            self._pairs.append([pair_row(item)])
            return
        try:
            row = row_of(*item, self._embedder, self._measured)
        except Exception as error:  # noqa: BLE001  one odd picture must not end the log of all others
            self._count_lost(f"{type(error).__name__}: {error}"[:200], 1)
        else:
            self._spool.append([row])

    def _count_lost(self, reason: str, rows: int) -> None:
        with self._guard:
            self._lost[reason] += rows


class Measured:
    """The figures of a live picture, or those of its camera's last one where that is younger than `every_s`.

    A camera of 25 frames a second shows the same light and noise in each of them. What names no camera may be any, and
    is measured each time; so are the pictures of one request, which have one time and need not be alike.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s - SLACK_S
        self._measured_at: dict[tuple[str, str, int, int], float] = {}
        self._figures: dict[tuple[str, str, int, int], dict[str, float]] = {}

    def is_due(self, item: Prediction) -> bool:
        """Whether this picture is the one to measure, which it then is: the next one's turn counts from it."""
        at, key = datetime.fromisoformat(item.at).timestamp(), self._key(item)
        before = self._measured_at.get(key) if item.camera_id != NO_CAMERA else None
        if before is not None and 0 < at - before < self._every_s:
            return False
        if before is None and len(self._measured_at) >= MOST_CAMERAS:
            self._measured_at.clear()
        self._measured_at[key] = at
        return True

    def figures(self, item: Prediction, look: Look | None) -> dict[str, float]:
        """Those of the picture, if it is due. Raises `KeyError` where the picture before it could not be measured."""
        key = self._key(item)
        if look is not None and look.is_measured:
            # Put last, so that who leaves is who was measured longest ago, and waits for nothing in the queue.
            self._figures.pop(key, None)
            self._figures[key] = {name: round(value, 5) for name, value in picture.figures(look.image).items()}
            if len(self._figures) > MOST_CAMERAS:
                del self._figures[next(iter(self._figures))]
        return self._figures[key]

    @staticmethod
    def _key(item: Prediction) -> tuple[str, str, int, int]:
        return item.camera_id, item.purpose, item.width, item.height


class Embedder:
    """The frozen frame embedder beside the models, if it is there. Read again when the file changes."""

    def __init__(self, path: Path, every_s: float) -> None:
        self._path = path
        self._every_s = every_s - SLACK_S
        self._identity: tuple[int, int] | None = None
        self._session: Any = None
        self._checked_at = float("-inf")
        self._last: dict[tuple[str, str, int], float] = {}
        # What each instance embedded last is told to the others: without that, each would embed every camera.
        self._shared = path.parent / "embedded"
        with contextlib.suppress(OSError):
            self._shared.mkdir(exist_ok=True)
        self._forget()
        self.digest = ""

    def embed(self, look: Look | None) -> list[float] | None:
        """The picture's vector, or None: no embedder, or the picture is not due."""
        if look is None or not look.is_embedded:
            return None
        self._refresh()
        if self._session is None:
            return None
        shape = self._session.get_inputs()[0].shape
        stretched = cv2.resize(look.image, (int(shape[2]), int(shape[1])), interpolation=cv2.INTER_AREA)
        vector = self._session.run(None, {self._session.get_inputs()[0].name: stretched[None]})[0][0]
        return [round(value, 6) for value in vector.tolist()]

    def is_due(self, item: Prediction) -> bool:
        """Whether this much time has passed since any instance embedded the camera; then the picture's turn is taken.

        Two that ask at the same moment may both embed, which costs a vector and spoils nothing.
        """
        at = datetime.fromisoformat(item.at).timestamp()
        key = (item.camera_id, item.purpose, item.route.version)
        if abs(at - self._last.get(key, float("-inf"))) < self._every_s or not self._path.exists():
            return False
        shared = self._shared / hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        other = _time_in(shared)
        if other is not None and abs(at - other) < self._every_s:
            self._last[key] = other
            return False
        if key not in self._last and len(self._last) >= MOST_CAMERAS:
            self._forget()
        self._last[key] = at
        with contextlib.suppress(OSError):
            shared.write_text(repr(at), encoding="utf-8")
        return True

    def _forget(self) -> None:
        """Start anew, and remove what was told of cameras and versions of which nothing was heard for long."""
        self._last.clear()
        oldest = time.time() - SHARED_FOR_S
        with contextlib.suppress(OSError):
            for told in os.scandir(self._shared):
                # Another instance may be removing it too.
                with contextlib.suppress(FileNotFoundError):
                    if told.stat().st_mtime < oldest:
                        os.unlink(told.path)

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._checked_at < 1.0:
            return
        self._checked_at = now
        try:
            found = self._path.stat()
        except FileNotFoundError:
            self._session, self._identity, self.digest = None, None, ""
            return
        if (found.st_mtime_ns, found.st_ino) == self._identity:
            return
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        content = self._path.read_bytes()
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        named = self._session.get_modelmeta().custom_metadata_map.get("digest")
        self.digest = named or hashlib.sha256(content).hexdigest()
        self._identity = (found.st_mtime_ns, found.st_ino)


def row_of(item: Prediction, look: Look | None, embedder: Embedder, measured: Measured) -> dict[str, Any]:
    """The log row of one picture: counts, scores and sizes at the thresholds, low scores, figures, embedding."""
    route = item.route
    # Plain numbers: for a dozen rows numpy's calls cost more than they save.
    least = np.asarray(route.thresholds, np.float32).tolist()
    scores = item.rows[:, 4].tolist()
    lowest = min(least)
    above = sum(score >= lowest for score in scores)
    seen = [row for row in item.rows[:above].tolist() if row[4] >= least[int(row[5])]]
    counts = dict.fromkeys(route.classes, 0)
    for row in seen:
        counts[route.classes[int(row[5])]] += 1
    area = float(item.width * item.height)
    sides = [math.sqrt(max(0.0, (x2 - x1) * (y2 - y1) / area)) for x1, y1, x2, y2, *_ in seen]
    embedding = embedder.embed(look)
    figures = measured.figures(item, look)
    return {
        "at": item.at,
        "logged_at": datetime.now(UTC).isoformat(),
        "camera_id": item.camera_id,
        "model": route.model,
        "version": route.version,
        "stage": route.stage,
        "purpose": item.purpose,
        "request": item.request or None,
        "width": item.width,
        "height": item.height,
        "counts": counts,
        "n": len(seen),
        "mean_confidence": round(sum(row[4] for row in seen) / len(seen), 5) if seen else None,
        "confidences": [round(score, 4) for score in scores[:LOW_SCORES]],
        "box_areas": [round(side, 5) for side in sides],
        **figures,
        "light": picture.light_of(figures),
        "embedding": embedding,
        "embedder": embedder.digest if embedding is not None else None,
        "latency_ms": round(item.latency_ms, 3),
        "is_cached": item.is_cached,
    }


def pair_row(pair: Pair) -> dict[str, Any]:
    """The log row of one pair; boxes in pixels of the picture with their class's name."""
    row: dict[str, Any] = {
        "at": pair.at,
        "logged_at": datetime.now(UTC).isoformat(),
        "camera_id": pair.camera_id,
        "light": pair.light,
        "answered_by": pair.answered_by,
        "request": pair.request or None,
        "width": pair.width,
        "height": pair.height,
    }
    for stage, (route, rows, ms, problem) in (("production", pair.production), ("canary", pair.canary)):
        row[stage] = route.version
        row[f"{stage}_boxes"] = [
            {
                "class_name": route.classes[int(number)],
                "confidence": round(float(score), 4),
                **{name: round(float(value), 2) for name, value in zip(("x1", "y1", "x2", "y2"), box, strict=True)},
            }
            for *box, score, number in rows
        ]
        row[f"{stage}_ms"] = None if ms is None else round(ms, 3)
        row[f"{stage}_problem"] = problem or None
    return row


def _time_in(path: Path) -> float | None:
    """The time that a file holds; None where there is none, or it is being written."""
    try:
        return float(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
