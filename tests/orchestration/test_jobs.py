"""What Dagster does with the stages' answers: where a job stops, what is tried again, what each sensor asks for.

The stages themselves are replaced; jobs and sensors are the real ones on an ephemeral instance.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from its_platform.cameras import Camera
from its_platform.cameras.registry import make_camera
from its_platform.definitions import build_defs
from its_platform.errors import BadInput, NotFound, PermanentError, ServerUnavailable
from its_platform.experiments import Effect, ExperimentLook, Finding
from its_platform.frames.expectations import CheckResult
from its_platform.release import Experiment
from its_platform.resources import StoresResource, told_to_dagster
from its_platform.settings import Settings, load_settings
from its_platform.stores.runs import made_by
from sensors.canary import canary_sensor
from sensors.drift import drift_sensor
from sensors.footage import footage_sensor
from sensors.predictions import predictions_sensor
from sensors.registry import registry_sensor

STOPPED = dg.DefaultSensorStatus.STOPPED
SOUND = CheckResult(passed=True, failures=[], statistics={})
INTERVAL_S = 30


class FakeStores(StoresResource):
    """Hands out the settings alone; no stage that is not replaced gets further with them."""

    def open(self) -> Any:
        return SimpleNamespace(settings=load_settings(home=self.home) if self.home else load_settings())


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def defs(settings: Settings) -> dg.Definitions:
    return build_defs({"stores": FakeStores(home=str(settings.home))})


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Every function that `learn` calls, replaced by one that notes its name; `answers` changes what they say."""
    called: list[str] = []
    answers: dict[str, Callable[..., Any]] = {}

    def replace(where: str, answer: Any) -> None:
        name = where.rsplit(".", 1)[1]

        def stage(*args: Any, **kwargs: Any) -> Any:
            called.append(name)
            return answers[name](*args, **kwargs) if name in answers else answer

        monkeypatch.setattr(where, stage)

    version = SimpleNamespace(name="v1", digest="d", golden=1, counts={"train": 10}, boxes={"train": 20})
    model = SimpleNamespace(version=7, dataset_version="v1", digest="d", format="onnx")
    candidate = SimpleNamespace(model_version=model, run_id="r", evaluation=SimpleNamespace(slices=[]))
    release = SimpleNamespace(
        version=7,
        stage="production",
        digest="d",
        endpoint="127.0.0.1:1",
        since=datetime(2026, 5, 1, tzinfo=UTC),
        evidence={},
    )
    for where, answer in {
        "its_platform.labels.review.unlabelled_frames": [],
        "its_platform.labels.review.review_simulated": SimpleNamespace(added=0, refused=[]),
        "its_platform.labels.pictures.labelled_sheet": None,
        "its_platform.labels.expectations.check_labels": SOUND,
        "its_platform.dataset.build_dataset": version,
        "its_platform.dataset.pictures.summary": b"",
        "its_platform.dataset.pictures.sample_sheet": b"",
        "its_platform.dataset.expectations.check_dataset": SOUND,
        "its_platform.model.train.train_candidate": candidate,
        "its_platform.model.formats.choose_format": SimpleNamespace(version=model, why="asked for"),
        "its_platform.model.pictures.curves": b"",
        "its_platform.model.pictures.sample_predictions": b"",
        "its_platform.release.stage": None,
        "its_platform.release.served": release,
        "its_platform.release.judge_candidate": [],
        "its_platform.release.waived_gates": [],
        "its_platform.release.gates_markdown": "",
        "its_platform.release.is_passed": True,
        "its_platform.release.release": SimpleNamespace(stage="production"),
        "its_platform.release.publish_card": None,
        "its_platform.release.publish_cards": None,
        "its_platform.release.card_pages.as_markdown": "# card",
        "its_platform.monitoring.reference.record_reference": 12,
    }.items():
        replace(where, answer)
    for stage in ("labels", "dataset", "model", "release", "monitoring"):
        monkeypatch.setattr(f"assets.{stage}.told_to_dagster", partial(told_to_dagster, wait_s=0.0))
    return SimpleNamespace(called=called, answers=answers)


