"""The past, gone through again: each report with what was known when it was made, and nothing that came later."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from its_platform.cli import retraining as commands
from its_platform.frames.index import FrameIndex, FrameRow
from its_platform.labels.labelling import Box, FrameLabels
from its_platform.labels.store import add_labels
from its_platform.model.origin import EXPORTED_FROM
from its_platform.monitoring.reports import DriftReport, save_report
from its_platform.retraining import TRAININGS, Decision, RetrainingHistory, list_decisions, record_decision, replay
from its_platform.retraining.replay import decisions_on, is_training_at
from its_platform.settings import RetrainingSettings
from its_platform.stores import Stores
from its_platform.stores.registry import Registry
from its_platform.stores.runs import DagsterRun
from its_platform.stores.schema import ReleaseRow

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
SETTINGS = RetrainingSettings(minimum_reviewed_frames=40, cool_down_s=3600)


def test_a_golden_history_gives_the_decisions_that_it_always_gave() -> None:
    nothing = RetrainingHistory()
    footage = RetrainingHistory(frames=100, reviewed_frames=80)
    served = RetrainingHistory(served_version=1, newest_version=1, windows=2, drifted=0, needed=2, looked_at=3)
    drifted = replace(served, drifted=2, latest_report="r2", drifted_since=NOON, drifted_until=NOON + HOUR, frames=90)
    known = [nothing, footage, served, drifted, replace(drifted, reviewed_frames=50)]
    moments = [NOON + n * HOUR for n in range(len(known))]
    told = list(decisions_on(list(zip(moments, known, strict=True)), SETTINGS))
    assert [at for at, _ in told] == moments
    assert [decision.action for _, decision in told] == [
        "nothing",
        "train_first",
        "nothing",
        "waiting_for_labels",
        "retrain",
    ]
    assert told[-1][1].window == (NOON, NOON + HOUR)


def report(number: int, verdict: str, at: datetime, version: int = 1) -> DriftReport:
    since = NOON + number * 10 * MINUTE
    return DriftReport(
        id=f"r{number}",
        run_key=f"key{number}",
        model_version=version,
        since=since,
        until=since + 10 * MINUTE,
        rows=100,
        score=3.0,
        threshold=1.0,
        is_drifted=verdict == "drifted",
        columns={},
        unseen_strata=[],
        verdict=verdict,  # type: ignore[arg-type]
        reason="brightness is 3.0 times its threshold.",
        html=None,
        created_at=at,
    )


def released(
    stores: Stores,
    version: int,
    since: datetime,
    until: datetime | None,
    stage: str = "production",
    evidence: dict[str, int] | None = None,
) -> None:
    facts = {"model_name": "traffic-detector", "digest": "d", "endpoint": "e", "model": "m", "by": "t"}
    with stores.database.session() as session:
        session.add(
            ReleaseRow(stage=stage, version=version, since=since, until=until, evidence=evidence or {}, **facts)
        )


def frames(stores: Stores, number: int, ingested_at: datetime, reviewed_at: datetime) -> None:
    """Reviewed frames of the first two windows."""
    rows = [
        FrameRow(
            "north", NOON + n * MINUTE / 4, f"{n:064d}", f"k{n}", 64, 48, n, "file:///a.mp4", "night", "clear",
            20.0, 9.0, 5.0, 1.0, 0.0, 0.4, False, ingested_at,
        )
        for n in range(number)
    ]  # fmt: skip
    FrameIndex(stores).add(rows)
    box = Box("car", 1, 1, 20, 20, "human", "reviewed")
    labels = [FrameLabels(row.frame_hash, (box,), ("car",), reviewed_at, "", "reviewed") for row in rows]
    assert add_labels(stores, labels).added == number


@pytest.fixture
def past(stores: Stores, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Stores:
    """Version 1 served from noon; two drifted windows; labels after them; a training; version 2 from 14:00."""
    known = [
        SimpleNamespace(version=1, tags={}, registered_at=NOON - HOUR),
        SimpleNamespace(version=2, tags={}, registered_at=NOON + 1.5 * HOUR),
    ]
    monkeypatch.setattr(Registry, "list", lambda self, name="": known)
    released(stores, 1, NOON, NOON + 2 * HOUR)
    released(stores, 2, NOON + 2 * HOUR, None)
    frames(stores, 60, NOON + 5 * MINUTE, reviewed_at=NOON + 45 * MINUTE)
    for made in (
        report(0, "drifted", NOON + 15 * MINUTE),
        report(1, "drifted", NOON + 25 * MINUTE),
        report(2, "drifted", NOON + 50 * MINUTE),
        report(3, "drifted", NOON + 1.75 * HOUR),
        report(13, "stable", NOON + 3 * HOUR, version=2),
    ):
        save_report(stores, made)
    started = Decision("retrain", ["drift"], {"served_version": 1, "newest_version": 1, "attempt": 1}, key="k1")
    record_decision(stores, started)
    with stores.database.session() as session:
        session.execute(sa.text("UPDATE decisions SET at = :at"), {"at": NOON + 51 * MINUTE})
    return stores


def test_each_report_is_judged_on_what_was_known_when_it_was_made(past: Stores) -> None:
    told = replay(past)
    assert [(one.at, one.decision) for one in told] == [
        (NOON + 15 * MINUTE, "nothing"),
        (NOON + 25 * MINUTE, "waiting_for_labels"),
        (NOON + 50 * MINUTE, "retrain"),
        (NOON + 1.75 * HOUR, "wait"),
        (NOON + 3 * HOUR, "nothing"),
    ]
    assert "0 of 60 frames of the drifted windows are reviewed" in told[1].reasons[1]
    assert "Version 2 was trained for this drift" in told[3].reasons[1]
    assert "0 of the last 1 windows of version 2" in told[4].reasons[0]


@pytest.mark.parametrize(
    ("evidence", "said"), [({}, "Version 2 is a canary"), ({"experiment": 3}, "Experiment 3 is running")]
)
def test_what_was_found_out_in_live_traffic_then_was_waited_for(
    past: Stores, evidence: dict[str, int], said: str
) -> None:
    released(past, 2, NOON + 48 * MINUTE, NOON + 52 * MINUTE, "canary", evidence)
    told = replay(past, until=NOON + 1.75 * HOUR)
    assert [one.decision for one in told] == ["nothing", "waiting_for_labels", "wait"]
    assert told[2].reasons == [f"{said}; a training waits for it."]


def test_another_format_of_what_is_served_is_no_candidate_for_the_drift(
    past: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 2 is version 1 in other numbers, exported by hand after the training for the drift had failed."""
    known = [
        SimpleNamespace(version=1, tags={}, registered_at=NOON - HOUR),
        SimpleNamespace(version=2, tags={EXPORTED_FROM: "1"}, registered_at=NOON + 1.5 * HOUR),
    ]
    monkeypatch.setattr(Registry, "list", lambda self, name="": known)
    (told,) = replay(past, since=NOON + 1.75 * HOUR, until=NOON + 2 * HOUR)
    assert told.decision == "waiting_for_labels", "it goes on to what a further attempt needs"


