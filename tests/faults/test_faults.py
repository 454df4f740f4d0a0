"""What the platform promises when something breaks: the loop goes on or says what a person must do, the old model
serves, nothing acknowledged is lost or there twice, and the doctor names the fault while it lasts.

One stack of the embedded profile, one fault after another, in the order of this file: first on a loop at rest, then at
fixed points of a retraining. What only real servers can suffer is in `test_server_faults.py`. `make faults` runs both.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime

import pytest
import sqlalchemy as sa

from faults.record import FaultRecord
from faults.stand import (
    PATIENCE_S,
    SCALE,
    UNFINISHED,
    Stand,
    full_disk,
    is_back,
    kill,
    kill_part,
    looked_since,
    until,
)
from its_platform import dagster_runs, doctor
from its_platform.demo.run import segment_times
from its_platform.doctor import loop, machine, servers
from its_platform.live.feed import watch_cameras
from its_platform.model.registered import ONNX
from its_platform.monitoring.predictions import table_path
from its_platform.monitoring.reports import list_reports
from its_platform.processes import process_environment
from its_platform.release import history, judge_candidate, reconcile, served, stage
from its_platform.release.truth import LEASE
from its_platform.retraining import list_decisions
from its_platform.serving.processes import running, stubs
from its_platform.serving.repository import placed_versions
from its_platform.settings import GateSettings
from its_platform.stores.database import database_url
from its_platform.stores.postgres import server_process
from its_platform.stores.registry import MODEL_NAME, VersionFacts

PROFILE = "embedded"
pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(3600)]

DAY_S = 86_400.0
# A front that is killed takes the rows with it that it had answered and not yet written: what came in a moment.
MOST_IN_MEMORY = 4


# The servers, on a loop at rest


def test_a_killed_triton_is_started_again_and_serves_the_same_version(stand: Stand):
    version = stand.version()
    with stand.fault("kill -9", "triton") as record:
        killed = kill_part(stand.settings, "triton")
        stand.named(record, "Triton", servers.check_servers)
        until(lambda: is_back(stand.settings, "triton", killed) and stand.is_serving(), "Triton is back")
        stand.serves(version)


@pytest.mark.parametrize("model", ["detector", "traffic_detector"])
def test_a_killed_instance_is_replaced_while_its_neighbour_serves(stand: Stand, model: str):
    version, triton = stand.version(), running(stand.settings)
    with stand.fault("kill -9", f"stub of {model}") as record:
        victim = stand.stub(model)
        kill(victim.pid)
        stand.named(record, victim.model, servers.check_serving)
        until(lambda: victim not in stubs(stand.settings) and stand.is_serving(), "all instances answer")
        stand.serves(version)
    assert running(stand.settings) == triton, "the server itself was not touched"


@pytest.mark.parametrize("model", ["detector", "traffic_detector"])
def test_an_instance_that_hangs_is_replaced_while_its_neighbour_serves(stand: Stand, model: str):
    version = stand.version()
    with stand.fault("hang", f"stub of {model}") as record:
        victim = stand.stub(model)
        os.kill(victim.pid, signal.SIGSTOP)
        stand.named(record, victim.model, servers.check_serving)
        until(lambda: victim not in stubs(stand.settings) and stand.is_serving(), "the hanging instance is gone")
        stand.serves(version)


# The model repository and the releases


def test_a_half_written_version_is_removed_and_the_served_one_comes_up_beside_it(stand: Stand):
    version, model = stand.version(), stand.stub("detector").model
    with stand.fault("half-written version", "model repository") as record:
        left = stand.settings.model_repository / model / "999"
        left.mkdir()
        (left / ONNX).write_bytes(b"\x08\x08\x12\x07pytorch"[:6])
        # Only a Triton that starts reads it; the one that runs would go on.
        killed = kill_part(stand.settings, "triton")
        stand.named(record, f"version 999 of {model} is half written", loop.check_model_repository)
        until(lambda: is_back(stand.settings, "triton", killed) and stand.is_serving(), "Triton serves")
        until(lambda: not left.exists(), "the half-written version is removed")
        stand.serves(version)


def test_a_corrupt_onnx_under_the_served_version_is_fetched_again(stand: Stand):
    version, model = stand.version(), stand.stub("detector").model
    with stand.fault("corrupt ONNX", "model repository") as record:
        onnx = stand.settings.model_repository / model / str(version) / ONNX
        good = onnx.read_bytes()
        onnx.write_bytes(b"not a model" + good[11:5000])
        stand.named(record, f"version {version} of {model} holds another {ONNX}", loop.check_model_repository)
        killed = kill_part(stand.settings, "triton")
        until(lambda: is_back(stand.settings, "triton", killed) and stand.is_serving(), "Triton serves")
        until(lambda: onnx.exists() and onnx.read_bytes() == good, "the file is what was registered")
        stand.serves(version)


def test_an_alias_on_a_version_that_failed_its_gates_is_refused_and_the_served_one_stays(stand: Stand):
    version = stand.version()
    other = register_copy(stand)
    stage(stand.stores, other, by="a test", why="to be judged", wait_s=60)
    strict = stand.settings.model_copy(update={"gates": GateSettings(**{**gates(stand), "simulated_floor": 1.0})})
    judged = judge_candidate(type(stand.stores)(strict, stand.stores.objects, stand.stores.database), other)
    assert "failed" in {result.verdict for result in judged}
    with stand.fault("alias set by hand", "registry") as record:
        stand.stores.registry.set_alias(MODEL_NAME, "production", other)
        stand.named(record, f"version {other} is asked for at production and not served", loop.check_releases)
        until(lambda: stand.stores.registry.get(MODEL_NAME, other).tags.get("release_refused"), "it is refused")
        stand.serves(version)
        # What the doctor told: take the wish back.
        stand.stores.registry.set_alias(MODEL_NAME, "production", version)
        stand.well(loop.check_releases)
        stand.serves(version)


def test_of_two_promotions_at_once_each_is_served_or_told_and_one_version_is_in_production(stand: Stand):
    version = stand.version()
    other = max(model.version for model in stand.stores.registry.list())
    judge_candidate(stand.stores, other)
    with stand.fault("two promotions at once", "release") as record:
        asking = {one: promote_by_hand(stand, one) for one in (other, version)}
        words = f"version {other} is asked for at production"
        while any(one.poll() is None for one in asking.values()):
            look_for(stand, record, words)
        said = {one: process.communicate()[0] for one, process in asking.items()}
        codes = {one: process.returncode for one, process in asking.items()}
        assert 0 in codes.values(), said
        assert all(code == 0 or "Try again" in said[one] for one, code in codes.items()), said
        if codes[other] != 0:
            # It was told to try again, and now nobody is in its way.
            again = promote_by_hand(stand, other)
            while again.poll() is None:
                look_for(stand, record, words)
            assert again.returncode == 0, again.communicate()[0]
        stand.well(loop.check_releases)
        open_rows = [row for row in history(stand.stores, "production") if row.until is None]
        assert [row.version for row in open_rows] == [stand.version()]
        stand.serves(stand.version())
    # The loop goes on from the version that has a reference.
    if stand.version() != version:
        stand.stores.registry.set_alias(MODEL_NAME, "production", version)
        until(lambda: stand.answers_with(version), "the first version serves again")


# Footage, reports, the clock


def test_a_full_disk_is_named_and_ingest_goes_on_when_there_is_room(stand: Stand):
    if not stand.has_own_disk:
        pytest.skip("mounting is not allowed here, so no disk can be made full; the unit tests fill one by its error")
    stood = len(list(stand.stores.objects.list("frames/")))
    with stand.fault("disk full", "object store") as record:
        with full_disk(stand):
            since, to = segment_times(stand.demo, "live day")
            stand.named(record, "is full", machine.check_disk)
            stand.named(record, "is full", loop.check_runs, within_s=PATIENCE_S)
            assert len(list(stand.stores.objects.list("frames/"))) >= stood
        wait_taken_in(stand, to)
        assert list((stand.settings.home / "objects").rglob("*.part*")) == []
        count_frames(stand, record, since, to)


def test_a_daemon_killed_while_a_run_is_queued_leaves_the_run_to_the_next_daemon(stand: Stand):
    with stand.fault("kill -9 while a run is queued", "dagster-daemon") as record:
        before = len(stand.runs("ingest", *UNFINISHED, "SUCCESS", "FAILURE", "CANCELED"))
        since, to = segment_times(stand.demo, "nightfall")
        every = (*UNFINISHED, "SUCCESS", "FAILURE", "CANCELED")
        until(lambda: len(stand.runs("ingest", *every)) > before, "an ingest is queued", poll_s=0.02)
        killed = kill_part(stand.settings, "dagster-daemon")
        stand.named(record, "Dagster's daemon: has died", servers.check_dagster_daemon)
        until(lambda: is_back(stand.settings, "dagster-daemon", killed), "the daemon is back")
        wait_taken_in(stand, to)
        count_frames(stand, record, since, to)


def test_a_code_server_that_is_killed_delays_the_sensors(stand: Stand):
    with stand.fault("kill -9", "Dagster's code server") as record:
        killed = kill_part(stand.settings, "dagster-code")
        stand.named(record, "code server: has died", servers.check_servers)
        until(lambda: is_back(stand.settings, "dagster-code", killed), "the code server is back")
        back = time.time()
        until(lambda: looked_since(stand.settings, back), "every sensor has looked again")
        stand.well(servers.check_servers, servers.check_dagster_daemon)


def test_without_a_drift_report_nothing_is_decided_and_the_report_is_made_later(stand: Stand):
    with stand.fault("no drift report", "table of predictions") as record:
        log = table_path(stand.stores) / "_delta_log"
        aside = log.with_name("aside")
        log.rename(aside)
        since, to = segment_times(stand.demo, "nightfall")
        record.acknowledged += feed(stand, since, to)
        stand.named(record, "Delta log", loop.check_runs, loop.check_drift_reports, within_s=PATIENCE_S)
        until(lambda: stand.runs("watch", "FAILURE"), "a watch run fails")
        assert stand.runs("learn", *UNFINISHED) == []
        assert list_decisions(stand.stores, 1)[0]["action"] != "retrain"
        aside.rename(log)
        until(lambda: reported(stand, since, to), "the report on the window")
        stand.well(loop.check_drift_reports)
        missing_live(stand, record, since, to)


def test_a_clock_that_was_set_back_stops_neither_sensors_nor_releases(stand: Stand):
    with stand.fault("clock set back by a day", "sensors and leases") as record:
        # What a clock that is set back leaves behind: every time that was written down lies ahead.
        put_ahead(stand, DAY_S)
        stand.named(record, "it was set back", machine.check_clock)
        until(lambda: dagster_runs.ticks_ahead_s(stand.settings) < 60, "no sensor waits for a past time")
        until(lambda: reconcile(stand.stores, "a test", wait_s=60) == [], "the lease is to be had")
        since, to = segment_times(stand.demo, "live night")
        wait_taken_in(stand, to)
        stand.well(machine.check_clock)
        count_frames(stand, record, since, to)


# A retraining, broken off at each of its fixed points


def test_a_database_killed_while_a_dataset_is_built_delays_the_training(stand: Stand):
    since, to = segment_times(stand.demo, "live night")
    lived = feed(stand, since, to)
    run = until(lambda: stand.runs("learn", "STARTED"), "drift starts a training")[-1]
    until(lambda: stand.has_begun(run, "dataset_version"), "the dataset is being built")
    with stand.fault("kill -9 while a dataset is built", "database") as record:
        record.acknowledged += lived
        server = server_process(stand.settings)
        assert server is not None
        # Whoever asks next starts it again within seconds: the doctor has to have loaded what it looks with.
        stand.well(servers.check_database)
        server.kill()
        stand.named(record, "database", servers.check_database)
        until(lambda: (now := server_process(stand.settings)) and now.pid != server.pid, "a new database server")
        stand.well(servers.check_database, servers.check_servers)
        until(lambda: training(stand), "the training goes on")
        missing_live(stand, record, since, to)


def test_a_run_worker_killed_while_it_trains_is_repeated(stand: Stand):
    run = training(stand, until_step="candidate_model")
    with stand.fault("kill -9 while it trains", "run worker") as record:
        kill(stand.worker(run))
        stand.named(record, "job learn", loop.check_runs)
        until(lambda: (now := stand.runs("learn", *UNFINISHED)) and now[-1] != run, "the run is repeated")
        training(stand, until_step="candidate_model")


def test_an_mlflow_page_killed_while_a_version_is_registered_is_started_again(stand: Stand):
    before = len(stand.stores.registry.list())
    folder = stand.settings.home / "mlartifacts"
    stood = len(list(folder.glob("*/artifacts/model")))
    training(stand, until_step="candidate_model")
    until(lambda: len(list(folder.glob("*/artifacts/model"))) > stood, "a version is being registered", poll_s=0.05)
    with stand.fault("kill -9 while a version is registered", "mlflow") as record:
        killed = kill_part(stand.settings, "mlflow")
        stand.named(record, "MLflow", servers.check_servers)
        until(lambda: is_back(stand.settings, "mlflow", killed), "MLflow's page is back")
        until(lambda: len(stand.stores.registry.list()) > before, "the version is registered")
        assert len(stand.stores.registry.list()) == before + 1, "once"


def test_a_triton_killed_while_it_loads_a_version_ends_with_that_version_served(stand: Stand):
    newest = stand.wait_released(newer_than=0)
    assert newest == max(one.version for one in stand.stores.registry.list()), "the training ends with what it made"
    model = stand.stub("detector").model
    other = register_copy(stand)
    with stand.fault("kill -9 while a version is loaded", "triton") as record:
        # The registry sensor's run loads it; that run is tried again when Triton goes away under it.
        stand.stores.registry.set_alias(MODEL_NAME, "staging", other)
        until(lambda: other in placed_versions(stand.settings, model), "the version is placed", poll_s=0.02)
        killed = kill_part(stand.settings, "triton")
        stand.named(record, "Triton", servers.check_servers)
        until(lambda: is_back(stand.settings, "triton", killed), "Triton is back")
        until(lambda: staged(stand) == other, "the version is served at staging", 2 * PATIENCE_S)
        until(stand.is_serving, "all instances answer")
        stand.serves(newest)


# The reckoning


def test_nothing_acknowledged_is_missing_or_there_twice_and_the_doctor_is_content(stand: Stand):
    stand.stop_requester()
    stand.count_predictions()
    broken = [record for record in stand.records if not kept_what_it_acknowledged(record)]
    for record in broken:
        record.is_kept = False
    assert broken == []
    stand.well(*machine.CHECKS, *servers.CHECKS, loop.check_data_repository, loop.check_releases)
    release = served(stand.stores, "production")
    assert release is not None
    datasets = [model.dataset_version for model in stand.stores.registry.list()]
    # A build that the database was killed under keeps its name, and the next one has another.
    assert sum(name != "v1" for name in datasets) == 1, "one training came of one drift"


# What the tests above are made of


def kept_what_it_acknowledged(record: FaultRecord) -> bool:
    """Whether a fault cost no more than it may: rows in the memory of a front that was killed, answers of a server."""
    has_killed_a_front = record.target in ("triton", "model repository", "stub of traffic_detector")
    has_stopped_triton = record.target in ("triton", "model repository", "every server")
    return (
        record.missing <= (MOST_IN_MEMORY if has_killed_a_front else 0)
        and record.duplicated == 0
        and (has_stopped_triton or record.failed_requests == 0)
    )


def staged(stand: Stand) -> int | None:
    release = served(stand.stores, "staging")
    return release.version if release is not None else None


def gates(stand: Stand) -> dict[str, object]:
    return dict(stand.settings.gates.model_dump())


def promote_by_hand(stand: Stand, version: int) -> subprocess.Popen[str]:
    """`its release promote`, begun and not waited for."""
    return subprocess.Popen(
        [sys.executable, "-c", "from its_platform.cli import main; main()", "release", "promote", str(version)],
        env=process_environment(stand.settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def look_for(stand: Stand, record: FaultRecord, words: str) -> None:
    """One look of the doctor for what lasts no longer than a release takes."""
    for one in doctor.examine(stand.settings, (loop.check_releases,)):
        if not one.is_well and words in one.finding:
            record.doctor_named, record.doctor_said = True, f"{one.name}: {one.finding}"


def register_copy(stand: Stand) -> int:
    """A further version with the files of the first one, in an MLflow run of its own."""
    registry = stand.stores.registry
    model = min(registry.list(), key=lambda one: one.version)
    folder = registry.download(MODEL_NAME, model.version, stand.settings.home / "copy")
    run = registry.client().create_run(registry.experiment())
    facts = VersionFacts(
        dataset_version=model.dataset_version,
        family=model.family,
        image_size=model.image_size,
        classes=model.classes,
        thresholds=model.thresholds,
        tags={name: value for name, value in model.tags.items() if name == "parity"},
    )
    return registry.create_version(run.info.run_id, folder, facts).version


def wait_taken_in(stand: Stand, to: datetime) -> None:
    """Wait until the footage sensor's runs say that they have taken every camera in, up to a moment and beyond."""
    from its_platform.frames.ingest import has_new_footage

    def is_there() -> bool:
        # Not by the rows: one that is lost would be waited for.
        is_behind = any(has_new_footage(stand.stores, view) for view in SCALE.views)
        return not is_behind and not stand.runs("ingest", *UNFINISHED)

    until(is_there, f"the footage up to {to:%H:%M:%S}", 2 * PATIENCE_S)