def test_what_a_step_records_names_its_run(instance: dg.DagsterInstance) -> None:
    kept: list[dict[str, str]] = []

    @dg.op
    def work() -> None:
        with told_to_dagster():
            kept.append(made_by())

    @dg.job
    def job() -> None:
        work()

    done = job.execute_in_process(instance=instance)
    assert kept == [{"dagster_run": done.run_id}]
    assert made_by() == {}


def learn(defs: dg.Definitions, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def("learn").execute_in_process(instance=instance, raise_on_error=False)


def raising(error: Exception, times: int = 100) -> Callable[..., Any]:
    """A stage that fails so many times and has nothing to say afterwards."""
    left = [error] * times

    def fail(*args: Any, **kwargs: Any) -> None:
        if left:
            raise left.pop()

    return fail


def retries_of(result: dg.ExecuteInProcessResult, step: str) -> int:
    return sum(
        event.event_type == dg.DagsterEventType.STEP_UP_FOR_RETRY and event.step_key == step
        for event in result.all_events
    )


def materialized(result: dg.ExecuteInProcessResult) -> list[str]:
    return [event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key]


def test_a_training_whose_checks_and_gates_pass_ends_in_production(defs, instance, stages):
    result = learn(defs, instance)
    assert result.success
    assert materialized(result) == [
        "reviewed_labels",
        "dataset_version",
        "candidate_model",
        "staged_release",
        "production_release",
        "reference_predictions",
    ]


def test_a_run_that_carries_out_a_decision_is_named_in_it_and_in_what_it_makes(defs, instance, stages, monkeypatch):
    named = {}

    def keep(what: str, answer: Any) -> Callable[..., Any]:
        return lambda *_, dagster_run, **__: named.update({what: dagster_run}) or answer

    model = SimpleNamespace(version=7, dataset_version="v1", digest="d")
    candidate = SimpleNamespace(model_version=model, run_id="r", evaluation=SimpleNamespace(slices=[]))
    version = SimpleNamespace(name="v1", digest="d", golden=1, counts={}, boxes={})
    stages.answers["build_dataset"] = keep("dataset", version)
    stages.answers["train_candidate"] = keep("training", candidate)
    monkeypatch.setattr("its_platform.retraining.record_run", lambda _, key, run: named.update({key: run}))
    result = defs.resolve_job_def("learn").execute_in_process(instance=instance, tags={"its/decision": "k1"})
    assert named == dict.fromkeys(("k1", "dataset", "training"), result.run_id)


def test_what_is_staged_is_the_format_that_was_chosen(defs, instance, stages):
    chosen = SimpleNamespace(version=8, dataset_version="v1", digest="e", format="openvino")
    stages.answers["choose_format"] = lambda *_: SimpleNamespace(version=chosen, why="the fastest")
    stages.answers["served"] = lambda *_: SimpleNamespace(
        version=8, digest="e", endpoint="", since=datetime.now(UTC), stage="production"
    )
    carded = []
    stages.answers["publish_card"] = lambda _, version: carded.append(version)
    result = learn(defs, instance)
    assert result.success
    assert result.output_for_node("production_release") == 8
    assert set(carded) == {7, 8}, "the version that was trained has a card too"


def test_a_canary_is_what_the_reference_is_taken_from_not_what_it_is_compared_with(defs, instance, stages):
    rows = {
        stage: SimpleNamespace(version=number, digest="d", endpoint="", since=None, stage=stage, evidence={})
        for stage, number in (("staging", 7), ("canary", 7), ("production", 6))
    }
    asked = []
    stages.answers["served"] = lambda _, stage="production": rows[stage]
    stages.answers["release"] = lambda *_, **__: SimpleNamespace(stage="canary")
    stages.answers["record_reference"] = lambda _, release, **__: asked.append(release.version) or 12
    assert learn(defs, instance).success
    assert asked == [7]


def test_a_version_that_was_registered_by_hand_goes_the_way_of_a_candidate(defs, instance, stages, monkeypatch):
    assert learn(defs, instance).success
    stages.called.clear()
    named = []
    model = SimpleNamespace(version=7, dataset_version="v1", digest="d", format="onnx")
    candidate = SimpleNamespace(model_version=model, run_id="r", evaluation=SimpleNamespace(slices=[]))
    monkeypatch.setattr(
        "its_platform.model.train.registered_candidate", lambda _, version: named.append(version) or candidate
    )
    asked = {"ops": {"candidate_model": {"config": {"version": 7}}}}
    assert defs.resolve_job_def("release").execute_in_process(asked, instance=instance).success
    assert named == [7]
    assert not {"train_candidate", "choose_format"} & set(stages.called)
    assert {"judge_candidate", "release", "record_reference"} <= set(stages.called)


@pytest.mark.parametrize(("has_one", "is_due", "recorded"), [(False, True, [7]), (True, True, []), (False, False, [])])
def test_a_version_that_came_without_a_reference_gets_one_before_its_first_report(
    defs, instance, stages, monkeypatch, has_one, is_due, recorded
):
    asked = []
    stages.answers["record_reference"] = lambda _, release, **__: asked.append(release.version)
    monkeypatch.setattr("its_platform.monitoring.predictions.collect", lambda *_: 0)
    monkeypatch.setattr("its_platform.monitoring.reference.has_reference", lambda *_: has_one)
    monkeypatch.setattr(
        "its_platform.monitoring.windows.next_window", lambda *_: ("since", "until") if is_due else None
    )
    monkeypatch.setattr("its_platform.monitoring.drift.report_due_windows", lambda *_, **__: [])
    monkeypatch.setattr("its_platform.monitoring.reports.list_reports", lambda *_, **__: [])
    assert defs.resolve_job_def("watch").execute_in_process(instance=instance).success
    assert asked == recorded


def test_labels_that_fail_their_check_make_no_dataset(defs, instance, stages):
    stages.answers["check_labels"] = lambda *_: CheckResult(False, ["a box outside its picture"], {})
    assert not learn(defs, instance).success
    assert "build_dataset" not in stages.called


def test_a_dataset_that_fails_its_check_is_not_trained_on(defs, instance, stages):
    stages.answers["check_dataset"] = lambda *_: CheckResult(False, ["a frame in two splits"], {})
    result = learn(defs, instance)
    assert not result.success
    assert materialized(result) == ["reviewed_labels", "dataset_version"]
    assert "train_candidate" not in stages.called
    (check,) = [check for check in result.get_asset_check_evaluations() if check.check_name == "dataset_is_sound"]
    assert not check.passed
    assert check.description == "a frame in two splits"


def test_a_candidate_that_fails_a_gate_is_staged_and_never_promoted(defs, instance, stages):
    stages.answers["is_passed"] = lambda *_: False
    result = learn(defs, instance)
    assert not result.success
    assert "staged_release" in materialized(result)
    assert "release" not in stages.called
    assert "record_reference" not in stages.called


def test_a_promotion_that_did_not_reach_triton_fails_the_run(defs, instance, stages):
    release = SimpleNamespace(version=7, stage="staging", digest="d", endpoint="", since=None)
    stages.answers["served"] = lambda _, stage: release if stage == "staging" else None
    result = learn(defs, instance)
    assert not result.success
    assert "release" in stages.called
    assert "production_release" not in materialized(result)


def test_a_transient_error_is_tried_again_and_the_run_goes_on(defs, instance, stages):
    stages.answers["stage"] = raising(ServerUnavailable("Triton does not answer."), times=2)
    result = learn(defs, instance)
    assert result.success
    assert retries_of(result, "staged_release") == 2


def test_a_transient_error_that_stays_is_given_up_after_three_retries(defs, instance, stages):
    stages.answers["stage"] = raising(ServerUnavailable("Triton does not answer."))
    result = learn(defs, instance)
    assert not result.success
    assert retries_of(result, "staged_release") == 3


def test_a_permanent_error_fails_at_once_and_says_what_to_do(defs, instance, stages):
    stages.answers["train_candidate"] = raising(PermanentError("The weights cannot be read.", "Name others."))
    result = learn(defs, instance)
    assert not result.success
    assert stages.called.count("train_candidate") == 1
    assert retries_of(result, "candidate_model") == 0
    failure = next(event for event in result.all_events if event.event_type == dg.DagsterEventType.STEP_FAILURE)
    data = failure.step_failure_data.user_failure_data
    assert data is not None
    assert data.description is not None
    assert "The weights cannot be read." in data.description
    assert data.metadata["what to do"].value == "Name others."


@pytest.mark.parametrize(
    ("error", "retries"),
    [(BadInput("broken: no such file."), 0), (ServerUnavailable("The stream does not answer."), 3)],
)
def test_one_broken_camera_does_not_keep_the_others_footage_out(defs, instance, monkeypatch, error, retries):
    taken = []

    def ingest(_: object, name: str, *rest: object, **named: object) -> SimpleNamespace:
        if name == "broken":
            raise error
        taken.append(name)
        return SimpleNamespace(camera_id=name, added=1, duplicates=0, rejected=0)

    sources = {"broken": "rtsp://127.0.0.1/stream", "north": "sim://junction", "off": "sim://boulevard"}
    cameras = {name: make_camera(name, source, enabled=name != "off") for name, source in sources.items()}

    def list_cameras(_: object, enabled_only: bool) -> list[Camera]:
        return [camera for camera in cameras.values() if camera.enabled or not enabled_only]

    monkeypatch.setattr("its_platform.cameras.list_cameras", list_cameras)
    monkeypatch.setattr("its_platform.cameras.get_camera", lambda _, name: cameras[name])
    monkeypatch.setattr("its_platform.frames.sources.watched_until", lambda camera, until: until)
    monkeypatch.setattr("its_platform.frames.ingest.ingest", ingest)
    monkeypatch.setattr("its_platform.frames.pictures.latest_frames_sheet", lambda *_: None)
    result = defs.resolve_job_def("ingest").execute_in_process(instance=instance, raise_on_error=False)
    assert taken == ["north"] * (retries + 1)
    assert not result.success
    assert retries_of(result, "raw_frames") == retries


def test_a_store_that_is_away_is_waited_for_at_once(defs, instance, monkeypatch):
    asked = []

    def ingest(_: object, name: str, *rest: object, **named: object) -> SimpleNamespace:
        asked.append(name)
        raise ServerUnavailable("The object store does not answer.")

    cameras = [make_camera(name, "sim://junction") for name in ("north", "south")]
    monkeypatch.setattr("its_platform.cameras.list_cameras", lambda *_, **__: cameras)
    monkeypatch.setattr("its_platform.cameras.get_camera", lambda _, name: make_camera(name, "sim://junction"))
    monkeypatch.setattr("its_platform.frames.ingest.ingest", ingest)
    result = defs.resolve_job_def("ingest").execute_in_process(instance=instance, raise_on_error=False)
    assert not result.success
    assert set(asked) == {"north"}


# ---- sensors


@pytest.fixture
def look(instance: dg.DagsterInstance, settings: Settings) -> Callable[..., dg.SensorResult]:
    """Evaluate a sensor once, as Dagster's daemon does."""

    def evaluate(make: Callable[..., dg.SensorDefinition], cursor: str | None = None) -> dg.SensorResult:
        stores = FakeStores(home=str(settings.home))
        context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"stores": stores})
        result = make(INTERVAL_S, STOPPED)(context)
        assert isinstance(result, dg.SensorResult)
        return result

    return evaluate


