"""One stand for all faults, and what came of them: `faults.json`, and a table at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.record import FaultRecord, table_of, write_records
from faults.stand import Stand, clear, settings_at
from its_platform.settings import REPOSITORY

_RECORDS: list[FaultRecord] = []


@pytest.fixture(scope="session")
def stand() -> Iterator[Stand]:
    """A tiny loop with a served version, below `.its/faults` (or ITS_FAULTS_HOME); all of it is stopped at the end."""
    home = Path(os.environ.get("ITS_FAULTS_HOME", REPOSITORY / ".its" / "faults")).absolute()
    clear(home)
    made = Stand(settings_at(home), records=_RECORDS)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A fault whose test failed has broken its promise, whatever was recorded before."""
    before = len(_RECORDS)
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call" and report.failed and before:
        _RECORDS[-1].is_kept = False


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write `.its/faults.json` and print the table."""
    from rich.console import Console

    if not _RECORDS:
        return
    path = REPOSITORY / ".its" / "faults.json"
    write_records(path, _RECORDS)
    Console().print(table_of(_RECORDS))
    terminalreporter.write_line(f"{path}")
