"""Give up the Dagster runs whose processes were cut off, so that Dagster repeats them.

Run as a program of its own before the daemon starts: `python -m its_platform.interrupted`. At that moment no run has a
process, and one that says it is under way would hold its place in the queue for ever. A run that is reported as failed,
rather than cancelled, is started again by `run_retries` in `dagster.yaml`.
"""

from __future__ import annotations

import dagster as dg

UNDER_WAY = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)


def give_up_interrupted_runs(instance: dg.DagsterInstance) -> list[str]:
    """Report them as failed, those that were being cancelled as cancelled; their ids."""
    interrupted = instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY)))
    for run in interrupted:
        instance.report_run_failed(run, "The platform was stopped, or died, while this run was under way.")
    cancelled = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.CANCELING]))
    for run in cancelled:
        instance.report_run_canceled(run)
    return [run.run_id for run in [*interrupted, *cancelled]]


if __name__ == "__main__":
    with dg.DagsterInstance.get() as found:
        give_up_interrupted_runs(found)
