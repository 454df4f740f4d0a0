"""Which detector answers a request: the stages of `routes.json`, read again when the file changes.

What enters is the stage or the version that a request asks for, or the camera and minute of one that asks for neither;
what leaves is one `Route`. The file is written by the release stage by atomic rename. Nothing about tensors belongs
here, and nothing of Triton.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECK_EVERY_S = 0.2
DEFAULT_STAGE = "production"
CANARY_STAGE = "canary"


class NoRoute(Exception):
    """No detector is served for what was asked."""


@dataclass(frozen=True)
class Route:
    """One served detector. `thresholds[i]` is the least confidence of class `i` that live systems see.

    Of a canary, in per cent of the blocks of camera and minute: `percent` those that it answers, `pairs_percent` those
    of which production is asked as well.
    image_size: side of the square that it takes, or height and width of what is no square.
    """

    stage: str
    model: str
    version: int
    image_size: int | tuple[int, int]
    classes: tuple[str, ...]
    thresholds: tuple[float, ...]
    percent: float = 0.0
    pairs_percent: float = 0.0


class Routes:
    """The routes in force. A file that cannot be read leaves the last good routes standing."""

    def __init__(self, path: Path, default_threshold: float) -> None:
        self._path = path
        self._default_threshold = default_threshold
        self._lock = threading.Lock()
        self._checked_at = 0.0
        self._identity: tuple[int, int, int] | None = None
        self._stages: dict[str, Route] = {}
        self.problem = ""

    def choose(
        self, stage: str | None = None, version: int | None = None, is_fresh: bool = False, block: str = ""
    ) -> Route:
        """The route for a stage, for a served version, or for live traffic, which production and canary share.

        block: camera and minute of a request; all of one block are answered by the same version. `is_fresh` looks at
        the file now, however short ago the last look was. Raises `NoRoute`.
        """
        self._refresh(is_fresh)
        stages = self._stages
        if version is None:
            wanted = stage or (CANARY_STAGE if self._is_for_canary(block) else DEFAULT_STAGE)
            if wanted not in stages:
                raise NoRoute(f"no detector is served at stage '{wanted}' ({self._served()})")
            return stages[wanted]
        candidates = [stages[stage]] if stage in stages else [] if stage else list(stages.values())
        for route in candidates:
            if route.version == version:
                return route
        place = f" at stage '{stage}'" if stage else ""
        raise NoRoute(f"version {version} is not served{place} ({self._served()})")

    def to_compare(self, block: str) -> tuple[Route, Route] | None:
        """Production and canary, where both are to be asked about this block; None where only one is."""
        self._refresh(False)
        stages = self._stages
        production, canary = stages.get(DEFAULT_STAGE), stages.get(CANARY_STAGE)
        if production is None or canary is None or production.version == canary.version or not block:
            return None
        is_drawn = share_of(f"pairs/{canary.version}/{block}") < canary.pairs_percent
        return (production, canary) if is_drawn else None

    def _is_for_canary(self, block: str) -> bool:
        canary = self._stages.get(CANARY_STAGE)
        if canary is None or not block:
            return False
        # The same draw at every weight: a larger share keeps the blocks of the smaller one. The version is part of it,
        # so that it is not always the same cameras that meet what is new.
        return share_of(f"canary/{canary.version}/{block}") < canary.percent

    def _served(self) -> str:
        served = ", ".join(f"{name}: version {route.version}" for name, route in sorted(self._stages.items()))
        return "; ".join(part for part in (f"served: {served or 'none'}", self.problem) if part)

    def _refresh(self, is_fresh: bool) -> None:
        now = time.monotonic()
        if not is_fresh and now - self._checked_at < CHECK_EVERY_S:
            return
        with self._lock:
            self._checked_at = now
            try:
                found = self._path.stat()
                identity = (found.st_mtime_ns, found.st_ino, found.st_size)
                if identity == self._identity:
                    return
                stages = _parse(json.loads(self._path.read_text(encoding="utf-8")), self._default_threshold)
            except FileNotFoundError:
                self._stages, self._identity, self.problem = {}, None, ""
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                self.problem = f"routes.json cannot be read: {error!r}"
            else:
                self._stages, self._identity, self.problem = stages, identity, ""


def share_of(text: str) -> float:
    """Where a text falls between 0 and 100, evenly and always the same."""
    drawn = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(drawn, "big") * 100 / 2**64


def _parse(content: Any, default_threshold: float) -> dict[str, Route]:
    return {
        stage: Route(
            stage=stage,
            model=str(entry["model"]),
            version=int(entry["version"]),
            image_size=_size(entry["image_size"]),
            classes=tuple(entry["classes"]),
            thresholds=tuple(
                float(entry.get("thresholds", {}).get(name, default_threshold)) for name in entry["classes"]
            ),
            percent=float(entry.get("percent", 0)),
            pairs_percent=float(entry.get("pairs_percent", 0)),
        )
        for stage, entry in content["stages"].items()
    }


def _size(value: Any) -> int | tuple[int, int]:
    if isinstance(value, int):
        return value
    height, width = value
    return int(height), int(width)
