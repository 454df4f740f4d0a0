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
from needs import PROMETHEUS, STORES, has_prometheus, has_stores, is_required, need_prometheus, need_stores

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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fail before the embedded profile's half, not after it, where the other's servers are required and missing."""
    if is_required() and (missing := _missing(items)):
        raise pytest.UsageError(f"{' and '.join(missing)} is required here and missing")


def pytest_report_collectionfinish(items: list[pytest.Item]) -> list[str]:
    return [f"The faults of the services profile will be skipped: {what} is missing" for what in _missing(items)]


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


def _missing(items: list[pytest.Item]) -> list[str]:
    """What the chosen faults need and this machine lacks."""
    # The hooks see the tests of every folder that is run.
    if not any(item.path.parent == Path(__file__).parent and _profile(item) == "services" for item in items):
        return []
    there = {STORES: has_stores(load_settings()), PROMETHEUS: has_prometheus()}
    return [what for what, is_there in there.items() if not is_there]


def _profile(item: pytest.Item) -> str:
    return str(getattr(getattr(item, "module", None), "PROFILE", ""))


def _records() -> list[FaultRecord]:
    return [record for stand in _STANDS for record in stand.records]
