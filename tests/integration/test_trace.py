"""One loop on the real stores, from a frame to the model that a drift report led to, traced from each of its links."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from its_platform import cli
from its_platform.cameras import Camera, add_camera
from its_platform.dataset import DatasetRequest, build_dataset, load_manifest, record_use
from its_platform.errors import BadInput, NotFound, PermanentError, TransientError
from its_platform.monitoring.predictions import collect, table_path
from its_platform.monitoring.reports import DriftReport, save_report
from its_platform.release import truth, verdicts
from its_platform.release.gates import GateResult
from its_platform.retraining import Decision, list_decisions, record_decision, record_run
from its_platform.settings import load_settings
from its_platform.stores import Stores, open_stores
from its_platform.stores import versions as repository
from its_platform.stores.registry import VersionFacts
from its_platform.telemetry import correlated
from its_platform.trace import Branch, Chain, trace
from tests.unit.dataset import footage

pytestmark = [pytest.mark.services, pytest.mark.slow]

RUN = "7f3c2a10-1111-4222-8333-944445555666"
# Runs of the other jobs, by what the job leaves.
TOOK_IN = "1a000000-1111-4222-8333-944445555666"
TOOK_NOTHING_IN = "1b000000-1111-4222-8333-944445555666"
WATCHED = "2a000000-1111-4222-8333-944445555666"
RECONCILED = "3a000000-1111-4222-8333-944445555666"
LOOKED = "4a000000-1111-4222-8333-944445555666"
MARTS = "5a000000-1111-4222-8333-944445555666"
REPORT = "v1-20260501T200000-abcdef01"
NIGHT = footage.START + timedelta(hours=12)
PASSED = GateResult("accuracy_floor", "ap50", "golden", 0.8, 0.5, 200, "passed", "")


@dataclass(frozen=True)
class World:
    """A loop that has gone round once.

    seen: a golden frame, played for the reference. asked_about: a frame that live traffic asked about, without
    labels. untouched: a frame of which nothing came. trained: both MLflow runs.
    """

    stores: Stores
    seen: str
    asked_about: str
    untouched: str
    trained: tuple[str, str]


@pytest.fixture(scope="module")
def world(postgres_server: str, mlflow_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    from sqlalchemy.engine import make_url

    from its_platform.stores.database import create_database, dispose_engines

    home = tmp_path_factory.mktemp("trace")
    address = make_url(postgres_server).set(database=f"t{uuid.uuid4().hex[:10]}").render_as_string(hide_password=False)
    settings = load_settings(home=home, database_url=address)
    create_database(settings, "its", template="template_its")
    create_database(settings, "mlflow", template=mlflow_template)
    stores = open_stores(settings)
    with pytest.MonkeyPatch.context() as patch:
        # DVC takes seconds a call and has tests of its own; the versions are read from the cache.
        patch.setattr(repository, "commit_version", lambda *_: "commit")
        patch.setattr(repository, "push", lambda *_: 0)
        yield go_round(stores, home)
    dispose_engines()


def go_round(stores: Stores, home: Path) -> World:
    for camera in ("bridge", "junction"):
        add_camera(stores, Camera(camera_id=camera, source=f"file:///footage/{camera}"))
        footage.label(stores, footage.add_frames(stores, camera, range(0, 600, 5)))
    (untouched,) = footage.add_frames(stores, "bridge", [5000])
    build_dataset(stores, DatasetRequest(footage.CLASSES))
    first = train(stores, home, "v1", {})
    with correlated(run=RECONCILED):
        release(stores, 1)
    golden = load_manifest(stores, "v1").query("split == 'golden'").iloc[0]
    # The last of the night's frames is in no dataset version: it is only asked about.
    night = footage.add_frames(stores, "bridge", range(0, 600, 5), light="night", start=NIGHT)
    footage.label(stores, night[:-1])
    log_predictions(stores, "bridge", [NIGHT + timedelta(seconds=595)], "live", 1)
    log_predictions(stores, golden["camera_id"], [golden["captured_at"].to_pydatetime()], "reference", 1)
    report(stores)
    window = (NIGHT, NIGHT + timedelta(minutes=10))
    decision = Decision("retrain", ["2 of the last 2 windows have drifted."], {"report": REPORT}, window, "retrain-v1")
    assert record_decision(stores, decision)
    dagster_runs(stores, "retrain-v1")
    assert record_run(stores, "retrain-v1", RUN)
    assert not record_decision(stores, decision), "the run of a decision makes it no new one"
    build_dataset(stores, DatasetRequest(footage.CLASSES, previous="v1", window=window), dagster_run=RUN)
    second = train(
        stores, home, "v2", {"dagster_run_id": RUN, "base_weights_digest": sha256(b"weights of v1").hexdigest()}
    )
    record_use(stores, 2, 2, "gate")
    release(stores, 2)
    with correlated(run=LOOKED):
        verdicts.record_event(stores, verdicts.LOOKED, "canary", 2, "not enough evidence", {"action": "wait"})
    return World(stores, golden["frame_hash"], night[-1], untouched, (first, second))


def train(stores: Stores, home: Path, dataset: str, tags: dict[str, str]) -> str:
    folder = home / "files" / dataset
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(dataset.encode())
    (folder / "model.pt").write_bytes(f"weights of {dataset}".encode())
    client = stores.registry.client()
    run = client.create_run(stores.registry.experiment(), tags={"dataset_version": dataset, **tags}).info.run_id
    facts = VersionFacts(dataset, "yolo", 64, ["car"])
    version = stores.registry.create_version(run, folder, facts).version
    client.set_terminated(run)
    verdicts.record_judgement(stores, version, "test", None, [PASSED])
    return str(run)


def release(stores: Stores, version: int) -> None:
    with truth.lease(stores) as held:
        truth.record_release(
            held,
            stage="production",
            version=version,
            model="detector-yolo-onnx-64",
            digest="d" * 64,
            endpoint="127.0.0.1:1",
            by="tester",
            why="a test",
            evidence={},
            action="release.promoted",
        )


def log_predictions(stores: Stores, camera: str, moments: list[datetime], purpose: str, version: int) -> None:
    stores.settings.spool.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps(
            {
                "at": at.isoformat(),
                "logged_at": datetime.now(UTC).isoformat(),
                "camera_id": camera,
                "model": "detector-yolo-onnx-64",
                "version": version,
                "stage": "production",
                "purpose": purpose,
                "counts": {"car": 2},
            }
        )
        for at in moments
    ]
    (stores.settings.spool / f"{purpose}.jsonl").write_text("\n".join(lines) + "\n")
    assert collect(stores) == len(moments)


def report(stores: Stores) -> None:
    made = DriftReport(
        id=REPORT,
        run_key=REPORT,
        model_version=1,
        since=NIGHT,
        until=NIGHT + timedelta(minutes=10),
        rows=1,
        score=9.1,
        threshold=1.0,
        is_drifted=True,
        columns={},
        unseen_strata=[],
        verdict="drifted",
        reason="brightness is 9.1 times its threshold",
        html=None,
        created_at=datetime.now(UTC),
        details={"dagster_run": WATCHED},
    )
    save_report(stores, made)


def dagster_runs(stores: Stores, key: str) -> None:
    """Runs in Dagster's own tables, put there by Dagster; those of `ingest` with their times."""
    import sqlalchemy as sa
    from dagster import DagsterRun, DagsterRunStatus
    from dagster_postgres.run_storage import PostgresRunStorage

    from its_platform.stores.database import create_database, database_url

    create_database(stores.settings, "dagster")
    storage = PostgresRunStorage(database_url(stores.settings, "dagster"), should_autocreate_tables=True)
    tags = {"its/trigger": "retrain", "its/decision": key}
    storage.add_run(DagsterRun(job_name="learn", run_id=RUN, status=DagsterRunStatus.SUCCESS, tags=tags))
    others = {TOOK_IN: "ingest", TOOK_NOTHING_IN: "ingest", WATCHED: "watch", RECONCILED: "reconcile"}
    for run_id, job in {**others, LOOKED: "canary", MARTS: "marts"}.items():
        tags = {"its/cameras": "junction"} if run_id == TOOK_IN else {}
        storage.add_run(DagsterRun(job_name=job, run_id=run_id, status=DagsterRunStatus.SUCCESS, tags=tags))
    storage.dispose()
    engine = sa.create_engine(database_url(stores.settings, "dagster"))
    for run_id, began in ((TOOK_IN, footage.START), (TOOK_NOTHING_IN, footage.START + timedelta(days=1))):
        times = {"run": run_id, "start": began.timestamp() - 5, "end": began.timestamp() + 5}
        with engine.begin() as connection:
            connection.execute(
                sa.text("UPDATE runs SET start_time = :start, end_time = :end WHERE run_id = :run"), times
            )
    engine.dispose()