def said(result: dg.SensorResult) -> str:
    assert not result.run_requests
    assert result.skip_reason is not None
    return str(getattr(result.skip_reason, "skip_message", result.skip_reason))


def requested(result: dg.SensorResult) -> dg.RunRequest:
    assert result.run_requests is not None
    (request,) = result.run_requests
    return request


def add_run(defs: dg.Definitions, instance: dg.DagsterInstance, job: str, status: dg.DagsterRunStatus) -> None:
    instance.create_run_for_job(defs.resolve_job_def(job), status=status)


@pytest.mark.parametrize(
    ("make", "job", "reason"),
    [
        (footage_sensor, "ingest", "An ingest is under way."),
        (predictions_sensor, "watch", "Predictions are being collected."),
        (drift_sensor, "learn", "A training is under way."),
        (registry_sensor, "learn", "A release is under way."),
        (registry_sensor, "reconcile", "A release is under way."),
        (canary_sensor, "canary", "A release or a look at the canary is under way."),
        (canary_sensor, "learn", "A release or a look at the canary is under way."),
    ],
)
def test_a_sensor_waits_for_the_run_that_is_under_way(look, defs, instance, make, job, reason):
    add_run(defs, instance, job, dg.DagsterRunStatus.STARTED)
    assert said(look(make)) == reason


