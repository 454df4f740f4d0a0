"""What the supervisor concludes from what it sees."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import pytest

from its_platform import dagster_runs, processes, supervisor
from its_platform.clock import Clock
from its_platform.dagster_runs import JobRun
from its_platform.errors import ServerUnavailable
from its_platform.parts import SUPERVISOR, part_named
from its_platform.settings import Settings
from its_platform.stack import restart_part
from its_platform.stores.objects import DirectoryStore
from its_platform.stores.retention import is_expired_here
from its_platform.supervisor import ExpiryWatch, LogWatch, RunWatch, _beat, _guarded, supervise


class Dagster:
    """Stands in for what Dagster's database tells and is told."""

    def __init__(self) -> None:
        self.without_process: list[JobRun] = []
        self.ahead_s = 0.0
        self.given_up: list[str] = []
        self.restarted: list[str] = []

    def settle(self, settings: Settings, runs: Sequence[str] = ()) -> None:
        self.given_up += runs


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Dagster:
    dagster = Dagster()
    monkeypatch.setattr(dagster_runs, "cut_off_runs", lambda settings: dagster.without_process)
    monkeypatch.setattr(dagster_runs, "ticks_ahead_s", lambda settings: dagster.ahead_s)
    monkeypatch.setattr(dagster_runs, "settle", dagster.settle)
    monkeypatch.setattr(processes, "read_record", lambda settings, name: processes.Record(name, 1, "", "", "", []))
    monkeypatch.setattr(
        "its_platform.stack.restart_part", lambda settings, name, is_patient: dagster.restarted.append(name)
    )
    return dagster


def test_a_run_is_given_up_when_it_had_no_process_at_two_looks(settings: Settings, told: Dagster) -> None:
    watch = RunWatch(settings)
    told.without_process = [JobRun("a", "learn", "STARTED")]
    watch.look(0.0)
    assert told.given_up == [], "Dagster has the first word"
    watch.look(5.0)
    assert told.given_up == [], "not yet the next look"
    told.without_process.append(JobRun("b", "watch", "STARTED"))
    watch.look(20.0)
    assert told.given_up == ["a"]


def test_a_run_whose_process_shows_up_between_two_looks_is_let_be(settings: Settings, told: Dagster) -> None:
    watch = RunWatch(settings)
    for now, without in (
        (0.0, [JobRun("a", "learn", "STARTED")]),
        (20.0, []),
        (40.0, [JobRun("a", "learn", "STARTED")]),
    ):
        told.without_process = without
        watch.look(now)
    assert told.given_up == []


def test_sensors_that_wait_for_a_past_time_have_the_daemon_restarted(settings: Settings, told: Dagster) -> None:
    watch = RunWatch(settings)
    told.ahead_s = 30.0
    watch.look(0.0)
    assert told.restarted == []
    told.ahead_s = 86_400.0
    watch.look(20.0)
    assert told.restarted == ["dagster-daemon"]


def test_footage_that_expired_is_removed_once_a_day_where_nobody_else_does_it(settings: Settings) -> None:
    own = settings.model_copy(update={"objects": settings.objects.model_copy(update={"retention_days": 20})})
    store, watch = DirectoryStore(own.home / "objects"), ExpiryWatch(own)
    other = own.model_copy(update={"objects_url": "s3+https://key:secret@s3.example.org/its"})
    elsewhere = ExpiryWatch(other)

    def look(now: float) -> list[str]:
        store.put("frames/old.jpg", b"x")
        os.utime(store.path("frames/old.jpg"), (0, 0))
        for one in (watch, elsewhere):
            one.look(now)
        if watch.work is not None:
            watch.work.join(60)
        return list(store.list())

    assert look(0.0) == []
    assert look(3600.0) == ["frames/old.jpg"]
    assert look(90_000.0) == []
    assert elsewhere.work is None
    assert not is_expired_here(other)
    assert is_expired_here(other.model_copy(update={"objects": own.objects.model_copy(update={"expire_here": True})}))