def keys(tree: Branch) -> set[str]:
    return {branch.node.key for branch in tree.walk()}


def kinds(tree: Branch) -> set[str]:
    return {branch.node.kind for branch in tree.walk()} - {tree.node.kind}


def said(chain: Chain) -> set[str]:
    return {what for tree in (chain.came_from, chain.led_to) for branch in tree.walk() for what in branch.missing}


def test_a_frame_that_was_asked_about_leads_to_the_model_that_its_report_brought(world: World) -> None:
    chain = trace(world.stores, world.asked_about[:12], depth=20)
    assert chain.start.key == f"frame:{world.asked_about}"
    assert keys(chain.came_from) == {f"frame:{world.asked_about}", "camera:bridge"}
    (asked,) = [b for b in chain.led_to.branches if b.node.kind == "prediction"]
    assert (asked.node.facts["version"], asked.node.facts["objects"]) == (1, 2)
    assert [(b.node.key, b.how) for b in asked.branches] == [(f"report:{REPORT}", "in its window")]
    assert {"decision:1", f"run:{RUN}", "dataset:v2", "model:2", "release:2"} <= keys(chain.led_to)
    assert "report" not in {b.node.kind for b in chain.led_to.branches}, "counted through its prediction alone"
    assert {"no labels yet", "in no dataset version yet"} <= said(chain)


