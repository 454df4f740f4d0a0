"""Watches the clock: every so many hours the job `marts` starts, unless a training has the machine."""

from __future__ import annotations

import dagster as dg

from assets.jobs import learn, marts
from sensors.runs import is_active


def marts_schedule(every_hours: int, status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    """The schedule. Not on the full hour, so that the hour before is complete in the log."""

    @dg.schedule(
        name="marts_schedule",
        job=marts,
        cron_schedule=f"17 */{every_hours} * * *",
        execution_timezone="UTC",
        default_status=status,
        description="Builds and tests the marts; leaves a turn out while a training or a build is under way.",
    )
    def build_marts(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        for job in (learn, marts):
            if is_active(context.instance, job.name):
                return dg.SkipReason(f"A run of `{job.name}` is under way; the next turn builds.")
        return dg.RunRequest(tags={"its/trigger": "schedule"})

    return build_marts
