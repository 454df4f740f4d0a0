"""Everything that Dagster runs, put together in one place: assets by stage, checks, jobs, sensors and resources.

`build_defs(overrides)` lets a test or another deployment swap a resource. Loading it connects to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from its_platform.telemetry import silence_tools

silence_tools()

import assets  # noqa: E402
import sensors  # noqa: E402
from assets.jobs import JOBS  # noqa: E402
from its_platform.resources import StoresResource  # noqa: E402


def build_defs(overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The code location. `overrides` replaces resources by name (`stores`)."""
    return dg.Definitions(
        assets=assets.ALL_ASSETS,
        asset_checks=assets.ALL_CHECKS,
        jobs=JOBS,
        sensors=sensors.all_sensors(),
        schedules=sensors.all_schedules(),
        resources={"stores": StoresResource(), **(overrides or {})},
        executor=dg.in_process_executor,
    )


defs = build_defs()
