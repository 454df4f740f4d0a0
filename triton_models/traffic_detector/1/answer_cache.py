"""Answers that were found before: identical pictures are not detected again.

Enters: a picture and the route that is to answer it. Leaves: the detector's rows, from this instance's memory, from a
Redis that all instances share, or from the detector. A key names the picture by its pixels, the model by its version
and file, and how pictures are fitted and thresholds are set; no version is ever answered by another one's rows. What
goes wrong with Redis is counted and never told to the caller. Which requests may be answered so is decided in `model`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import queue
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash
from routing import Route

Rows = npt.NDArray[np.float32]
COLUMNS = 6
NOT_ASKED = frozenset({"stage", "percent", "pairs_percent"})
# What an entry holds beside its rows: the key, the array, the place in the order.
ENTRY_BYTES = 400
REDIS_TIMEOUT_S = 0.05
REDIS_REST_S = 5.0
REDIS_KEEPS_S = 3600
REDIS_PREFIX = b"its:answer:"
MOST_WAITING = 256
# Routes and shapes of pictures whose part of the key is remembered.
MOST_ABOUTS = 256
COUNTED_EVERY_S = 1.0
STOP_WITHIN_S = 2.0


class AnswerCache:
    """Memory first, bounded in bytes, the longest unused leave; then Redis, if there is one.

    models: the folder of the detectors. counts: a file to which every instance adds what happened.
    """

    def __init__(self, models: Path, counts: Path, most_bytes: int, redis: RedisAnswers | None = None) -> None:
        self._models = str(models)
        self._most_bytes = most_bytes
        self._redis = redis
        self._held: OrderedDict[bytes, Rows] = OrderedDict()
        self._bytes = 0
        self._digests: dict[tuple[str, int], tuple[tuple[int, int], str]] = {}
        self._abouts: dict[tuple[Route, str, tuple[int, ...]], bytes] = {}
        self._fitting = hashlib.sha256((Path(__file__).parent / "letterbox.py").read_bytes()).hexdigest()
        self._counts = _Counts(counts)

    def rows(
        self, route: Route, images: npt.NDArray[np.uint8], detect: Callable[[Any], list[Rows]]
    ) -> tuple[list[Rows], list[bool]]:
        """The rows of each picture `[n, H, W, 3]`, and which of them were known; `detect` finds the others."""
        about = self._about(route, images.shape[1:])
        if not about:
            return detect(images), [False] * len(images)
        keys = [about + xxhash.xxh3_128_digest(np.ascontiguousarray(image)) for image in images]
        found = [self._get(key) for key in keys]
        missing = [number for number, rows in enumerate(found) if rows is None]
        if missing:
            asked = images if len(missing) == len(images) else images[missing]
            for number, rows in zip(missing, detect(asked), strict=True):
                found[number] = rows
                self._put(keys[number], rows)
        unknown = set(missing)
        return [rows for rows in found if rows is not None], [number not in unknown for number in range(len(images))]

    def close(self) -> None:
        """Write what was counted, and end the threads."""
        if self._redis is not None:
            self._redis.close()
        self._counts.close()

    def _about(self, route: Route, shape: tuple[int, ...]) -> bytes:
        """Everything beside the pixels that decides the rows; empty where the model's file is not known."""
        digest = self._digest_of(route.model, route.version)
        if not digest:
            return b""
        about = self._abouts.get((route, digest, shape))
        if about is None:
            # The same version answers alike at each stage, and to each share of the traffic.
            described = {name: value for name, value in asdict(route).items() if name not in NOT_ASKED}
            text = json.dumps([described, digest, shape, self._fitting], default=str, sort_keys=True)
            about = hashlib.blake2b(text.encode(), digest_size=16).digest()
            if len(self._abouts) >= MOST_ABOUTS:
                self._abouts.clear()
            self._abouts[route, digest, shape] = about
        return about

    def _digest_of(self, model: str, version: int) -> str:
        path = f"{self._models}/{model}/{version}/version.json"
        try:
            status = os.stat(path)
            identity = (status.st_mtime_ns, status.st_ino)
            known = self._digests.get((model, version))
            if known is not None and known[0] == identity:
                return known[1]
            digest = str(json.loads(Path(path).read_text(encoding="utf-8"))["onnx_digest"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        self._digests[model, version] = (identity, digest)
        return digest

    def _get(self, key: bytes) -> Rows | None:
        rows = self._held.get(key)
        if rows is not None:
            self._held.move_to_end(key)
            self._counts.add("hits_memory")
            return rows
        if self._redis is not None and (rows := self._redis.get(key)) is not None:
            self._counts.add("hits_redis")
            self._hold(key, rows)
            return rows
        self._counts.add("misses")
        return None

    def _put(self, key: bytes, rows: Rows) -> None:
        self._hold(key, rows)
        if self._redis is not None:
            self._redis.put(key, rows)

    def _hold(self, key: bytes, rows: Rows) -> None:
        size = rows.nbytes + ENTRY_BYTES
        if key in self._held or size > self._most_bytes:
            return
        # The log and later answers share these rows.
        rows.setflags(write=False)
        self._held[key] = rows
        self._bytes += size
        while self._bytes > self._most_bytes:
            _, oldest = self._held.popitem(last=False)
            self._bytes -= oldest.nbytes + ENTRY_BYTES
            self._counts.add("evictions")

    def redis_failed(self) -> None:
        self._counts.add("redis_errors")

    def redis_skipped(self) -> None:
        self._counts.add("redis_not_written")


class RedisAnswers:
    """Rows in Redis, each for an hour. After an error Redis is let rest: reads miss, writes are left out.

    Reading waits at most `REDIS_TIMEOUT_S`; writing is done by a thread of its own.
    """

    def __init__(self, url: str) -> None:
        from redis import Redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._client = Redis.from_url(
            url,
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self.on_error: Callable[[], None] = lambda: None
        self.on_skip: Callable[[], None] = lambda: None
        self._rests_until_s = float("-inf")
        self._queue: queue.Queue[tuple[bytes, bytes] | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._write, name="answers-to-redis", daemon=True)
        self._thread.start()

    def get(self, key: bytes) -> Rows | None:
        from redis.exceptions import RedisError

        if time.monotonic() < self._rests_until_s:
            return None
        try:
            content = self._client.get(REDIS_PREFIX + key)
        except (RedisError, OSError):
            self._rest()
            return None
        if content is None:
            return None
        if len(content) % (COLUMNS * 4):
            self.on_error()
            return None
        return np.frombuffer(content, np.float32).reshape(-1, COLUMNS)

    def put(self, key: bytes, rows: Rows) -> None:
        if time.monotonic() < self._rests_until_s:
            self.on_skip()
            return
        try:
            self._queue.put_nowait((REDIS_PREFIX + key, np.ascontiguousarray(rows, np.float32).tobytes()))
        except queue.Full:
            self.on_skip()

    def close(self) -> None:
        try:
            self._queue.put(None, timeout=STOP_WITHIN_S)
        except queue.Full:
            return
        self._thread.join(STOP_WITHIN_S)

    def _write(self) -> None:
        from redis.exceptions import RedisError

        while (item := self._queue.get()) is not None:
            if time.monotonic() < self._rests_until_s:
                self.on_skip()
                continue
            try:
                self._client.set(item[0], item[1], ex=REDIS_KEEPS_S)
            except (RedisError, OSError):
                self._rest()

    def _rest(self) -> None:
        self._rests_until_s = time.monotonic() + REDIS_REST_S
        self.on_error()


class _Counts:
    """Adds up what happened, and every second adds it to a file that all instances share."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cache-counts", daemon=True)
        self._thread.start()

    def add(self, name: str) -> None:
        with self._guard:
            self._new[name] += 1

    def close(self) -> None:
        self._is_over.set()
        self._thread.join(STOP_WITHIN_S)

    def _run(self) -> None:
        while not self._is_over.wait(COUNTED_EVERY_S):
            self._write()
        self._write()

    def _write(self) -> None:
        with self._guard:
            new, self._new = self._new, Counter()
        if not new:
            return
        try:
            _add_to(self._path, new)
        except OSError:
            # A full disk; counted again with the next.
            with self._guard:
                self._new += new


def open_cache(models: Path, state: Path, cache_mb: float) -> AnswerCache | None:
    """The cache of one instance; None where the settings give it neither memory nor Redis.

    Redis' address may hold a password, so it comes in the environment and not in the model's configuration.
    """
    url = os.environ.get("ITS_SERVING__REDIS_URL", "")
    if cache_mb <= 0 and not url:
        return None
    redis = RedisAnswers(url) if url else None
    cache = AnswerCache(models, state / "answer_cache.json", int(cache_mb * 1024 * 1024), redis)
    if redis is not None:
        redis.on_error, redis.on_skip = cache.redis_failed, cache.redis_skipped
    return cache


def _add_to(path: Path, new: Counter[str]) -> None:
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            before = Counter(json.loads(path.read_text(encoding="utf-8"))["counts"])
        except (OSError, ValueError, KeyError, TypeError):
            before = Counter()
        content = {"counts": dict(before + new), "at": datetime.now(UTC).isoformat()}
        # One at a time, so that a full disk is left with one of them.
        partial = path.with_name(f".{path.name}.part")
        partial.write_text(json.dumps(content), encoding="utf-8")
        partial.replace(path)
