"""Runs as forks of one warm process: that they run, fail, end when asked to, and are found again."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.launcher.base import LaunchRunContext

from its_platform.processes import birth_of
from its_platform.run_launcher import WORKER_TAG, ForkingRunLauncher, work
from trace_collector import collecting

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    # The libraries take as long as all of the test; that they are imported first is Python's own doing.
    monkeypatch.setattr("its_platform.run_launcher.LIBRARIES", ("dagster._cli.api",))
    launcher = {"module": "its_platform.run_launcher", "class": "ForkingRunLauncher"}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides={"run_launcher": launcher}) as found:
        yield found


def launch(instance: dg.DagsterInstance, name: str) -> str:
    job = dg.reconstructable(load(name))
    run = instance.create_run_for_job(job.get_definition(), job_code_origin=job.get_python_origin())
    launcher = instance.run_launcher
    assert isinstance(launcher, ForkingRunLauncher)
    launcher.launch_run(LaunchRunContext(run, None))
    return run.run_id


def load(name: str) -> dg.JobDefinition:
    from orchestration import launched

    job: dg.JobDefinition = getattr(launched, name)
    return job


def wait_for(is_so: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def status_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def test_a_run_is_a_process_of_its_own_and_its_tag_names_it(instance: dg.DagsterInstance) -> None:
    runs = [launch(instance, "telling") for _ in range(2)]
    for run_id in runs:
        wait_for(lambda run_id=run_id: status_of(instance, run_id) == dg.DagsterRunStatus.SUCCESS)  # type: ignore[misc]
    tags = [instance.get_run_by_id(run_id).tags for run_id in runs]  # type: ignore[union-attr]
    pids = [one["told/pid"] for one in tags]
    assert len({*pids, str(os.getpid())}) == 3
    assert [json.loads(one[WORKER_TAG])["pid"] for one in tags] == [int(pid) for pid in pids]
    assert {one["told/sid"] for one in tags} == {str(os.getsid(0))}, "who stops the daemon's session stops them too"


def test_a_run_ends_when_somebody_asks_for_it(instance: dg.DagsterInstance) -> None:
    run_id = launch(instance, "waiting")
    wait_for(lambda: any(log.is_dagster_event and log.dagster_event.is_step_start for log in instance.all_logs(run_id)))
    assert instance.run_launcher.terminate(run_id)
    wait_for(lambda: status_of(instance, run_id) == dg.DagsterRunStatus.CANCELED)
    worker = json.loads(instance.get_run_by_id(run_id).tags[WORKER_TAG])  # type: ignore[union-attr]
    wait_for(lambda: birth_of(worker["pid"]) != worker["birth"])
    assert not instance.run_launcher.terminate(run_id)


def test_a_process_that_is_gone_is_not_mistaken_for_another(instance: dg.DagsterInstance) -> None:
    run_id = launch(instance, "waiting")
    wait_for(lambda: status_of(instance, run_id) == dg.DagsterRunStatus.STARTED)
    worker = json.loads(instance.get_run_by_id(run_id).tags[WORKER_TAG])  # type: ignore[union-attr]
    instance.add_run_tags(run_id, {WORKER_TAG: json.dumps({"pid": os.getpid(), "birth": "another life"})})
    assert not instance.run_launcher.terminate(run_id)
    os.kill(worker["pid"], 9)
    wait_for(lambda: birth_of(worker["pid"]) != worker["birth"])


def test_a_run_and_its_steps_are_spans_of_one_trace(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = dg.reconstructable(load("traced"))
    run = instance.create_run_for_job(job.get_definition(), job_code_origin=job.get_python_origin())
    with collecting() as collector:
        monkeypatch.setenv("ITS_SERVING__TRACES_URL", collector.url)
        # Not by the fork server, whose environment is that of its own start.
        process = multiprocessing.get_context("spawn").Process(target=work, args=(run.run_id, instance.get_ref()))
        process.start()
        process.join(60)
    assert status_of(instance, run.run_id) == dg.DagsterRunStatus.FAILURE
    whole, step, camera = collector.named("run traced"), collector.named("take_in"), collector.named("ingest")
    assert {one.trace for one in collector.spans} == {whole.trace}
    assert (whole.parent, step.parent, camera.parent) == ("", whole.span, step.span)
    assert {one.facts["its.run"] for one in collector.spans} == {run.run_id}
    assert {one.name for one in collector.spans if one.is_failed} == {"break_off"}
