"""From drift found to the new model answering live traffic, as a canary, without the training itself.

    python benchmarks/loop.py

Runs `its demo --scale tiny --keep-up` in a home of its own, with Dagster's daemon, sensors and runs, MLflow and Triton
as they are. Its times are read back afterwards from where the platform recorded them. The clock starts with the drift
report that led to the retraining and stops with the first row in `releases` that follows a real inference on the new
version: a canary, which gets half of the live traffic on this scale. What the trainer took (`train/seconds` in the
MLflow run) is taken off, and is the peer. How long the canary then was on trial is told beside the split and held to
nothing: it depends on how fast live pictures come.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from figures import Comparison, Figure, Round, at_most, measure
from its_platform.settings import REPOSITORY, Settings, load_settings
from its_platform.stack import stop_stack
from its_platform.telemetry import Progress, no_progress
from workplace import command_of, own_home, run_alone

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from its_platform.stores.schema import ReleaseRow

COMMAND = command_of("loop")
SERVED = Comparison(
    "drift found to new model in live traffic, as a canary, without training",
    "the training",
    "s",
    at_most(60.0),
    COMMAND,
    split_unit="s",
)
TRIAL = "after that, until production"
ATTEMPTS = 2
POLL_S = 1.0
STEPS = """
query Steps($run: ID!) {
  runOrError(runId: $run) {
    __typename
    ... on Run { stepStats { stepKey startTime endTime } }
  }
}
"""


def figures(progress: Progress = no_progress) -> list[Figure]:
    return measure([SERVED], partial(one_round, progress), rounds=1, attempts=ATTEMPTS)


def one_round(progress: Progress) -> dict[str, Round]:
    with own_home() as settings:
        its = str(Path(sys.executable).parent / "its")
        try:
            run_demo(its, settings.home, progress)
            # What the demo wrote into its home's settings is in force now.
            return {SERVED.name: recorded(load_settings(home=settings.home))}
        finally:
            # In this process, so that a stop that fails is told rather than leaves servers behind in silence.
            stop_stack(load_settings(home=settings.home))


def run_demo(its: str, home: Path, progress: Progress) -> None:
    """Run the demo to its end and leave its servers up. Raises `RuntimeError` with its last words where it fails."""
    steps, said = home / "steps.jsonl", home / "demo.log"
    words = [its, "demo", "--scale", "tiny", "--keep-up", "--progress-jsonl", str(steps)]
    with said.open("wb") as log:
        demo = subprocess.Popen(words, cwd=REPOSITORY, stdout=log, stderr=log)
    try:
        while demo.poll() is None:
            begun = steps.read_text("utf-8").splitlines() if steps.exists() else []
            if begun:
                progress("loop", len(begun), None, json.loads(begun[-1])["step"])
            time.sleep(POLL_S)
    finally:
        if demo.poll() is None:
            demo.terminate()
            demo.wait()
    if demo.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} failed: {said.read_text('utf-8').strip()[-1000:]}")


def recorded(settings: Settings) -> Round:
    """The way from the report to the release, as the tables, MLflow and Dagster tell it."""
    from its_platform.loop.dagster_page import runs_of
    from its_platform.stores.registry import Registry

    found, decided, served, promoted, mlflow_run = _times(settings)
    run = [one for one in runs_of(settings, "learn") if one.tags.get("its/trigger") == "retrain"][-1]
    training_s = Registry(settings).client().get_run(mlflow_run).data.metrics["train/seconds"]
    steps = _steps(settings, run.run_id)
    ended = min(served.timestamp(), max(end for _, end in steps.values()))
    split = {
        "report to decision": (decided - found).total_seconds(),
        "decision to first step": min(start for start, _ in steps.values()) - decided.timestamp(),
        **{name: min(end, ended) - start for name, (start, end) in steps.items() if start < ended},
    }
    split["candidate_model"] -= training_s
    whole_s = (served - found).total_seconds() - training_s
    split["between the steps"] = whole_s - sum(split.values())
    split[TRIAL] = (promoted - served).total_seconds()
    return Round(whole_s, training_s, split=split)


def _times(settings: Settings) -> tuple[datetime, datetime, datetime, datetime, str]:
    """When the report was made, when the retraining was decided on, when its model answered live traffic, and when all
    of it; its MLflow run."""
    import sqlalchemy as sa

    from its_platform.stores import open_stores
    from its_platform.stores.schema import DecisionRow, DriftReportRow

    stores = open_stores(settings)
    with stores.database.session() as session:
        decision = session.scalars(
            sa.select(DecisionRow).where(DecisionRow.action == "retrain").order_by(DecisionRow.at)
        ).first()
        if decision is None or decision.report_id is None:
            raise RuntimeError("no retraining was decided on")
        report = session.get_one(DriftReportRow, decision.report_id)
        first, last = released(session, report.model_version)
        version = stores.registry.get(first.model_name, first.version)
        return report.at, decision.at, first.since, last.since, version.run_id


def released(session: Session, newer_than: int) -> tuple[ReleaseRow, ReleaseRow]:
    """The rows by which the first newer version began to answer live traffic, and all of it; one row may do both.

    Raises `RuntimeError` where there is none.
    """
    import sqlalchemy as sa

    from its_platform.stores.schema import ReleaseRow

    rows = session.scalars(
        sa.select(ReleaseRow)
        .where(ReleaseRow.stage.in_(("canary", "production")), ReleaseRow.version > newer_than)
        .order_by(ReleaseRow.since)
    ).all()
    if not rows:
        raise RuntimeError("no newer version was served")
    for row in rows:
        if row.stage == "production" and row.version == rows[0].version:
            return rows[0], row
    raise RuntimeError(f"version {rows[0].version} was a canary and never went to production")


def _steps(settings: Settings, run_id: str) -> dict[str, tuple[float, float]]:
    """Start and end of each step of a run, in seconds since 1970."""
    from its_platform.stack import dagster_query

    answer = dagster_query(settings, STEPS, {"run": run_id})["runOrError"]
    if answer["__typename"] != "Run":
        raise RuntimeError(f"Dagster does not know the run {run_id}")
    return {one["stepKey"]: (one["startTime"], one["endTime"]) for one in answer["stepStats"]}


if __name__ == "__main__":
    raise SystemExit(run_alone(figures))