def test_a_golden_frame_tells_its_labels_what_it_judges_and_what_was_logged_about_it(world: World) -> None:
    chain = trace(world.stores, f"frame:{world.seen}")
    there = {b.node.key: b for b in chain.led_to.branches}
    assert there["dataset:v1"].how == "judges (golden)"
    assert there["dataset:v2"].how == "judges (golden)"
    (labels,) = [b.node for b in there.values() if b.node.kind == "labels"]
    assert (labels.facts["origin"], labels.facts["review"], labels.facts["by"]) == ("human", "reviewed", "test")
    assert labels.facts["boxes"] == {"car": 1, "truck": 1}
    (asked,) = [b.node for b in there.values() if b.node.kind == "prediction"]
    assert asked.facts["purpose"] == "reference"
    assert {"golden:1", "golden:2", "model:1", "model:2", "release:1"} <= keys(chain.led_to)
    assert chain.start.facts["camera"] in ("bridge", "junction")


def test_a_frame_that_only_teaches_leads_to_no_golden_set(world: World) -> None:
    row = load_manifest(world.stores, "v1").query("split == 'train'").iloc[0]
    chain = trace(world.stores, row["frame_hash"])
    assert {b.how for b in chain.led_to.branches if b.node.kind == "dataset"} == {"teaches"}
    assert "golden" not in kinds(chain.led_to)
    assert "model:1" in keys(chain.led_to)
    assert "no predictions logged about it" in said(chain)


def test_a_frame_of_which_nothing_came_says_so(world: World) -> None:
    chain = trace(world.stores, world.untouched)
    assert chain.led_to.branches == []
    assert chain.led_to.missing == ("no labels yet", "in no dataset version yet", "no predictions logged about it")


WHOLE_WAY_BACK = {
    "dataset:v2",
    f"run:{RUN}",
    "decision:1",
    f"report:{REPORT}",
    "predictions:1/production/live",
    "release:1",
    "model:1",
    "dataset:v1",
}


@pytest.mark.parametrize(
    ("name", "back", "on"),
    [
        ("camera:bridge", set(), {"dataset:v1", "dataset:v2", "model:1", "release:2"}),
        ("v1", set(), {"golden:1", "model:1", f"report:{REPORT}", "decision:1", f"run:{RUN}", "dataset:v2", "model:2"}),
        ("v2", WHOLE_WAY_BACK - {"dataset:v2"}, {"golden:2", "model:2", "release:2"}),
        ("golden:2", {"dataset:v2"}, {"model:2"}),
        ("model:1", {"dataset:v1"}, {"release:1", f"report:{REPORT}", "model:2"}),
        ("traffic-detector/2", {"golden:2", *WHOLE_WAY_BACK}, {"release:2"}),
        ("production", {"model:2", *WHOLE_WAY_BACK}, set()),
        ("release:1", {"model:1", "dataset:v1"}, {"predictions:1/production/live", f"report:{REPORT}", "release:2"}),
        (
            f"report:{REPORT}",
            {"predictions:1/production/reference", "release:1", "dataset:v1"},
            {"decision:1", "model:2"},
        ),
        ("decision:1", {f"report:{REPORT}", "model:1"}, {f"run:{RUN}", "dataset:v2", "model:2", "release:2"}),
        (RUN, {"decision:1", f"report:{REPORT}", "dataset:v1"}, {"dataset:v2", "model:2", "release:2"}),
        ("run:7f3c2a10", {"decision:1"}, {"dataset:v2"}),
    ],
)
def test_each_kind_is_traced_in_both_directions(world: World, name: str, back: set[str], on: set[str]) -> None:
    chain = trace(world.stores, name, depth=20)
    assert back <= keys(chain.came_from)
    assert on <= keys(chain.led_to)
    assert not keys(chain.came_from) & keys(chain.led_to) - {chain.start.key}
    if back:
        # Every chain ends at frames, each of a camera, however few of them are named.
        assert {"frame", "camera"} <= kinds(chain.came_from)


