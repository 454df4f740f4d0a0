"""One stand for the faults of a profile, and what came of them: `faults.json`, and a table at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.record import FaultRecord, table_of, write_records
from faults.stand import Stand, clear, settings_at
from its_platform.settings import REPOSITORY, load_settings
from needs import need_prometheus, need_stores

_STANDS: list[Stand] = []


@pytest.fixture(scope="module")
def stand(request: pytest.FixtureRequest) -> Iterator[Stand]:
    """A tiny loop with a served version in the module's `PROFILE`; all of it is stopped at the end.

    Below `.its/faults`, or ITS_FAULTS_HOME.
    """
    profile = request.module.PROFILE
    if profile == "services":
        need_stores(load_settings())
        need_prometheus()
    home = Path(os.environ.get("ITS_FAULTS_HOME", REPOSITORY / ".its" / "faults")).absolute() / profile
    clear(home)
    made = Stand(settings_at(home, profile))
    _STANDS.append(made)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A fault whose test failed has broken its promise, whatever was recorded before."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call" and report.failed and (records := _records()):
        records[-1].is_kept = False


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write `.its/faults.json` and print the table."""
    from rich.console import Console

    if not (records := _records()):
        return
    path = REPOSITORY / ".its" / "faults.json"
    write_records(path, records)
    Console(width=None if sys.stdout.isatty() else 150).print(table_of(records))
    terminalreporter.write_line(f"{path}")


def _records() -> list[FaultRecord]:
    return [record for stand in _STANDS for record in stand.records]
