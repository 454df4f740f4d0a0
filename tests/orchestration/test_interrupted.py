"""What is settled in Dagster's own tables: runs without a process, and sensors that wait for a time gone by."""

from __future__ import annotations

import time
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, InstigatorType, SensorInstigatorData
from dagster._core.test_utils import create_run_for_test, instance_for_test

from its_platform.interrupted import free_waiting_sensors, give_up_interrupted_runs
from sensors.runs import is_active

DAY_S = 86_400.0


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with instance_for_test() as made:
        yield made


def status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def test_only_the_runs_that_are_named_are_given_up(instance: dg.DagsterInstance) -> None:
    lost, living = (
        create_run_for_test(instance, job_name=name, status=dg.DagsterRunStatus.STARTED) for name in ("learn", "watch")
    )
    assert give_up_interrupted_runs(instance, [lost.run_id]) == [lost.run_id]
    assert status(instance, lost) == dg.DagsterRunStatus.FAILURE
    assert status(instance, living) == dg.DagsterRunStatus.STARTED


def test_without_a_name_every_run_under_way_is_given_up_and_waiting_ones_stay(instance: dg.DagsterInstance) -> None:
    started = create_run_for_test(instance, job_name="learn", status=dg.DagsterRunStatus.STARTED)
    cancelling = create_run_for_test(instance, job_name="learn", status=dg.DagsterRunStatus.CANCELING)
    waiting = create_run_for_test(instance, job_name="watch", status=dg.DagsterRunStatus.NOT_STARTED)
    assert set(give_up_interrupted_runs(instance)) == {started.run_id, cancelling.run_id}
    assert status(instance, cancelling) == dg.DagsterRunStatus.CANCELED
    assert status(instance, waiting) == dg.DagsterRunStatus.NOT_STARTED


def test_a_run_that_dagster_starts_again_is_still_under_way() -> None:
    retries = {"run_retries": {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False}}
    with instance_for_test(overrides=retries) as instance:
        lost = create_run_for_test(instance, job_name="learn", status=dg.DagsterRunStatus.STARTED)
        give_up_interrupted_runs(instance, [lost.run_id])
        assert status(instance, lost) == dg.DagsterRunStatus.FAILURE
        assert is_active(instance, "learn")
        assert not is_active(instance, "watch")
        instance.add_run_tags(lost.run_id, {"dagster/auto_retry_run_id": "the one that follows"})
        assert not is_active(instance, "learn")


def test_a_run_that_nobody_starts_again_is_over(instance: dg.DagsterInstance) -> None:
    lost = create_run_for_test(instance, job_name="learn", status=dg.DagsterRunStatus.STARTED)
    give_up_interrupted_runs(instance, [lost.run_id])
    assert not is_active(instance, "learn")


def test_a_sensor_that_looked_in_the_future_looks_again_and_keeps_its_cursor(instance: dg.DagsterInstance) -> None:
    now = time.time()
    for name, tick in (("ahead", now + DAY_S), ("usual", now - 5)):
        data = SensorInstigatorData(last_tick_start_timestamp=tick, last_run_key="key", cursor="42")
        instance.add_instigator_state(
            InstigatorState(origin_of(name), InstigatorType.SENSOR, InstigatorStatus.RUNNING, data)
        )
    assert free_waiting_sensors(instance, now) == ["ahead"]
    states = {state.instigator_name: state.instigator_data for state in instance.all_instigator_state()}
    assert states["ahead"].last_tick_start_timestamp == now
    assert (states["ahead"].cursor, states["ahead"].last_run_key) == ("42", "key")
    assert states["usual"].last_tick_start_timestamp == now - 5


def origin_of(sensor: str) -> RemoteInstigatorOrigin:
    from dagster._core.remote_origin import InProcessCodeLocationOrigin
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="its_platform.definitions"))
    return RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), sensor)
