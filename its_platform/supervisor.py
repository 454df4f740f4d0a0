"""The process that looks after the others: asks Triton by inference, and starts again what has died.

`its up` starts it last and `its down` stops it first. It decides nothing but restarts, with growing pauses but for the
database, and says each in its log; a model repository that is not whole is mended by `release.restore`, runs that lost
their process are given up by `dagster_runs.settle`. What is alive is asked in `stack.py` and `serving.health`.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import Protocol

from its_platform import dagster_runs, processes
from its_platform.clock import Clock
from its_platform.errors import BadInput, ItsError, LeaseHeld
from its_platform.settings import Settings, load_settings
from its_platform.stores.objects import open_plain
from its_platform.stores.postgres import is_running, log_file, start_postgres
from its_platform.stores.retention import expire, is_expired_here, retention_of
from its_platform.telemetry import configure_logs, get_log, silence_tools

# By name: as a program its module is called __main__.
LOG = get_log("its_platform.supervisor")
PAUSES_S = (0.0, 2.0, 5.0, 15.0, 60.0)
# A part that has stayed up this long has its past forgiven.
_GOOD_CONDUCT_S = 300.0
# A training on the same cores can make one probe late; three in a row are no accident.
_FAILED_PROBES = 3
# Reading the whole model repository, and Dagster's database, is not done with every look.
_REPOSITORY_EVERY_S = 30.0
_RUNS_EVERY_S = 10.0
_EXPIRY_EVERY_S = 86_400.0
_HOSTS_EVERY_S = 10.0
_LOGS_EVERY_S = 60.0


class Watch(Protocol):
    """Looks at one thing from time to time. now: by the monotonic clock."""

    def look(self, now: float) -> None: ...


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
    from its_platform.parts import SUPERVISOR, parts_of
    from its_platform.stack import restart_part

    parts = parts_of(settings)
    restarts = {part.name: Restarts() for part in parts}
    tritons = [part for part in parts if part.name == "triton" or part.replica]
    watches: list[Watch] = [
        TritonWatch(part.own(settings), restarts[part.name], part.name, home=settings) for part in tritons
    ]
    watches.append(LogWatch(settings))
    if not settings.is_host:
        watches += [RepositoryWatch(settings), RunWatch(settings), ExpiryWatch(settings), HostsWatch(settings)]
    clock = Clock()
    while not is_over:
        _guarded("heartbeat", lambda: _beat(settings, clock))
        now = time.monotonic()
        if settings.runs_postgres:
            _guarded("PostgreSQL", lambda: _keep_postgres(settings))
        for part in parts:
            record = processes.read_record(settings, part.name)
            if part.name == SUPERVISOR or record is None or is_over:
                continue
            if processes.find(record) is not None:
                restarts[part.name].forgive(now)
            elif now >= restarts[part.name].next_at():
                restarts[part.name].note(now)
                words = processes.tail(settings.logs / f"{part.name}.log")
                LOG.warning("died and is started again", part=part.name, last_words=words)
                # Nothing waits for it here: the others are to be looked after meanwhile.
                restart = partial(restart_part, settings, part.name, is_patient=False, seen=record)
                _guarded(part.title, restart)
        for watch in watches:
            if not is_over:
                _guarded(type(watch).__name__, lambda watch=watch, now=now: watch.look(now))  # type: ignore[misc]
        _sleep(settings.serving.probe_interval_s, is_over)


@dataclass
class TritonWatch:
    """Probes Triton; loads anew what does not answer, and restarts a server that does not come back by that.

    settings: those of this replica; home: those of all of them. answered: the process that has answered before, since
    one that has not may still be starting.
    """

    settings: Settings
    restarts: Restarts
    part: str = "triton"
    failed: int = 0
    answered: int | None = None
    home: Settings | None = None

    def look(self, now: float) -> None:
        """One look."""
        from its_platform.parts import part_named
        from its_platform.serving.health import probe, revive
        from its_platform.stack import restart_part

        home = self.home or self.settings
        process = processes.find(processes.read_record(self.settings, self.part))
        if process is None:
            return
        try:
            results = probe(self.settings)
        except BadInput as error:
            # The front goes on with the last good routes; the truth has them too.
            LOG.error("routes cannot be read", part=self.part, reason=str(error))
            _restore(home)
            return
        ill = [result for result in results if not result.is_healthy]
        if not ill:
            self.failed, self.answered = 0, process.pid
            return
        # It listens once every model was tried: one that answers, in whatever words, has started.
        is_starting = self.answered != process.pid and (results[0].is_silent or results[0].is_away)
        if is_starting and processes.age_s(process) < part_named("triton").start_timeout_s:
            return
        self.failed += 1
        LOG.warning("does not answer", part=self.part, model=ill[0].model, reason=ill[0].problem)
        if self.failed < _FAILED_PROBES:
            return
        try:
            LOG.warning("loaded anew", part=self.part, models=revive(self.settings))
            self.failed = 0
            return
        except ItsError as error:
            LOG.error("loading anew did not help", part=self.part, reason=str(error))
        if not results[0].is_away:
            _guarded("the model repository", lambda: _restore(home))
        if self.failed >= 2 * _FAILED_PROBES and now >= self.restarts.next_at():
            self.restarts.note(now)
            self.failed = 0
            LOG.warning("is restarted", part=self.part)
            _guarded("Triton", lambda: restart_part(home, self.part, is_patient=False))


@dataclass
class RepositoryWatch:
    """Has versions whose files are not whole replaced or removed before Triton is restarted and needs them."""

    settings: Settings
    next_at: float = 0.0

    def look(self, now: float) -> None:
        from its_platform.release import mend
        from its_platform.serving.repository import broken_versions
        from its_platform.stores import open_stores

        if now < self.next_at:
            return
        self.next_at = now + _REPOSITORY_EVERY_S
        broken = broken_versions(self.settings)
        for (model, version), flaw in broken.items():
            LOG.warning("version is not whole", model=model, version=version, reason=flaw)
        if broken:
            mend(open_stores(self.settings))


@dataclass
class RunWatch:
    """Gives up runs whose process is gone, where Dagster did not notice, and frees sensors that wait for a past time.

    A run is given up when it was seen without a process at two looks: Dagster itself is to have the first word.
    """

    settings: Settings
    next_at: float = 0.0
    seen: frozenset[str] = frozenset()

    def look(self, now: float) -> None:
        from its_platform.stack import restart_part

        if now < self.next_at or processes.read_record(self.settings, "dagster-daemon") is None:
            return
        self.next_at = now + _RUNS_EVERY_S
        without = frozenset(run.run_id for run in dagster_runs.cut_off_runs(self.settings))
        lost, self.seen = without & self.seen, without
        if lost:
            LOG.warning("runs without a process are given up", runs=sorted(lost))
            dagster_runs.settle(self.settings, sorted(lost))
        if dagster_runs.ticks_ahead_s(self.settings) > dagster_runs.CLOCK_TOLERANCE_S:
            LOG.warning("the clock was set back; Dagster's daemon is restarted, or its sensors would wait")
            restart_part(self.settings, "dagster-daemon", is_patient=False)


@dataclass
class ExpiryWatch:
    """Removes objects that have expired, once a day, where the server does not; beside the other watches."""

    settings: Settings
    next_at: float = 0.0
    work: threading.Thread | None = None

    def look(self, now: float) -> None:
        if now < self.next_at or (self.work is not None and self.work.is_alive()):
            return
        self.next_at = now + _EXPIRY_EVERY_S
        if is_expired_here(self.settings):
            # Walking over millions of objects must not keep Triton waiting.
            self.work = threading.Thread(target=lambda: _guarded("expiry", self._expire), name="expiry", daemon=True)
            self.work.start()

    def _expire(self) -> None:
        removed = expire(open_plain(self.settings), retention_of(self.settings))
        if removed:
            LOG.warning("objects and versions that had expired are removed", count=removed)


@dataclass
class LogWatch:
    """Has logs that grow too long begin anew: a part that lives for months never gets to its next start."""

    settings: Settings
    next_at: float = 0.0

    def look(self, now: float) -> None:
        if now < self.next_at:
            return
        self.next_at = now + _LOGS_EVERY_S
        for log in self.settings.logs.glob("*.log"):
            processes.rotate(log)


@dataclass
class HostsWatch:
    """Tells hosts elsewhere what is served, where a release could not, or changed no more than a canary's share."""

    settings: Settings
    next_at: float = 0.0

    def look(self, now: float) -> None:
        from its_platform.release.hosts.publishing import is_untold, publish
        from its_platform.release.truth import lease
        from its_platform.stores import open_stores

        if now < self.next_at:
            return
        self.next_at = now + _HOSTS_EVERY_S
        stores = open_stores(self.settings)
        # Whoever holds the lease tells them, or the next look does.
        with suppress(LeaseHeld):
            if is_untold(stores):
                with lease(stores) as held:
                    told = publish(held)
                if told is not None:
                    LOG.info("hosts were told what is served", generation=told.wish.generation)


