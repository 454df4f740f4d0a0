"""What the loop has come to: datasets, runs, releases, the model repository, drift reports, the log of predictions."""

from __future__ import annotations

import json
from collections.abc import Callable

from its_platform import dagster_runs
from its_platform.doctor.finding import Finding
from its_platform.settings import Settings
from its_platform.stack import is_up
from its_platform.stores import open_stores, versions
from its_platform.stores.postgres import is_running

FINISHED_WELL = ("SUCCESS", "CANCELED")


def check_data_repository(settings: Settings) -> list[Finding]:
    """Whether every committed dataset version reached the remote."""
    names = versions.list_versions(settings)
    if not names:
        return [Finding("data repository", True, "no dataset version yet")]
    if settings.runs_objects and settings.data_remote is None and not is_up(settings):
        return [Finding("data repository", True, f"{len(names)} versions; their remote is not started")]
    for name in names:
        versions.prove(settings, name)
    return [Finding("data repository", True, f"{len(names)} versions, each read back from the remote")]


def check_runs(settings: Settings) -> list[Finding]:
    """The latest run of each job: failed, without its process, or trying a step again."""
    if not _has_database(settings):
        return []
    lost = {run.run_id for run in dagster_runs.cut_off_runs(settings)}
    found = []
    for run in dagster_runs.latest_runs(settings):
        name, short = f"job {run.job}", run.run_id[:8]
        said = "" if run.status in FINISHED_WELL else dagster_runs.what_it_says(settings, run.run_id)
        if run.run_id in lost:
            remedy = "It is given up within 20 s and repeated by Dagster; `its down` and `its up` do so too."
            found.append(Finding(name, False, f"the process of run {short} is gone", remedy, is_severe=False))
        elif run.status == "FAILURE":
            remedy = f"Mend what it names; Dagster's page shows the whole log of run {run.run_id}."
            found.append(
                Finding(name, False, f"run {short} failed: {said or 'no reason given'}", remedy, is_severe=False)
            )
        elif said:
            remedy = "It tries again by itself, a few times."
            found.append(Finding(name, False, f"run {short} meets: {said}", remedy, is_severe=False))
        elif run.is_repeat and run.status not in FINISHED_WELL:
            remedy = "Nothing: it goes on from the step that was cut off."
            told = f"an earlier run was cut off; run {short} repeats it"
            found.append(Finding(name, False, told, remedy, is_severe=False))
    return found or [Finding("runs", True, "the latest run of each job ended well, or is under way")]


def check_releases(settings: Settings) -> list[Finding]:
    """Whether what the aliases ask for is what is served, and why not where it is not."""
    if not _has_database(settings):
        return []
    from its_platform.release import status

    found = []
    for stage in status(open_stores(settings)):
        if stage.in_the_way is None:
            continue
        serves = f"version {stage.served} goes on" if stage.served is not None else "nothing is served"
        told = f"version {stage.wished} is asked for at {stage.stage} and not served: {stage.in_the_way}; {serves}"
        back = f"`its release promote {stage.served} --stage {stage.stage}`" if stage.served else "another alias"
        remedy = f"Take the wish back ({back}), or let the gate go by name: `its release waive {stage.wished}`."
        found.append(Finding("release", False, told, remedy, is_severe=False))
    return found or [Finding("release", True, "what is served is what the aliases ask for")]


def check_model_repository(settings: Settings) -> list[Finding]:
    """Whether each version that lies there is whole; one that is not keeps Triton from loading its model again."""
    from its_platform.serving.repository import broken_versions, placed_versions, served_models

    remedy = "It is replaced or removed within 30 s while the stack is up; `its release reconcile` does so by hand."
    found = [
        Finding("model repository", False, f"version {version} of {model} {flaw}", remedy)
        for (model, version), flaw in broken_versions(settings).items()
    ]
    count = sum(len(placed_versions(settings, model)) for model in served_models(settings))
    return found or [Finding("model repository", True, f"{count} versions, each whole")]


def check_drift_reports(settings: Settings) -> list[Finding]:
    """Whether a window of live predictions has ended without a report: then nothing is known, not "no drift"."""
    if not _has_database(settings):
        return []
    from its_platform.monitoring.windows import next_window

    window = next_window(open_stores(settings))
    if window is None:
        return [Finding("drift reports", True, "every window that has ended has its report")]
    told = f"the window from {window[0]:%Y-%m-%d %H:%M:%S} has ended and has no report; no drift was ruled out"
    remedy = (
        "The job `watch` makes it; where that fails, its line here says why. `its monitor report` makes it by hand."
    )
    return [Finding("drift reports", False, told, remedy, is_severe=False)]


def check_prediction_log(settings: Settings) -> list[Finding]:
    """Rows of the front's log that were lost for want of room."""
    path = settings.spool / "lost.json"
    if not path.is_file():
        return [Finding("prediction log", True, "no row lost")]
    read = json.loads(path.read_text())
    lost = int(read["lost"]) if isinstance(read, dict) else int(read)
    reasons = ", ".join(f"{reason}: {count}" for reason, count in read["reasons"].items()) if lost else ""
    remedy = "Raise ITS_SERVING__SPOOL_ROWS, or collect more often."
    told = f"{lost} rows lost ({reasons})" if lost else "no row lost"
    return [Finding("prediction log", lost == 0, told, remedy, is_severe=False)]


def _has_database(settings: Settings) -> bool:
    """A doctor starts nothing: what is in a database that does not run is not asked."""
    return not settings.runs_postgres or is_running(settings)


CHECKS: tuple[Callable[[Settings], list[Finding]], ...] = (
    check_data_repository,
    check_runs,
    check_releases,
    check_model_repository,
    check_drift_reports,
    check_prediction_log,
)
