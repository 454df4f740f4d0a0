"""The front's log: JSON lines of the same kind as the platform's own, on the server's standard error.

structlog is not in this environment. A caller that asks again and again for what is refused must not fill the disk: of
each kind of line one a second is written, which says how many were not.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime

PROCESS = "traffic_detector"
PAUSE_S = 1.0

_said_at: dict[str, float] = {}
_left_out: Counter[str] = Counter()


def warn(event: str, **facts: object) -> None:
    """Say what happened, with the request and the camera that it belongs to among the facts."""
    now = time.monotonic()
    if now - _said_at.get(event, float("-inf")) < PAUSE_S:
        _left_out[event] += 1
        return
    _said_at[event] = now
    line = {"process": PROCESS, "event": event, **facts, "level": "warning", "at": datetime.now(UTC).isoformat()}
    if left_out := _left_out.pop(event, 0):
        line["left_out"] = left_out
    # On a full disk the line is lost, and not the answer that it tells of.
    with suppress(OSError):
        sys.stderr.write(json.dumps(line, default=str) + "\n")
        sys.stderr.flush()