@pytest.fixture
def footage(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool | Exception]:
    """Cameras, and whether each has new footage or what is wrong with it."""
    cameras: dict[str, bool | Exception] = {"north": True, "south": False}

    def has_new(_: object, name: str) -> bool:
        answer = cameras[name]
        if isinstance(answer, Exception):
            raise answer
        return answer

    listed = [SimpleNamespace(camera_id=name, enabled=True) for name in cameras]
    listed.append(SimpleNamespace(camera_id="disabled", enabled=False))
    monkeypatch.setattr("its_platform.cameras.list_cameras", lambda _: listed)
    monkeypatch.setattr("its_platform.frames.ingest.has_new_footage", has_new)
    return cameras


def test_new_footage_starts_the_ingest_of_its_camera_alone(look, footage):
    assert requested(look(footage_sensor)).run_config == {"ops": {"raw_frames": {"config": {"cameras": ["north"]}}}}


def test_nothing_new_is_said_with_the_cameras_that_cannot_be_read(look, footage):
    footage.update(north=False, south=BadInput("no such file."))
    result = look(footage_sensor)
    assert said(result) == "No new footage of 2 cameras. south: no such file."
    assert result.cursor == ""


def test_footage_whose_ingest_failed_is_left_alone_for_a_pause(look, footage, defs, instance):
    first = look(footage_sensor)
    add_run(defs, instance, "ingest", dg.DagsterRunStatus.FAILURE)
    assert said(look(footage_sensor, first.cursor)).startswith("Tried 1 times: north. Again at ")
    tried = json.loads(first.cursor)
    earlier = datetime.now(UTC) - timedelta(seconds=2 * INTERVAL_S + 1)
    second = look(footage_sensor, json.dumps({**tried, "at": earlier.isoformat()}))
    assert requested(second).tags["its/cameras"] == "north"
    assert json.loads(second.cursor)["tries"] == 2


