"""A drift report as a page for people: Evidently's HTML, and a run in the workspace that Evidently's server shows.

Enter: the tables of figures that were compared and the effects and thresholds that were found. Leave: a self-contained
HTML file and a snapshot in the project `traffic_detector`. Evidently is told each figure rather than asked for it, so
that its page, the database and the decision say the same number.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its_platform.monitoring.calibration import EMBEDDING, ColumnEffect
from its_platform.private_files import alone
from its_platform.settings import Settings
from its_platform.telemetry import silence_tools

if TYPE_CHECKING:
    import pandas as pd

PROJECT = "traffic_detector"
METHOD_NAMES = {
    "psi": "PSI by camera and light",
    "wasserstein": "Wasserstein distance by camera and light",
    EMBEDDING: "energy distance by camera and light",
}


def ensure_workspace(settings: Settings) -> None:
    """Make the workspace and its one project if they are not there."""
    _project(settings)


def write_page(
    settings: Settings,
    name: str,
    window: pd.DataFrame,
    reference: pd.DataFrame,
    effects: Mapping[str, ColumnEffect],
    method: str,
    facts: Mapping[str, str],
    until: datetime,
) -> Path:
    """Write `home/reports/<name>.html` and put the run into the workspace; doing it again changes nothing.

    window, reference: one numeric column for each key of `effects`. facts: what stands with the run in the workspace.
    """
    silence_tools()
    snapshot = _snapshot(name, window, reference, effects, method, facts, until)
    folder = settings.home / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    page, partial = folder / f"{name}.html", folder / f".{name}.html.part"
    snapshot.save_html(str(partial))
    os.replace(partial, page)
    workspace, project = _project(settings)
    # `add_run` would draw a new id, and a report that was cut short and made again would stand there twice.
    workspace.state.write_snapshot(project.id, snapshot_id(name), snapshot.to_snapshot_model())
    _forget_older(settings.evidently_workspace / str(project.id) / "snapshots", folder, settings.drift.kept_pages)
    return page


def snapshot_id(name: str) -> uuid.UUID:
    """The id of a report's run in the workspace."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{PROJECT}/{name}")


def _forget_older(runs: Path, pages: Path, keep: int) -> None:
    """Remove all runs but the newest, and their pages: each is several MB, and there is one every window."""
    written = {path: path.stat().st_mtime_ns for path in runs.glob("*.json")}
    old = sorted(written, key=lambda one: written[one])[:-keep]
    page_of = {str(snapshot_id(page.stem)): page for page in pages.glob("*.html")} if old else {}
    for run in old:
        if run.stem in page_of:
            page_of[run.stem].unlink(missing_ok=True)
        run.unlink(missing_ok=True)


def _snapshot(
    name: str,
    window: pd.DataFrame,
    reference: pd.DataFrame,
    effects: Mapping[str, ColumnEffect],
    method: str,
    facts: Mapping[str, str],
    until: datetime,
) -> Any:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import DriftedColumnsCount, ValueDrift

    names = _register(effects, method)
    columns = sorted(effects, key=lambda column: -effects[column].ratio)
    thresholds = {column: effects[column].threshold for column in columns}
    definition = DataDefinition(numerical_columns=columns)
    report = Report(
        [
            # One drifted column is enough, as in the decision.
            DriftedColumnsCount(
                columns=columns,
                drift_share=0.5 / max(1, len(columns)),
                per_column_method=names,
                per_column_threshold=thresholds,
            ),
            *[ValueDrift(column=c, method=names[c], threshold=thresholds[c]) for c in columns],
        ],
        include_tests=True,
        metadata=dict(facts),
        tags=[facts.get("verdict", "")],
    )
    return report.run(
        Dataset.from_pandas(window[columns].astype(float), data_definition=definition),
        Dataset.from_pandas(reference[columns].astype(float), data_definition=definition),
        timestamp=until,
        name=name,
    )


def _register(effects: Mapping[str, ColumnEffect], method: str) -> dict[str, str]:
    """Register statistical tests with Evidently that give the figures found; returns the test of each column."""
    from evidently.legacy.calculations.stattests.registry import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    def found(reference: pd.Series, current: pd.Series, kind: Any, threshold: float) -> tuple[float, bool]:
        effect = effects[str(current.name)]
        return effect.effect, effect.is_drifted

    for key in (method, EMBEDDING):
        test = StatTest(f"{key}_by_stratum", METHOD_NAMES[key], [ColumnType.Numerical])
        register_stattest(test, found)
    return {column: f"{EMBEDDING if column == EMBEDDING else method}_by_stratum" for column in effects}


def _project(settings: Settings) -> tuple[Any, Any]:
    from evidently.ui.workspace import Workspace

    path = settings.evidently_workspace
    path.mkdir(parents=True, exist_ok=True)
    with alone(path / ".lock"):
        workspace = Workspace.create(str(path))
        known = workspace.search_project(PROJECT)
        if known:
            return workspace, known[0]
        about = "Drift of the live cameras against the served model's reference."
        return workspace, workspace.create_project(PROJECT, about)
