"""The process that looks after the others: asks Triton by inference, and starts again what has died.

`its up` starts it last and `its down` stops it first. It decides nothing but restarts, with growing pauses, and says
each in its log. What is alive is asked in `stack.py` and `serving.health`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

from its_platform import processes
from its_platform.errors import ItsError
from its_platform.settings import Settings, load_settings
from its_platform.stores.postgres import start_postgres
from its_platform.telemetry import silence_tools

LOG = logging.getLogger("its.supervisor")
PAUSES_S = (0.0, 2.0, 5.0, 15.0, 60.0)
# A part that has stayed up this long has its past forgiven.
_GOOD_CONDUCT_S = 300.0
# A training on the same cores can make one probe late; three in a row are no accident.
_FAILED_PROBES = 3


@dataclass
class Restarts:
    """When a part may be started again: at once at first, then after growing pauses."""

    times: list[float] = field(default_factory=list)

    def next_at(self) -> float:
        """The earliest moment, on the monotonic clock."""
        if not self.times:
            return 0.0
        return self.times[-1] + PAUSES_S[min(len(self.times), len(PAUSES_S) - 1)]

    def note(self, now: float) -> None:
        self.times.append(now)

    def forgive(self, now: float) -> None:
        if self.times and now - self.times[-1] > _GOOD_CONDUCT_S:
            self.times.clear()


def supervise(settings: Settings, is_over: list[bool]) -> None:
    """Look after the parts that were started, until `is_over` holds something."""
    from its_platform.stack import PARTS, SUPERVISOR, restart_part

    restarts = {part.name: Restarts() for part in PARTS}
    watch = TritonWatch(settings, restarts["triton"])
    while not is_over:
        _beat(settings)
        now = time.monotonic()
        if settings.database_url is None:
            _guarded("PostgreSQL", lambda: start_postgres(settings))
        for part in PARTS:
            record = processes.read_record(settings, part.name)
            if part.name == SUPERVISOR or record is None or is_over:
                continue
            if processes.find(record) is not None:
                restarts[part.name].forgive(now)
            elif now >= restarts[part.name].next_at():
                restarts[part.name].note(now)
                words = processes.tail(settings.logs / f"{part.name}.log")
                LOG.warning("%s has died and is started again; its last words: %s", part.title, words)
                # Nothing waits for it here: the others are to be looked after meanwhile.
                _guarded(part.title, lambda name=part.name: restart_part(settings, name, is_patient=False))  # type: ignore[misc]
        watch.look(now)
        _sleep(settings.serving.probe_interval_s, is_over)


@dataclass
class TritonWatch:
    """Probes Triton; loads anew what does not answer, and restarts a server that does not come back by that."""

    settings: Settings
    restarts: Restarts
    failed: int = 0
    answered: int | None = None

    def look(self, now: float) -> None:
        """One look. `answered` is the process that has answered before: one that has not is still starting."""
        from its_platform.serving.health import probe, revive
        from its_platform.stack import part_named, restart_part

        process = processes.find(processes.read_record(self.settings, "triton"))
        if process is None:
            return
        try:
            ill = [result for result in probe(self.settings) if not result.is_healthy]
            problem = f"{ill[0].model}: {ill[0].problem}" if ill else ""
        except ItsError as error:
            problem = str(error)
        if not problem:
            self.failed, self.answered = 0, process.pid
            return
        is_starting = self.answered != process.pid
        if is_starting and time.time() - process.create_time() < part_named("triton").start_timeout_s:
            return
        self.failed += 1
        LOG.warning("Triton, %s", problem)
        if self.failed < _FAILED_PROBES:
            return
        try:
            LOG.warning("loaded anew: %s", ", ".join(revive(self.settings)) or "nothing")
            self.failed = 0
        except ItsError as error:
            LOG.error("loading anew did not help: %s", error)
            if self.failed >= 2 * _FAILED_PROBES and now >= self.restarts.next_at():
                self.restarts.note(now)
                self.failed = 0
                LOG.warning("Triton is restarted")
                _guarded("Triton", lambda: restart_part(self.settings, "triton", is_patient=False))


def _guarded(what: str, work: Callable[[], None]) -> None:
    try:
        work()
    except (ItsError, OSError) as error:
        LOG.error("%s: %s", what, error)


def _beat(settings: Settings) -> None:
    path = settings.home / "run" / "supervisor-beat.json"
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps({"pid": os.getpid(), "at": time.time()}))
    unfinished.replace(path)


def _sleep(seconds: float, is_over: list[bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not is_over:
        time.sleep(min(0.2, seconds))


def main() -> None:
    """Run until a signal says to stop."""
    silence_tools()
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    is_over: list[bool] = []

    def end(number: int, frame: FrameType | None) -> None:
        is_over.append(True)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervise(load_settings(), is_over)


if __name__ == "__main__":
    main()
