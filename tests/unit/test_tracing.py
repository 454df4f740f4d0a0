"""Which spans a process tells, to whom, and what they carry; and that a collector that is away harms nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from its_platform.serving.processes import free_ports
from trace_collector import collecting

# In a process of its own: who is told is settled once in the life of each.
WORK = """
import sys
from its_platform.telemetry import correlated
from its_platform.tracing import span, traces_told_to
with traces_told_to(sys.argv[1] or None, "run"), correlated(run="r-1"):
    with span("run learn"):
        with span("ingest", camera="north") as note:
            note(added=3)
        try:
            with span("breaks"):
                raise ValueError("of this")
        except ValueError:
            pass
print("done")
"""


def work(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WORK, url], capture_output=True, text=True, check=True, timeout=120)


def test_a_span_lies_below_the_one_it_began_in_and_carries_what_the_log_does() -> None:
    with collecting() as collector:
        work(collector.url)
    run, camera = collector.named("run learn"), collector.named("ingest")
    assert run.parent == ""
    assert (camera.trace, camera.parent) == (run.trace, run.span)
    assert camera.facts == {"its.run": "r-1", "its.camera": "north", "its.added": 3}
    assert run.facts == {"its.run": "r-1"}
    assert {one.process for one in collector.spans} == {"run"}


def test_an_exception_makes_its_span_a_failed_one_and_no_other() -> None:
    with collecting() as collector:
        work(collector.url)
    assert {one.name for one in collector.spans if one.is_failed} == {"breaks"}


def test_without_an_address_nobody_is_told_and_nothing_of_the_sdk_is_loaded() -> None:
    code = WORK + "print(sorted(name for name in sys.modules if name.startswith('opentelemetry.sdk')))"
    done = subprocess.run([sys.executable, "-c", code, ""], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["done", "[]"]


@pytest.mark.timeout(120)
def test_a_collector_that_is_away_costs_a_line_in_the_log_and_no_work() -> None:
    done = work(f"http://127.0.0.1:{free_ports(1)[0]}/v1/traces")
    assert done.stdout.strip() == "done"
    assert "export" in done.stderr
