"""What the exporter says when a read fails or hangs, and what it does not import."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from its_platform.errors import ServerUnavailable
from its_platform.metrics.collecting import PlatformCollector, Read

HEAVY = ("torch", "pandas", "mlflow", "evidently", "great_expectations", "ultralytics", "dagster", "deltalake")


def said(reads: dict[str, Read], times: int = 1, within_s: float = 5.0) -> dict[str, float]:
    """The figures of the last of so many collections."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PlatformCollector(reads, within_s))
    text = [generate_latest(registry).decode() for _ in range(times)][-1]
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def well() -> Iterator[Metric]:
    yield GaugeMetricFamily("its_well", "It is well.", value=1)


def away() -> Iterator[Metric]:
    yield GaugeMetricFamily("its_half", "Said before the rest failed.", value=1)
    raise ServerUnavailable("It is away.")


def test_a_read_that_fails_is_absent_whole_and_counted() -> None:
    found = said({"well": well, "away": away}, times=2)
    assert found["its_well"] == 1
    assert "its_half" not in found
    assert found['its_metrics_read_errors_total{read="away"}'] == 2
    assert found['its_metrics_read_errors_total{read="well"}'] == 0


def test_a_read_that_hangs_keeps_nobody_else_and_is_not_begun_twice() -> None:
    begun, over = [], threading.Event()

    def hang() -> Iterator[Metric]:
        begun.append(1)
        over.wait(60)
        yield GaugeMetricFamily("its_late", "Too late.", value=1)

    try:
        found = said({"well": well, "hangs": hang}, times=3, within_s=0.5)
    finally:
        over.set()
    assert found["its_well"] == 1
    assert "its_late" not in found
    assert len(begun) == 1
    assert found['its_metrics_read_errors_total{read="hangs"}'] == 3


def test_the_exporter_imports_nothing_heavy() -> None:
    code = f"""
import contextlib, sys
from its_platform.metrics.__main__ import reads_of
from its_platform.settings import load_settings
away = "postgresql://x@127.0.0.1:1/"
for read in reads_of(load_settings(profile="services", database_url=away, objects_url="s3://a:b@127.0.0.1:1/c")).values():
    with contextlib.suppress(Exception):
        list(read())
print(sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"
