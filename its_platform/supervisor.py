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
_FAILED_PROBES = 2
# The embedded server is only asked to take a connection; Triton is asked to infer, which costs.
_POSTGRES_INTERVAL_S = 2.0


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
    failed_probes = 0
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
                LOG.warning(
                    "%s has died and is started again: %s",
                    part.title,
                    processes.tail(settings.logs / f"{part.name}.log"),
                )
                _guarded(part.title, lambda name=part.name: restart_part(settings, name))  # type: ignore[misc]
        failed_probes = _look_after_triton(settings, failed_probes, restarts["triton"])
        _sleep(settings.serving.probe_interval_s, is_over)


def _look_after_triton(settings: Settings, failed_probes: int, restarts: Restarts) -> int:
    """Probe; load anew what does not answer; restart a server that does not come back by that."""
    from its_platform.serving.health import probe, revive
    from its_platform.stack import restart_part

    if processes.find(processes.read_record(settings, "triton")) is None:
        return 0
    try:
        ill = [result for result in probe(settings) if not result.is_healthy]
    except ItsError as error:
        LOG.warning("Triton could not be asked: %s", error)
        return failed_probes + 1
    if not ill:
        return 0
    failed_probes += 1
    LOG.warning("Triton's %s: %s", ill[0].model, ill[0].problem)
    if failed_probes < _FAILED_PROBES:
        return failed_probes
    try:
        LOG.warning("loaded anew: %s", ", ".join(revive(settings)) or "nothing")
        return 0
    except ItsError as error:
        LOG.error("loading anew did not help: %s", error)
    now = time.monotonic()
    if failed_probes > 2 * _FAILED_PROBES and now >= restarts.next_at():
        restarts.note(now)
        LOG.warning("Triton is restarted")
        _guarded("Triton", lambda: restart_part(settings, "triton"))
        return 0
    return failed_probes


def _guarded(what: str, work: object) -> None:
    try:
        work()  # type: ignore[operator]
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
