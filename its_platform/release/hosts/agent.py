"""The sync agent as a process: a pass, a pause, and so on, until a signal says to stop.

What a pass does is in `syncing.py`; that the agent lives is seen by its last pass, which is kept in the home.
"""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime
from types import FrameType

from its_platform.release.hosts.passes import SyncPass, last_pass
from its_platform.release.hosts.syncing import sync
from its_platform.settings import Settings
from its_platform.telemetry import get_log

LOG = get_log(__name__)
# A pass that loads a model on busy cores takes its time.
LATE_S = 120.0


def watch(settings: Settings) -> None:
    """Follow the publisher until a signal says to stop. Raises `BadInput` as `sync` does."""
    is_over: list[bool] = []

    def end(number: int, frame: FrameType | None) -> None:
        is_over.append(True)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    before: SyncPass | None = None
    while not is_over:
        found = sync(settings)
        _tell(before, found)
        before = found
        until = time.monotonic() + settings.hosts.interval_s
        while time.monotonic() < until and not is_over:
            time.sleep(0.2)


def is_following(settings: Settings) -> bool:
    """Whether a pass has ended lately, whatever came of it."""
    done = last_pass(settings)
    if done is None:
        return False
    return (datetime.now(UTC) - done.at).total_seconds() < settings.hosts.interval_s + LATE_S


def words_of_last_pass(settings: Settings) -> str:
    """What the last pass came to, on one line."""
    done = last_pass(settings)
    return done.words if done is not None else "no pass yet"


def _tell(before: SyncPass | None, found: SyncPass) -> None:
    """What is new since the last pass."""
    if before is None or found.generation != before.generation or found.serves != before.serves:
        LOG.info("follows", generation=found.generation, serves=dict(found.serves))
    if found.fetched or found.removed:
        LOG.info("changed", fetched=found.fetched, removed=found.removed)
    if found.refused and (before is None or found.refused != before.refused):
        LOG.error("refused", reasons=found.refused)
    if found.problem and (before is None or found.problem != before.problem):
        LOG.warning("goes on with what it serves", reason=found.problem)
