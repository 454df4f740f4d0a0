"""What the front counts for Prometheus, as figures of Triton's own: both instances add to the same ones.

Enters: what was answered or refused. Leaves: Triton's metrics, a second later: a live answer waits for no figure.
Cameras have figures of their own up to a number, those beyond share one. What is done with them does not belong here.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

WRITTEN_EVERY_S = 1.0
STOP_WITHIN_S = 2.0
OTHERS = "others"
PREFIX = "its_front_"
ANSWERED = ("stage", "version", "purpose")
# The name after the prefix, what it is, its labels.
COUNTERS = {
    "pictures_total": ("Pictures that were answered.", ANSWERED),
    "cached_pictures_total": ("Pictures that were answered without asking the detector anew.", ANSWERED),
    "answer_seconds_total": ("Time that the answers took in the front, all together.", ANSWERED),
    "answers_total": ("Requests that were answered.", ANSWERED),
    "refused_total": ("Requests that were not answered, by Triton's code.", ("code",)),
    "camera_pictures_total": ("Live pictures of a camera.", ("camera",)),
}
LAST_PICTURE = "last_picture_timestamp_seconds"

Labels = tuple[str, ...]


class Figures:
    """Adds up in memory, and hands over from a thread of its own. metrics: Triton's `pb_utils`."""

    def __init__(self, metrics: Any, most_cameras: int) -> None:
        self._metrics = metrics
        self._most_cameras = most_cameras
        self._cameras: set[str] = set()
        self._new: Counter[tuple[str, Labels]] = Counter()
        self._seen_at: dict[str, float] = {}
        self._made: dict[tuple[str, Labels], Any] = {}
        self._families = {
            name: metrics.MetricFamily(name=PREFIX + name, description=said, kind=metrics.MetricFamily.COUNTER)
            for name, (said, _) in COUNTERS.items()
        }
        self._families[LAST_PICTURE] = metrics.MetricFamily(
            name=PREFIX + LAST_PICTURE,
            description="When a camera's last live picture came.",
            kind=metrics.MetricFamily.GAUGE,
        )
        self._guard = threading.Lock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="figures", daemon=True)
        self._thread.start()

    def answered(self, answer: Labels, pictures: int, cached: int, seconds: float) -> None:
        """A request of so many pictures was answered. answer: stage, version, purpose."""
        with self._guard:
            self._new["answers_total", answer] += 1
            self._new["pictures_total", answer] += pictures
            self._new["cached_pictures_total", answer] += cached
            self._new["answer_seconds_total", answer] += seconds  # type: ignore[assignment]

    def refused(self, code: str) -> None:
        with self._guard:
            self._new["refused_total", (code,)] += 1

    def seen(self, camera_id: str, pictures: int) -> None:
        """Live pictures of a camera came now."""
        with self._guard:
            if camera_id not in self._cameras and len(self._cameras) >= self._most_cameras:
                camera_id = OTHERS
            self._cameras.add(camera_id)
            self._new["camera_pictures_total", (camera_id,)] += pictures
            self._seen_at[camera_id] = time.time()

    def close(self) -> None:
        """End the thread. What was not handed over is left: a model that is unloaded reaches no metrics any more."""
        self._is_over.set()
        self._thread.join(STOP_WITHIN_S)

    def _run(self) -> None:
        while not self._is_over.wait(WRITTEN_EVERY_S):
            self._hand_over()

    def _hand_over(self) -> None:
        with self._guard:
            new, self._new = self._new, Counter()
            seen_at, self._seen_at = self._seen_at, {}
        for (name, values), number in new.items():
            self._metric(name, values, COUNTERS[name][1]).increment(float(number))
        for camera, at in seen_at.items():
            self._metric(LAST_PICTURE, (camera,), ("camera",)).set(at)

    def _metric(self, name: str, values: Labels, labels: Labels) -> Any:
        if (name, values) not in self._made:
            given = dict(zip(labels, values, strict=True))
            self._made[name, values] = self._families[name].Metric(labels=given)
        return self._made[name, values]
