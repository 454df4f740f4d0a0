"""Reads everything side by side when Prometheus asks, and says what could not be read.

A read that fails, or takes too long, leaves its figures out and adds one to `its_metrics_read_errors_total`. One that
hangs is not begun again before it has ended.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from threading import Lock

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from its_platform.errors import ItsError
from its_platform.telemetry import get_log

Read = Callable[[], Iterable[Metric]]
# What a server, a file or a row may do to a reader; a mistake in the code is no failed read.
FAILURES = (ItsError, SQLAlchemyError, OSError, ValueError, KeyError, TypeError)
LOG = get_log(__name__)


class PlatformCollector(Collector):
    """Asks every read for its figures. within_s: what is not there by then is left out."""

    def __init__(self, reads: Mapping[str, Read], within_s: float) -> None:
        self._reads = dict(reads)
        self._within_s = within_s
        self._pool = ThreadPoolExecutor(len(self._reads), thread_name_prefix="read")
        self._under_way: dict[str, Future[tuple[list[Metric], float]]] = {}
        self._errors: Counter[str] = Counter()
        self._guard = Lock()

    def describe(self) -> list[Metric]:
        """Nothing: asked beforehand, it would have to read everything."""
        return []

    def warm_up(self) -> None:
        """Read everything once, for what that imports and connects: the first answer would be late with it."""
        for read in self._reads.values():
            with suppress(*FAILURES):
                list(read())

    def collect(self) -> Iterator[Metric]:
        """All figures, one collection at a time."""
        with self._guard:
            begun = {
                name: self._pool.submit(_timed, read)
                for name, read in self._reads.items()
                if name not in self._under_way
            }
            wait(begun.values(), self._within_s)
            self._under_way = {name: future for name, future in (self._under_way | begun).items() if not future.done()}
            seconds = GaugeMetricFamily("its_metrics_read_seconds", "How long a read took.", labels=["read"])
            for name, future in begun.items():
                found = self._result(name, future)
                if found is not None:
                    seconds.add_metric([name], found[1])
                    yield from found[0]
            for name in self._reads.keys() - begun.keys():
                self._errors[name] += 1
            errors = CounterMetricFamily("its_metrics_read_errors", "Reads that failed.", labels=["read"])
            for name in self._reads:
                errors.add_metric([name], self._errors[name])
            yield from (seconds, errors)

    def _result(self, name: str, future: Future[tuple[list[Metric], float]]) -> tuple[list[Metric], float] | None:
        if not future.done():
            self._errors[name] += 1
            LOG.warning("read is late", read=name, within_s=self._within_s)
            return None
        try:
            return future.result()
        except FAILURES as error:
            self._errors[name] += 1
            LOG.warning(
                "read failed", read=name, reason=str(error).strip().splitlines()[0] if str(error) else repr(error)
            )
            return None


class Seldom:
    """A read that is made anew only after so long: what lies elsewhere is not asked with every scrape.

    One that fails is made again at once.
    """

    def __init__(self, read: Read, every_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._read, self._every_s, self._now = read, every_s, now
        self._kept: tuple[float, list[Metric]] | None = None

    def __call__(self) -> list[Metric]:
        if self._kept is None or self._now() - self._kept[0] >= self._every_s:
            self._kept = None
            self._kept = (self._now(), list(self._read()))
        return self._kept[1]


def _timed(read: Read) -> tuple[list[Metric], float]:
    started = time.perf_counter()
    return list(read()), time.perf_counter() - started