def test_logs_that_grow_while_their_parts_live_are_rotated_every_minute(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_LOG_LIMIT_BYTES", 10)
    settings.logs.mkdir(parents=True)
    logs, watch = [settings.logs / name for name in ("triton.log", "postgres.log")], LogWatch(settings)

    def look(now: float) -> list[int]:
        for log in logs:
            log.write_text("so many words")
        watch.look(now)
        return [log.stat().st_size for log in logs]

    assert look(0.0) == [0, 0]
    assert look(30.0) == [13, 13], "not yet"
    assert look(61.0) == [0, 0]
    assert sorted(path.name for path in settings.logs.iterdir()) == [
        "postgres.log", "postgres.log.1", "triton.log", "triton.log.1",
    ]  # fmt: skip


def said(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """The facts of each line, as they are before they are written."""
    return [record.msg for record in caplog.records if isinstance(record.msg, dict)]


def test_an_error_nobody_thought_of_does_not_end_the_watch(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ZeroDivisionError("odd")

    def refuse() -> None:
        raise ServerUnavailable("away")

    _guarded("the odd one", fail)
    _guarded("the other", refuse)
    assert [facts["what"] for facts in said(caplog)] == ["the odd one", "the other"]
    assert "odd" in caplog.text
    assert said(caplog)[1]["reason"] == "away"


def test_the_process_of_a_run_and_the_reason_of_a_failure_are_read_from_dagsters_events() -> None:
    def engine(label: str, text: str) -> dict:
        data = {"metadata_entries": [{"label": label, "entry_data": {"text": text}}]}
        return {"dagster_event": {"event_type_value": "ENGINE_EVENT", "event_specific_data": data}}

    assert dagster_runs._worker(engine("pid", "1234")) == 1234
    assert dagster_runs._worker(engine("step_keys", "['a']")) is None
    assert dagster_runs._worker({"dagster_event": None}) is None

    system = {"message": "OSError: [Errno 28] No space left on device\n", "cause": None}
    ours = "its_platform.stores.objects.StorageFull"
    full = {"message": f"{ours}: The disk is full. Make room.\n", "cause": system}
    retried = {"message": "Exceeded max_retries of 3\n", "cause": full}
    failure = {"event_type_value": "STEP_FAILURE", "event_specific_data": {"error": retried}}
    assert dagster_runs._reason({"dagster_event": failure}) == "The disk is full. Make room."
    alone = {"event_type_value": "STEP_FAILURE", "event_specific_data": {"error": {**retried, "cause": system}}}
    assert dagster_runs._reason({"dagster_event": alone}) == "[Errno 28] No space left on device"
    told = {"user_failure_data": {"description": "Not taken in: north"}, "error": {"message": "y"}}
    described = {"event_type_value": "STEP_FAILURE", "event_specific_data": told}
    assert dagster_runs._reason({"dagster_event": described}) == "Not taken in: north"
    check = {"success": False, "check_name": "gates_are_passed", "description": "accuracy"}
    judged = {"event_type_value": "ASSET_CHECK_EVALUATION", "event_specific_data": check}
    assert dagster_runs._reason({"dagster_event": judged}) == "gates_are_passed: accuracy"


def test_a_part_that_somebody_else_started_since_is_left_alone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, new = (processes.Record("mlflow", number, "a birth", "", "", []) for number in (1, 2))
    processes.write_record(settings, new)
    stopped: list[str] = []
    monkeypatch.setattr(processes, "end", lambda settings, name, timeout_s: stopped.append(name))
    monkeypatch.setattr(processes, "spawn", lambda *asked: pytest.fail("it was started once more"))
    restart_part(settings, "mlflow", is_patient=False, seen=dead)
    assert stopped == []
    assert processes.read_record(settings, "mlflow") == new


def test_a_part_that_cannot_be_started_again_yet_is_still_one_that_died(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(settings: Settings) -> bool:
        raise ServerUnavailable("The database is away.")

    dead = processes.Record("dagster-daemon", 1, "a birth", "", "", [], restarts=2)
    processes.write_record(settings, dead)
    monkeypatch.setattr(dagster_runs, "has_runs_under_way", away)
    with pytest.raises(ServerUnavailable, match="database is away"):
        restart_part(settings, "dagster-daemon", is_patient=False, seen=dead)
    assert processes.read_record(settings, "dagster-daemon") == dead, "the supervisor tries again what is written down"


def test_a_database_that_is_gone_is_started_and_told_of_as_any_part(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    is_over: list[bool] = []
    started: list[str] = []

    def start(settings: Settings) -> None:
        started.append("postgres")

    monkeypatch.setattr(supervisor, "start_postgres", start)
    monkeypatch.setattr(supervisor, "_sleep", lambda seconds, is_over: is_over.append(True))
    settings.logs.mkdir(parents=True)
    (settings.home / "run").mkdir()
    (settings.logs / "postgres.log").write_text("FATAL:  the database system is out of memory\n")
    supervise(settings, is_over)
    assert started == ["postgres"]
    (facts,) = [facts for facts in said(caplog) if facts.get("part") == "postgres"]
    assert facts["event"] == "died and is started again"
    assert "out of memory" in str(facts["last_words"])


def test_a_supervisor_that_hangs_in_a_look_is_not_well(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor, now = part_named(SUPERVISOR), time.monotonic()
    processes.write_record(settings, processes.Record(SUPERVISOR, os.getpid(), "a birth", "", "", []))
    assert not supervisor.is_healthy(settings), "it has not looked yet"
    _beat(settings, Clock())
    # However far somebody sets the clock.
    monkeypatch.setattr("time.time", lambda: 0.0)
    for later_s, is_well in ((0.0, True), (150.0, True), (600.0, False)):
        monkeypatch.setattr("time.monotonic", lambda later_s=later_s: now + later_s)
        assert supervisor.is_healthy(settings) == is_well