def count_frames(stand: Stand, record: FaultRecord, since: datetime, to: datetime) -> None:
    taken_in, missing, twice = stand.frames_of(since, to)
    record.acknowledged += taken_in
    record.missing += missing
    record.duplicated += twice


def feed(stand: Stand, since: datetime, to: datetime) -> int:
    """Have the live cameras ask about a span of time; how many answers they got."""
    result = watch_cameras(stand.stores, list(SCALE.views), since, to, concurrency=2)
    assert result.failed == 0, result.problems
    return result.frames


def missing_live(stand: Stand, record: FaultRecord, since: datetime, to: datetime) -> None:
    """Of the live answers on a span of time, count those that the table lacks or has twice."""
    from its_platform.monitoring import predictions

    predictions.collect(stand.stores)
    rows = predictions.query(stand.stores, since=since, until=to, purpose="live", columns=["camera_id", "at"])
    given = len(SCALE.views) * round((to - since).total_seconds() / SCALE.sample_interval_s)
    record.missing += max(0, given - len(rows.drop_duplicates()))
    record.duplicated += int(rows.duplicated().sum())


def reported(stand: Stand, since: datetime, to: datetime) -> bool:
    return any(report.since >= since and report.until <= to for report in list_reports(stand.stores))


def training(stand: Stand, until_step: str | None = None) -> str:
    """The run of `learn` that is under way, once it has got to a step; empty where there is none."""
    if until_step is None:
        found = stand.runs("learn", "STARTED")
        return found[-1] if found else ""

    def at_step() -> str:
        found = stand.runs("learn", "STARTED")
        return found[-1] if found and stand.has_begun(found[-1], until_step) else ""

    run: str = until(at_step, f"a training gets to {until_step}", 2 * PATIENCE_S, poll_s=0.1)
    return run


def put_ahead(stand: Stand, seconds: float) -> None:
    """Move what sensors and leases have written down into the future."""
    engine = sa.create_engine(database_url(stand.settings, "dagster"), poolclass=sa.NullPool)
    with engine.begin() as connection:
        for key, body in connection.execute(sa.text("SELECT id, instigator_body FROM instigators")).all():
            state = json.loads(body)
            for name, value in state["job_specific_data"].items():
                if name.endswith("_timestamp") and value:
                    state["job_specific_data"][name] = value + seconds
            connection.execute(
                sa.text("UPDATE instigators SET instigator_body = :body WHERE id = :id"),
                {"body": json.dumps(state), "id": key},
            )
    with stand.stores.database.session() as session:
        session.execute(
            sa.text("UPDATE leases SET expires_at = expires_at + make_interval(secs => :s) WHERE name = :name"),
            {"s": seconds, "name": LEASE},
        )
    ahead = time.time() + seconds
    for file in stand.settings.spool.glob("*.jsonl"):
        os.utime(file, (ahead, ahead))
