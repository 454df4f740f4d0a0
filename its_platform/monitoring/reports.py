"""Drift reports as records: the value, the row in `drift_reports`, and the details beside the page.

A report is written once, under a run key made of all that went into it, and never changed. How it is made belongs in
`drift`, what several of them mean in `windows`.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

from its_platform.errors import NotFound
from its_platform.stores import Stores
from its_platform.stores.schema import DriftReportRow

Verdict = Literal["drifted", "stable", "not_judged"]


@dataclass(frozen=True)
class DriftReport:
    """How the live rows of one version in `[since, until)` compare with its reference.

    score: the worst column's effect as a multiple of its threshold (so `threshold` is 1); None where not judged.
    columns: `{name: {effect, threshold, drifted}}`. unseen_strata: camera and light of rows that the reference has
    never seen. reason: why in one sentence. details: rows and blocks behind the figures, what was left out, and
    the Dagster run that made it.
    """

    id: str
    run_key: str
    model_version: int
    since: datetime
    until: datetime
    rows: int
    score: float | None
    threshold: float
    is_drifted: bool
    columns: dict[str, dict[str, Any]]
    unseen_strata: list[str]
    verdict: Verdict
    reason: str
    html: Path | None
    created_at: datetime
    details: dict[str, Any] = field(default_factory=dict)


def report_path(stores: Stores, report_id: str) -> Path:
    """The page of a report."""
    return stores.settings.home / "reports" / f"{report_id}.html"


def save_report(stores: Stores, report: DriftReport) -> None:
    """Record a report; a second one under the same run key changes nothing."""
    from sqlalchemy.dialects.postgresql import insert

    _write_details(stores, report)
    values = {
        "id": report.id,
        "at": report.created_at,
        "model_version": report.model_version,
        "since": report.since,
        "until": report.until,
        "rows": report.rows,
        "score": report.score,
        "threshold": report.threshold,
        "is_drifted": report.is_drifted,
        "verdict": report.verdict,
        "columns": report.columns,
        "unseen": report.unseen_strata,
        "html": str(report.html) if report.html else None,
        "run_key": report.run_key,
    }
    with stores.database.session() as session:
        session.execute(insert(DriftReportRow).values(**values).on_conflict_do_nothing())


def find_report(stores: Stores, run_key: str) -> DriftReport | None:
    """The report made under this run key, or None where there is none."""
    with stores.database.session() as session:
        row = session.scalar(sa.select(DriftReportRow).where(DriftReportRow.run_key == run_key))
        return _report(stores, row) if row else None


def get_report(stores: Stores, report_id: str) -> DriftReport:
    """Raises `NotFound`."""
    with stores.database.session() as session:
        row = session.get(DriftReportRow, report_id)
        if row is None:
            raise NotFound(f"There is no drift report {report_id}.", "`its monitor list` names them.")
        return _report(stores, row)


def list_reports(
    stores: Stores, version: int | None = None, limit: int | None = None, by: datetime | None = None
) -> list[DriftReport]:
    """Reports, the latest window first; those made by a moment, where one is named."""
    query = sa.select(DriftReportRow).order_by(DriftReportRow.until.desc(), DriftReportRow.at.desc())
    if version is not None:
        query = query.where(DriftReportRow.model_version == version)
    if by is not None:
        query = query.where(DriftReportRow.at <= by)
    with stores.database.session() as session:
        return [_report(stores, row) for row in session.scalars(query.limit(limit))]


def _report(stores: Stores, row: DriftReportRow) -> DriftReport:
    extra, page = _read_details(stores, row.id), report_path(stores, row.id)
    return DriftReport(
        id=row.id,
        run_key=row.run_key,
        model_version=row.model_version,
        since=row.since.astimezone(UTC),
        until=row.until.astimezone(UTC),
        rows=row.rows,
        score=row.score,
        threshold=1.0 if row.threshold is None else row.threshold,
        is_drifted=row.is_drifted,
        columns=row.columns,
        unseen_strata=list(row.unseen),
        verdict=row.verdict,  # type: ignore[arg-type]
        reason=str(extra.get("reason", "")),
        # An old report has its page no more, and a restored home lies elsewhere than the row says.
        html=page if row.html and page.is_file() else None,
        created_at=row.at.astimezone(UTC),
        details=dict(extra.get("details", {})),
    )


def _write_details(stores: Stores, report: DriftReport) -> None:
    """The whole report as JSON beside its page, for people and for `details`, which the table has no column for."""
    path = report_path(stores, report.id).with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".json.part")
    partial.write_text(json.dumps(asdict(report), default=str, indent=1), "utf-8")
    os.replace(partial, path)


def _read_details(stores: Stores, report_id: str) -> dict[str, Any]:
    path = report_path(stores, report_id).with_suffix(".json")
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found