def test_footage_that_goes_on_arriving_is_taken_in_without_a_pause(look, footage, defs, instance):
    first = look(footage_sensor)
    add_run(defs, instance, "ingest", dg.DagsterRunStatus.SUCCESS)
    second = look(footage_sensor, first.cursor)
    assert requested(second).tags["its/cameras"] == "north"
    assert json.loads(second.cursor)["tries"] == 1


def test_predictions_are_collected_when_there_are_enough(look, settings, monkeypatch):
    needed = settings.drift.minimum_rows
    monkeypatch.setattr("its_platform.monitoring.predictions.waiting_rows", lambda _: needed - 1)
    assert said(look(predictions_sensor)) == f"{needed - 1} predictions wait; {needed} are needed."
    monkeypatch.setattr("its_platform.monitoring.predictions.waiting_rows", lambda _: needed)
    assert requested(look(predictions_sensor)).tags["its/waiting-rows"] == str(needed)


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """What the retraining decides, what is served, and which decisions were recorded."""
    decision = SimpleNamespace(action="wait", reasons=("too soon",), window=None, key="k1")
    state = SimpleNamespace(decision=decision, release=None, recorded=[])
    model = SimpleNamespace(dataset_version="v3")
    monkeypatch.setattr("its_platform.retraining.read_history", lambda _: None)
    monkeypatch.setattr("its_platform.retraining.decide", lambda *_: decision)
    monkeypatch.setattr("its_platform.retraining.record_decision", lambda _, one: state.recorded.append(one.action))
    monkeypatch.setattr("its_platform.release.served", lambda *_: state.release)
    registry = SimpleNamespace(get=lambda name, version: model)
    monkeypatch.setattr("its_platform.stores.registry.Registry", lambda _: registry)
    state.incoming = False
    cameras = [SimpleNamespace(camera_id="north", enabled=True)]
    monkeypatch.setattr("its_platform.cameras.list_cameras", lambda _: cameras)
    monkeypatch.setattr("its_platform.frames.ingest.has_new_footage", lambda *_: state.incoming)
    return state


def test_a_decision_not_to_train_is_recorded_and_said(look, decided):
    assert said(look(drift_sensor)) == "wait: too soon"
    assert decided.recorded == ["wait"]