def _keep_postgres(settings: Settings) -> None:
    """Start the database where it is gone. Without pauses: whoever asks it next would start it all the same."""
    if not is_running(settings):
        LOG.warning("died and is started again", part="postgres", last_words=processes.tail(log_file(settings)))
        start_postgres(settings)


def _restore(settings: Settings) -> None:
    """Have Triton hold what the truth says, from files that are whole; at a host that is the sync agent's business."""
    if settings.is_host:
        return
    from its_platform.release import restore
    from its_platform.stores import open_stores

    try:
        changes = restore(open_stores(settings))
    except LeaseHeld:
        # Whoever changes what is served looks at the same files first.
        return
    for change in changes:
        LOG.warning(
            "release changed", stage=change.stage, version=change.version, change=change.kind, reason=change.reason
        )


def _guarded(what: str, work: Callable[[], None]) -> None:
    try:
        work()
    except (ItsError, OSError) as error:
        LOG.error("failed", what=what, reason=str(error))
    except Exception:
        # The edge of a process that nobody revives: one odd error must not leave all the others unwatched.
        LOG.exception("failed", what=what)


def _beat(settings: Settings, clock: Clock) -> None:
    if step_s := clock.look():
        LOG.warning("the clock was set", by_s=round(step_s))
    path = settings.home / "run" / "supervisor-beat.json"
    unfinished = path.with_suffix(".part")
    seen = {"clock_offset_s": clock.offset_s, "clock_set_by_s": clock.set_by_s}
    # By the machine's monotonic clock, which its processes share and nobody sets.
    unfinished.write_text(json.dumps({"pid": os.getpid(), "at": time.monotonic(), **seen}))
    unfinished.replace(path)


def _sleep(seconds: float, is_over: list[bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not is_over:
        time.sleep(min(0.2, seconds))


def main() -> None:
    """Run until a signal says to stop."""
    silence_tools()
    configure_logs("supervisor")
    is_over: list[bool] = []

    def end(number: int, frame: FrameType | None) -> None:
        is_over.append(True)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    supervise(load_settings(), is_over)


if __name__ == "__main__":
    main()