@pytest.mark.parametrize(
    ("run", "left"),
    [(WATCHED, {f"report:{REPORT}"}), (RECONCILED, {"release:1"}), (LOOKED, {"decision:2"})],
)
def test_a_run_leads_to_what_was_recorded_in_it(world: World, run: str, left: set[str]) -> None:
    chain = trace(world.stores, run)
    assert {b.node.key for b in chain.led_to.branches} == left
    assert chain.led_to.missing == ()
    (one,) = left
    assert f"run:{run}" in keys(trace(world.stores, one).came_from)


def test_an_ingest_leads_to_the_frames_of_its_cameras_that_were_stored_while_it_ran(world: World) -> None:
    chain = trace(world.stores, TOOK_IN)
    frames = [b.node for b in chain.led_to.branches]
    assert {(node.kind, node.facts["camera"]) for node in frames} == {("frame", "junction")}
    assert (len(frames), chain.led_to.more) == (3, {"frame": 117})
    taken = trace(world.stores, frames[0].key)
    assert [(b.node.key, b.how) for b in taken.came_from.branches if b.node.kind == "run"] == [
        (f"run:{TOOK_IN}", "taken in")
    ]
    assert "run" not in kinds(trace(world.stores, world.untouched).came_from)


def test_a_run_that_left_nothing_says_what_it_did_not_leave(world: World) -> None:
    said = {run: trace(world.stores, run).led_to for run in (TOOK_NOTHING_IN, MARTS)}
    assert [tree.branches for tree in said.values()] == [[], []]
    assert said[TOOK_NOTHING_IN].missing == ("took in no frames",)
    assert said[MARTS].missing == ("built the marts of all that is there (`its monitor marts`)",)


def test_an_mlflow_run_leads_from_its_dataset_to_its_version(world: World) -> None:
    first, second = (trace(world.stores, run[:10]) for run in world.trained)
    assert first.start.kind == "training"
    assert "no Dagster run: trained by command" in first.came_from.missing
    assert {"dataset:v2", f"run:{RUN}", "model:1"} <= keys(second.came_from)
    assert [b.node.key for b in second.led_to.branches] == ["model:2"]


def test_of_many_frames_a_few_are_named_and_all_are_counted(world: World) -> None:
    chain = trace(world.stores, "v1")
    frames = [b for b in chain.came_from.branches if b.node.kind == "frame"]
    total = sum(chain.start.facts["frames"].values())
    assert {b.how for b in frames} == {"judges (golden)", "tunes", "teaches"}
    assert chain.came_from.more["frame"] == total - 3
    assert sum(chain.start.facts["cameras"].values()) == total


def test_what_is_missing_in_the_chain_is_said(world: World) -> None:
    assert "no predictions logged yet" in trace(world.stores, "release:2").led_to.missing
    assert "no Dagster run: built by command" in trace(world.stores, "v1").came_from.missing


def test_unknown_and_ambiguous_names_are_told_apart(world: World) -> None:
    with pytest.raises(NotFound, match="Nothing is called 'v9'"):
        trace(world.stores, "v9")
    with pytest.raises(BadInput, match="model:2, release:2, decision:2, golden:2"):
        trace(world.stores, "2")
    with pytest.raises(NotFound):
        trace(world.stores, "frame:" + "0" * 12)


def test_a_store_that_cannot_be_read_is_an_error_and_never_an_empty_chain(world: World) -> None:
    log = table_path(world.stores) / "_delta_log"
    hidden = log.rename(log.with_name("hidden"))
    try:
        with pytest.raises((TransientError, PermanentError)):
            trace(world.stores, "model:1")
    finally:
        hidden.rename(log)


def test_the_command_prints_both_directions_json_and_a_picture(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ITS_HOME", str(world.stores.settings.home))
    monkeypatch.setenv("ITS_DATABASE_URL", str(world.stores.settings.database_url))

    def its(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            cli.main(["trace", *words])
        assert not end.value.code
        return capsys.readouterr().out

    picture = tmp_path / "chain.svg"
    told = its("model", "2", "--picture", str(picture))
    assert told.startswith("● model:2  traffic-detector/2")
    assert told.index("came from") < told.index("decision:1") < told.index("led to") < told.index("release:2")
    assert "release:2" in picture.read_text("utf-8")
    facts = json.loads(its("model:2", "--json"))
    assert facts["start"] == "model:2"
    assert {"above": "dataset:v1", "below": "dataset:v2", "how": "extended"} in facts["links"]
    assert "release:2" in facts["led_to"]["nodes"]
    assert {node["id"] for node in facts["nodes"]} >= WHOLE_WAY_BACK


def test_the_run_is_named_in_the_decision_that_started_it(world: World) -> None:
    assert [row["run_id"] for row in list_decisions(world.stores)] == [RUN]
    assert not record_run(world.stores, "retrain-v1", "another")
    assert not record_run(world.stores, "never decided", RUN)
