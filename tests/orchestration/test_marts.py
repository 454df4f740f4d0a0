"""The job `marts` under Dagster: dbt's models as assets, its tests as asset checks, and the schedule that starts it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from assets.marts import read_graph
from its_platform.definitions import build_defs
from its_platform.monitoring.warehouse import load_sources, open_warehouse
from its_platform.resources import StoresResource
from its_platform.stores import Stores
from sensors.marts import marts_schedule
from tests.unit.dataset.footage import add_frames

MARTS = {
    "frames_by_camera_day",
    "label_throughput",
    "class_balance_by_day",
    "detections_by_camera_class_hour",
    "model_versions_in_use",
}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def run_marts(stores: Stores, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    class Opened(StoresResource):
        def open(self) -> Any:
            return stores

    job = build_defs({"stores": Opened()}).resolve_job_def("marts")
    return job.execute_in_process(instance=instance, raise_on_error=False)


@pytest.mark.slow
def test_an_empty_platform_has_empty_marts_and_each_test_is_a_check_that_passed(stores, instance):
    result = run_marts(stores, instance)
    assert result.success
    made = {event.asset_key.to_user_string(): event for event in result.get_asset_materialization_events()}
    assert set(made) >= MARTS
    for name in MARTS:
        assert made[name].materialization.metadata["dagster/row_count"].value == 0
    evaluations = result.get_asset_check_evaluations()
    assert {one.check_name for one in evaluations} == {spec.name for spec in read_graph()[1]}
    assert all(one.passed for one in evaluations)


@pytest.mark.slow
def test_a_planted_row_fails_its_check_and_the_mart_keeps_what_it_had(stores, instance):
    add_frames(stores, "north", [0])
    load_sources(stores)
    with open_warehouse(stores.settings) as warehouse:
        warehouse.run("UPDATE sources.frames SET light = 'twilight'")
        warehouse.run("CREATE SCHEMA marts")
        warehouse.run("CREATE TABLE marts.frames_by_camera_day AS SELECT 'as before' AS camera_id")
    result = run_marts(stores, instance)
    assert not result.success
    failed = {one.check_name for one in result.get_asset_check_evaluations() if not one.passed}
    assert failed == {"accepted_values_stg_frames_light__day__dusk__night__unknown"}
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert failed <= set(str(failure.step_failure_data.user_failure_data.description).replace(",", " ").split())
    made = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}
    assert "frames_by_camera_day" not in made
    with open_warehouse(stores.settings) as warehouse:
        assert warehouse.run("SELECT * FROM marts.frames_by_camera_day") == [("as before",)]


@pytest.mark.parametrize("job", ["learn", "marts"])
def test_the_clock_leaves_a_turn_out_while_a_training_or_a_build_is_under_way(job):
    schedule = marts_schedule(1, dg.DefaultScheduleStatus.STOPPED)
    with dg.instance_for_test() as kept, dg.build_schedule_context(instance=kept) as context:
        assert isinstance(schedule(context), dg.RunRequest)
        kept.create_run_for_job(build_defs().resolve_job_def(job), status=dg.DagsterRunStatus.STARTED)
        skipped = schedule(context)
    assert isinstance(skipped, dg.SkipReason)
    assert f"`{job}` is under way" in str(skipped.skip_message)