def test_a_first_training_is_asked_for_once_by_the_decisions_key(look, decided):
    decided.decision.action = "train_first"
    request = requested(look(drift_sensor))
    assert request.run_key == request.tags["its/decision"] == "k1"
    assert request.run_config["ops"]["candidate_model"]["config"] == {}


def test_a_training_waits_for_the_footage_that_is_coming_in(look, decided):
    decided.decision.action, decided.incoming = "train_first", True
    waiting = look(drift_sensor)
    assert "first the footage that is coming in" in said(waiting)
    assert decided.recorded == [], "recorded, it would count as an attempt that gave no model"
    decided.incoming = False
    assert requested(look(drift_sensor, waiting.cursor)).run_key == "k1"
    assert decided.recorded == ["train_first"]


def test_a_camera_that_cannot_be_read_keeps_no_training_from_the_others(look, decided, monkeypatch):
    def missing(*_: object) -> bool:
        raise NotFound("north.mp4 is not there.")

    monkeypatch.setattr("its_platform.frames.ingest.has_new_footage", missing)
    decided.decision.action = "retrain"
    assert requested(look(drift_sensor)).run_key == "k1"


def test_the_wait_for_footage_is_not_begun_anew_by_another_report(look, decided):
    decided.decision.action, decided.incoming = "train_first", True
    first = look(drift_sensor)
    decided.decision.key = "k2"
    assert look(drift_sensor, first.cursor).cursor == first.cursor


def test_a_retraining_extends_the_dataset_of_what_is_served(look, decided):
    window = (datetime(2026, 5, 1, 20, tzinfo=UTC), datetime(2026, 5, 1, 21, tzinfo=UTC))
    decided.decision.action, decided.decision.window = "retrain", window
    decided.release = SimpleNamespace(model_name="traffic-detector", version=4)
    config = requested(look(drift_sensor)).run_config["ops"]
    assert config["candidate_model"]["config"] == {"base_version": 4}
    assert config["dataset_version"]["config"]["previous"] == "v3"
    assert config["dataset_version"]["config"]["window_since"] == window[0].isoformat()


def test_a_canary_is_looked_at_when_pairs_came_in_or_its_share_changed(look, settings, monkeypatch):
    state = SimpleNamespace(version=8, against=7, percent=5.0, held=None, step_since=datetime.now(UTC))
    monkeypatch.setattr("its_platform.release.canary_state", lambda _: state)
    first = look(canary_sensor)
    assert requested(first).tags["its/canary"] == "8 at 5 % against 7, held None: 0 new pairs"
    assert said(look(canary_sensor, first.cursor)).endswith("no new pairs of answers.")
    state.step_since -= timedelta(seconds=settings.canary.patience_s + 1)
    late = look(canary_sensor, first.cursor)
    assert requested(late).tags["its/canary"].endswith("for long: 0 new pairs")
    assert said(look(canary_sensor, late.cursor)).endswith("no new pairs of answers.")
    settings.pairs_spool.mkdir(parents=True)
    (settings.pairs_spool / "pairs-a.jsonl").write_text("{}\n{}\n")
    assert requested(look(canary_sensor, first.cursor)).tags["its/canary"].endswith("2 new pairs")
    monkeypatch.setattr("its_platform.release.canary_state", lambda _: None)
    monkeypatch.setattr("its_platform.release.running_experiment", lambda _: None)
    monkeypatch.setattr("its_platform.release.unfinished_experiment", lambda _: None)
    assert said(look(canary_sensor, first.cursor)) == "There is no canary and no experiment."


def test_an_experiment_is_looked_at_every_minute_until_its_result_is_there(look, monkeypatch):
    state = SimpleNamespace(running=SimpleNamespace(id=3), unfinished=None)
    monkeypatch.setattr("its_platform.release.canary_state", lambda _: None)
    monkeypatch.setattr("its_platform.release.running_experiment", lambda _: state.running)
    monkeypatch.setattr("its_platform.release.unfinished_experiment", lambda _: state.unfinished)
    first = look(canary_sensor)
    assert (requested(first).job_name, requested(first).tags["its/experiment"]) == ("experiment", "3")
    assert said(look(canary_sensor, first.cursor)).startswith("Experiment 3 was looked at")
    assert first.cursor is not None
    long_ago = first.cursor.rsplit(" ", 1)[0] + " 0"
    assert requested(look(canary_sensor, long_ago)).job_name == "experiment"
    state.running, state.unfinished = None, SimpleNamespace(id=4)
    assert requested(look(canary_sensor, first.cursor)).tags["its/experiment"] == "4", "another one does not wait"
    state.unfinished = None
    assert said(look(canary_sensor, first.cursor)) == "There is no canary and no experiment."


