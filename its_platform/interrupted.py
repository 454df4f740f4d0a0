"""Give up the Dagster runs whose processes were cut off, so that Dagster repeats them, and free sensors that wait.

Run as a program of its own: `python -m its_platform.interrupted [RUN_ID ...]`; without a run, before the daemon starts,
when no run has a process. One that says it is under way would hold its place in the queue for ever. A run that is
reported as failed, rather than cancelled, is started again by `run_retries` in `dagster.yaml`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import dagster as dg
from dagster._core.scheduler.instigation import SensorInstigatorData

UNDER_WAY = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED)


def give_up_interrupted_runs(instance: dg.DagsterInstance, only: Sequence[str] = ()) -> list[str]:
    """Report them as failed, those that were being cancelled as cancelled; their ids."""
    chosen = list(only) or None
    interrupted = instance.get_runs(dg.RunsFilter(run_ids=chosen, statuses=list(UNDER_WAY)))
    for run in interrupted:
        instance.report_run_failed(run, "Its process is gone: it was killed, or the platform stopped or died.")
    cancelled = instance.get_runs(dg.RunsFilter(run_ids=chosen, statuses=[dg.DagsterRunStatus.CANCELING]))
    for run in cancelled:
        instance.report_run_canceled(run)
    return [run.run_id for run in [*interrupted, *cancelled]]


def free_waiting_sensors(instance: dg.DagsterInstance, now: float) -> list[str]:
    """Have sensors look again whose last look lies in the future, which is where a clock that is set back leaves it.

    Dagster waits for that time to pass. Cursor and run key stay, so that nothing is started twice. Their names.
    """
    freed = []
    for state in instance.all_instigator_state():
        data = state.instigator_data
        if not isinstance(data, SensorInstigatorData) or (data.last_tick_start_timestamp or 0.0) <= now:
            continue
        back = data._replace(last_tick_timestamp=now, last_tick_start_timestamp=now, last_tick_success_timestamp=now)
        instance.update_instigator_state(state.with_data(back))
        freed.append(state.instigator_name)
    return freed


if __name__ == "__main__":
    with dg.DagsterInstance.get() as found:
        give_up_interrupted_runs(found, sys.argv[1:])
        free_waiting_sensors(found, time.time())
