"""Evidently's workspace: the newest runs, and a server that holds no pictures of them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from its_platform.monitoring.calibration import ColumnEffect
from its_platform.monitoring.page_server import forget_pictures
from its_platform.monitoring.pages import snapshot_id, write_page
from its_platform.settings import Settings

COLUMNS = ("score", "area")


def write(settings: Settings, name: str) -> Path:
    rng = np.random.default_rng(0)
    window, reference = (pd.DataFrame({one: rng.normal(size=100) for one in COLUMNS}) for _ in range(2))
    effects = {one: ColumnEffect(0.4, 0.5) for one in COLUMNS}
    until = datetime(2026, 5, 1, tzinfo=UTC)
    return write_page(settings, name, window, reference, effects, "psi", {"verdict": "stable"}, until)


def runs(settings: Settings) -> dict[UUID, Path]:
    return {UUID(path.stem): path for path in settings.evidently_workspace.glob("*/snapshots/*.json")}


def test_the_newest_reports_have_a_page(settings: Settings) -> None:
    drift = settings.drift.model_copy(update={"kept_pages": 2})
    two = settings.model_copy(update={"drift": drift})
    pages = [write(two, name) for name in ("first", "second", "first", "third")]
    assert set(runs(settings)) == {snapshot_id("first"), snapshot_id("third")}
    assert {page.stem: page.is_file() for page in pages} == {"first": True, "second": False, "third": True}


def test_the_server_holds_lists_and_lines_and_reads_the_pictures_from_the_file(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from evidently.ui.service.storage.local.base import InMemoryDataStorage, LocalState

    # Is put back afterwards, whatever takes its place.
    monkeypatch.setattr(LocalState, "reload_snapshot", LocalState.reload_snapshot)
    write(settings, "first")
    forget_pictures()
    state = LocalState.load(str(settings.evidently_workspace), None)
    ((project, held),) = state.snapshots.items()
    (run,) = held.values()
    assert (run.name, run.widgets) == ("first", [])
    assert len(run.metric_results) == len(COLUMNS) + 1
    assert not any(result.widget for result in run.metric_results.values())
    series = asyncio.run(InMemoryDataStorage(state.path, state).get_metrics(project, [], {}))
    assert any("ValueDrift" in name for name in series)
    assert json.loads(runs(settings)[snapshot_id("first")].read_text())["widgets"]