def test_a_look_at_an_experiment_is_on_the_page_of_its_run(defs, instance, monkeypatch):
    plan = {"measure": "boxes", "effect": 1.0, "deviation": 1.0, "baseline": 5.0, "percent": 50.0}
    plan |= {"alpha": 0.05, "power": 0.8, "blocks": 72}
    since = datetime(2026, 5, 1, 20, tzinfo=UTC)
    shown = Experiment(3, 1, 2, "it sees more", plan, "ada", since, None, None, None, None, [], None)
    effect = Effect(10, 0.4, -1.0, 1.8)
    finding = Finding(None, ("not enough evidence",), effect, 72, {"day": effect}, (5, 5.0), (5, 5.4), {"failures": 0})
    looks = iter([ExperimentLook(shown, finding), None])
    monkeypatch.setattr("its_platform.experiments.look_at_experiment", lambda *_, **__: next(looks))
    job = defs.resolve_job_def("experiment")
    (said_of_it,) = metadata_of(job.execute_in_process(instance=instance))
    assert (said_of_it["experiment"].value, said_of_it["blocks"].value) == (3, "10 of 72")
    assert "| day | 10 |" in said_of_it["found"].value
    assert said_of_it["sequence"].value.startswith("![effect")
    (none,) = metadata_of(job.execute_in_process(instance=instance))
    assert none["decision"].value == "no experiment is running"


def metadata_of(result: dg.ExecuteInProcessResult) -> list[Any]:
    outputs = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    return [event.event_specific_data.metadata for event in outputs]


def test_an_alias_that_is_served_asks_for_nothing(look, monkeypatch):
    monkeypatch.setattr("its_platform.release.pending", lambda _: [])
    assert said(look(registry_sensor)) == "What the aliases ask for is served, or was refused."


def test_an_alias_that_moved_is_reconciled_and_tried_again_in_a_while_until_it_is_served(look, monkeypatch):
    wanted = ["production: version 3 is to be served, 2 is"]
    monkeypatch.setattr("its_platform.release.pending", lambda _: wanted)
    monkeypatch.setattr("sensors.registry.time.time", lambda: 1000.0)
    first = look(registry_sensor)
    assert requested(first).tags["its/changes"] == wanted[0]
    monkeypatch.setattr("sensors.registry.time.time", lambda: 1010.0)
    assert said(look(registry_sensor, first.cursor)) == f"Tried 10 s ago, and not done: {wanted[0]}."
    monkeypatch.setattr("its_platform.release.pending", lambda _: ["production: version 4 is to be served, 2 is"])
    assert requested(look(registry_sensor, first.cursor)).tags["its/trigger"] == "registry"
    monkeypatch.setattr("its_platform.release.pending", lambda _: wanted)
    # A run that failed, Triton having been away for longer than it tried, is not the last one.
    monkeypatch.setattr("sensors.registry.time.time", lambda: 1061.0)
    assert requested(look(registry_sensor, first.cursor)).tags["its/changes"] == wanted[0]
    monkeypatch.setattr("sensors.registry.time.time", lambda: 10.0)
    assert requested(look(registry_sensor, first.cursor)).tags["its/changes"] == wanted[0]


def test_a_few_predictions_are_collected_once_they_have_waited(look, settings, monkeypatch, tmp_path: Path):
    settings.spool.mkdir(parents=True)
    waiting = settings.spool / "predictions-a.jsonl"
    waiting.write_text("{}\n")
    monkeypatch.setattr("its_platform.monitoring.predictions.waiting_rows", lambda _: 1)
    assert "1 predictions wait" in said(look(predictions_sensor))
    monkeypatch.setattr("sensors.predictions.oldest_file_s", lambda _: 4.0 * settings.sensors.interval_s)
    assert requested(look(predictions_sensor)).tags["its/waiting-rows"] == "1"
