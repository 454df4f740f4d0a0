"""What the sensors ask Dagster itself: whether a job's run is under way, and how the latest ended."""

from __future__ import annotations

import threading

import dagster as dg

# Dagster evaluates sensors in threads of one process. The first evaluations import MLflow and its like, which several
# threads at once cannot do: one of them then sees a half-imported module.
ONE_AT_A_TIME = threading.Lock()

_ACTIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


# Dagster marks so a run whose process died and which it will start again, and then names the new run.
_WILL_RETRY, _RETRIED_BY = "dagster/will_retry", "dagster/auto_retry_run_id"


def is_active(instance: dg.DagsterInstance, job: str) -> bool:
    """Whether a run of `job` is queued, starting or running, or is about to be started again by Dagster itself.

    In the seconds between the two no run is under way, and who asks then must not start the same work a second time.
    """
    if instance.get_run_records(dg.RunsFilter(job_name=job, statuses=_ACTIVE), limit=1):
        return True
    latest = instance.get_run_records(dg.RunsFilter(job_name=job), limit=1)
    tags = latest[0].dagster_run.tags if latest else {}
    return tags.get(_WILL_RETRY) == "true" and _RETRIED_BY not in tags


def has_succeeded(instance: dg.DagsterInstance, job: str) -> bool:
    """Whether the latest run of `job` ended well; False where there was none."""
    latest = instance.get_run_records(dg.RunsFilter(job_name=job), limit=1)
    return bool(latest) and latest[0].dagster_run.status == dg.DagsterRunStatus.SUCCESS
