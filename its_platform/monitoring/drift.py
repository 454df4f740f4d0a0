"""A drift report: the live rows of the served version in one window, against that version's own reference.

Enters: a window of time. Leaves: a recorded `DriftReport` with its page. The statistics are in `calibration`, the page
in `pages`; several windows together are judged in `windows`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from its_platform.errors import BadInput, NotFound
from its_platform.monitoring import calibration, pages, predictions, reports, strata
from its_platform.monitoring.reports import DriftReport, Verdict
from its_platform.monitoring.strata import Cell
from its_platform.monitoring.windows import next_window
from its_platform.release.truth import served
from its_platform.stores import Stores
from its_platform.stores.runs import made_by
from its_platform.telemetry import Progress, no_progress

if TYPE_CHECKING:
    import pandas as pd

THRESHOLD = 1.0
STEPS = 4


def report(
    stores: Stores, since: datetime, until: datetime, progress: Progress = no_progress, version: int | None = None
) -> DriftReport:
    """The report on `[since, until)`; the same rows in the same window give the report that is already there.

    version: the served one unless given. Below `drift.minimum_rows`, or without a reference, the verdict is
    `not_judged` with the reason. A read that fails raises: no report is never "no drift".
    """
    if until <= since:
        raise BadInput("The window ends before it begins.", "Give --since and --until in order of time.")
    if version is None:
        release = served(stores, "production")
        if release is None:
            raise NotFound("No version is served in production.", "`its release list` shows what is.")
        version = release.version
    since, until = since.astimezone(UTC), until.astimezone(UTC)
    progress("drift report", 0, STEPS, "reading")
    with stores.database.lock("drift_report"):
        live = predictions.query(stores, since, until, purpose="live", version=version, canary=False)
        live = _each_once(live)
        reference = _each_once(predictions.query(stores, purpose="reference", version=version))
        key = run_key(stores, version, since, until, live, reference)
        known = reports.find_report(stores, key)
        if known is not None:
            progress("drift report", STEPS, STEPS, known.verdict)
            return known
        made = _judge(stores, version, since, until, key, live, reference, progress)
        made = replace(made, details={**made.details, **made_by()})
        reports.save_report(stores, made)
    progress("drift report", STEPS, STEPS, made.verdict)
    return made


def report_due_windows(stores: Stores, progress: Progress = no_progress) -> list[DriftReport]:
    """Reports on every live window of the served version that has ended and has none yet, oldest first."""
    made: list[DriftReport] = []
    while (window := next_window(stores)) is not None:
        made.append(report(stores, *window, progress=progress))
    return made


def run_key(
    stores: Stores, version: int, since: datetime, until: datetime, live: pd.DataFrame, reference: pd.DataFrame
) -> str:
    """Names a report by all that goes into it: version, window, rows on both sides and settings."""
    settings = stores.settings.drift
    digest = hashlib.sha256()
    for part in (settings.method, settings.minimum_rows, settings.false_alarm_rate, stores.settings.dataset.block_s):
        digest.update(f"{part};".encode())
    for rows in (live, reference):
        digest.update(("\n".join(sorted(rows["row_key"])) + "|").encode())
    return f"v{version}/{since:%Y%m%dT%H%M%S.%f}/{until:%Y%m%dT%H%M%S.%f}/{digest.hexdigest()[:16]}"


def _judge(
    stores: Stores,
    version: int,
    since: datetime,
    until: datetime,
    key: str,
    live: pd.DataFrame,
    reference: pd.DataFrame,
    progress: Progress,
) -> DriftReport:
    settings = stores.settings.drift
    facts: dict[str, Any] = {
        "id": f"v{version}-{since:%Y%m%dT%H%M%S}-{hashlib.sha256(key.encode()).hexdigest()[:8]}",
        "run_key": key,
        "model_version": version,
        "since": since,
        "until": until,
        "rows": len(live),
        "threshold": THRESHOLD,
        "created_at": datetime.now(UTC),
    }
    refusal = _refusal(len(live), len(reference), version, settings.minimum_rows)
    if refusal:
        return _not_judged(facts, refusal)
    cells = strata.cells(live, reference, stores.settings.dataset.block_s)
    classes = strata.common_classes(reference)
    window_figures, reference_figures = strata.figures(live, classes), strata.figures(reference, classes)
    vectors, remark = comparable_embeddings(live, reference)
    progress("drift report", 1, STEPS, f"{len(live)} live rows, {len(reference)} of the reference")
    found = calibration.calibrate(
        cells,
        window_figures,
        reference_figures,
        vectors,
        settings.method,
        settings.false_alarm_rate,
        seed=int(hashlib.sha256(key.encode()).hexdigest()[:8], 16),
    )
    if not found.columns:
        return _not_judged(facts, "No column has enough values on both sides.")
    progress("drift report", 2, STEPS, "writing the page")
    worst = max(found.columns, key=lambda name: found.columns[name].ratio)
    score = float(found.columns[worst].ratio)
    is_drifted = score >= THRESHOLD
    verdict: Verdict = "drifted" if is_drifted else "stable"
    reason = _reason(found.columns, worst)
    unseen = strata.unseen(cells)
    shown = _shown(window_figures, reference_figures, vectors, cells)
    html = pages.write_page(
        stores.settings,
        facts["id"],
        *shown,
        found.columns,
        settings.method,
        {
            "verdict": verdict,
            "model_version": str(version),
            "window": f"{since:%Y-%m-%d %H:%M:%S} to {until:%H:%M:%S} UTC",
            "score": f"{score:.2f}",
            "reason": reason,
            "unseen": ", ".join(unseen) or "none",
        },
        until,
    )
    return DriftReport(
        **facts,
        score=score,
        is_drifted=is_drifted,
        columns={
            name: {"effect": float(c.effect), "threshold": float(c.threshold), "drifted": bool(c.is_drifted)}
            for name, c in found.columns.items()
        },
        unseen_strata=unseen,
        verdict=verdict,
        reason=reason,
        html=html,
        details={
            "method": settings.method,
            "worst": worst,
            "reference_rows": len(reference),
            "blocks": found.blocks,
            "allowance": found.allowance,
            "embedding": remark,
            "strata": [
                {"name": c.name, "seen": c.seen, "rows": len(c.window), "reference_rows": len(c.reference)}
                for c in cells
            ],
        },
    )


def comparable_embeddings(
    live: pd.DataFrame, reference: pd.DataFrame
) -> tuple[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None, str]:
    """Embeddings of both sides if one and the same embedder made all of them; else None, and why not."""
    embedders = {str(name)[:19] for rows in (live, reference) for name in rows["embedder"].dropna().unique()}
    if len(embedders) > 1:
        return None, f"not compared: made by different embedders ({', '.join(sorted(embedders))})"
    ours, theirs = strata.embeddings(live), strata.embeddings(reference)
    if ours is None or theirs is None or not embedders:
        return None, "not compared: one side has none"
    return (ours, theirs), f"compared: {embedders.pop()}"


def _each_once(rows: pd.DataFrame) -> pd.DataFrame:
    """A picture that was asked about twice (a client that tried again) counts once."""
    return rows.drop_duplicates(["camera_id", "at"], ignore_index=True)


def _refusal(rows: int, reference_rows: int, version: int, minimum: int) -> str:
    if rows < minimum:
        return f"The window has {rows} live rows of version {version}; {minimum} are needed."
    if reference_rows < strata.MINIMUM_CELL_ROWS:
        return f"Version {version} has {reference_rows} reference rows; at least {strata.MINIMUM_CELL_ROWS} are needed."
    return ""


def _not_judged(facts: dict[str, Any], reason: str) -> DriftReport:
    return DriftReport(
        **facts,
        score=None,
        is_drifted=False,
        columns={},
        unseen_strata=[],
        verdict="not_judged",
        reason=reason,
        html=None,
    )


def _reason(columns: dict[str, calibration.ColumnEffect], worst: str) -> str:
    drifted = sum(column.is_drifted for column in columns.values())
    figure = columns[worst]
    said = f"{worst} is {figure.ratio:.1f} times its threshold ({figure.effect:.2f} against {figure.threshold:.2f})"
    if not drifted:
        return f"No column of {len(columns)} is beyond its threshold; the nearest: {said}."
    return f"{drifted} of {len(columns)} columns are beyond their thresholds; the worst: {said}."


def _shown(
    window: pd.DataFrame,
    reference: pd.DataFrame,
    vectors: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None,
    cells: Sequence[Cell],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that were compared, for the page; an embedding shows as its distance from its cell's centre."""
    window, reference = window.copy(), reference.copy()
    if vectors is not None:
        window[calibration.EMBEDDING], reference[calibration.EMBEDDING] = np.nan, np.nan
        for cell in cells:
            centre = vectors[1][cell.reference].mean(axis=0)
            for table, side, rows in ((window, vectors[0], cell.window), (reference, vectors[1], cell.reference)):
                place = table.columns.get_loc(calibration.EMBEDDING)
                table.iloc[rows, place] = np.linalg.norm(side[rows] - centre, axis=1)
    used = sorted({int(row) for cell in cells for row in cell.reference})
    return window, reference.iloc[used]