def test_a_replay_records_and_starts_nothing(past: Stores) -> None:
    before = list_decisions(past)
    replay(past)
    assert list_decisions(past) == before


def test_a_replay_can_be_of_a_part_of_the_past(past: Stores) -> None:
    told = replay(past, since=NOON + 50 * MINUTE, until=NOON + 2 * HOUR)
    assert [one.decision for one in told] == ["retrain", "wait"]


def test_the_command_prints_time_decision_and_reasons_and_nothing_else(
    past: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_stores", lambda: past)
    done = CliRunner().invoke(commands.app, ["replay", "--json", "--since", "2026-05-01T12:50:00"])
    told = json.loads(done.stdout)
    assert [list(one) for one in told] == [["at", "decision", "reasons"]] * 3
    assert told[0]["at"] == "2026-05-01T12:50:00+00:00"
    assert told[0]["decision"] in TRAININGS


def test_a_training_counts_as_under_way_from_its_start_to_its_end() -> None:
    runs = [
        DagsterRun("a", "learn", "SUCCESS", NOON, NOON + HOUR),
        DagsterRun("b", "watch", "SUCCESS", NOON + 2 * HOUR, None),
        DagsterRun("c", "learn", "STARTED", NOON + 4 * HOUR, None),
        DagsterRun("d", "learn", "QUEUED", None, None),
    ]
    wanted = {-0.1: False, 0: True, 0.9: True, 1: False, 2.5: False, 4: True, 9: True}
    assert {hours: is_training_at(runs, NOON + hours * HOUR) for hours in wanted} == wanted
