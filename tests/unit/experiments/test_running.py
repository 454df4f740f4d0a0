"""An experiment in live traffic: how it begins, what it excludes, and everything that ends it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from its_platform.cli import experiment as commands
from its_platform.errors import BadInput, GateNotPassed, NotFound
from its_platform.experiments import (
    ExperimentLook,
    Question,
    look_at_experiment,
    start_experiment,
    stop_experiment,
    version_at,
)
from its_platform.experiments.blocks import is_challengers, pilot
from its_platform.experiments.pictures import experiment_markdown, sequence
from its_platform.release import (
    Experiment,
    canary_state,
    experiments,
    freeze,
    read_experiment,
    running_experiment,
    thaw,
    unfinished_experiment,
    verdicts,
)
from its_platform.release.asking import status
from its_platform.release.placing import VersionDoesNotServe
from its_platform.serving.pairs import SeenBox
from its_platform.stores import Stores
from its_platform.stores.registry import MODEL_NAME
from tests.fakes import Crash, Steps, fake_outside
from tests.unit.release.platform import FAILED, Platform

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Laboratory(Platform):
    """A platform with one version in production and one that may challenge it, and a log that a test writes."""

    files: Iterator[int] = field(default_factory=lambda: iter(range(1000)))

    def start(self, challenger: int = 2, effect: float = 1.0, control: int = 1, days: float = 28.0) -> Experiment:
        asked = Question(control, challenger, "it sees more at dusk", effect=effect, deviation=1.0, days=days)
        return start_experiment(self.stores, asked, "ada", outside=self.outside)

    def look(self) -> ExperimentLook | None:
        return look_at_experiment(self.stores, "sensor", outside=self.outside)

    def stop(self) -> ExperimentLook:
        return stop_experiment(self.stores, "ada", "the fair is in town", outside=self.outside)

    def live(self, minutes: int, effect: float = 0.0, latency_ms: float = 20.0) -> None:
        """Two cameras are asked once in each minute; the challenger, where it was drawn, sees `effect` more boxes."""
        chance = np.random.default_rng(3)
        entries = []
        for minute in range(minutes):
            at = BEGIN + timedelta(minutes=minute)
            for camera in ("north", "south"):
                is_of = is_challengers(2, 50, camera, at)
                entries.append(
                    {
                        "at": at.isoformat(),
                        "logged_at": datetime.now(UTC).isoformat(),
                        "camera_id": camera,
                        "model": "m",
                        "version": 2 if is_of else 1,
                        "purpose": "live",
                        "n": round(20 + chance.normal(0, 1) + effect * is_of),
                        "light": "day",
                        "latency_ms": latency_ms if is_of else 20.0,
                        "request": f"{camera}-{minute}",
                    }
                )
        spool = self.stores.settings.spool
        spool.mkdir(parents=True, exist_ok=True)
        (spool / f"log-{next(self.files)}.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))

    def assert_ended(self, decision: str, why: str, production: int = 1) -> Experiment:
        """It is over, nothing of it answers, and no alias was touched for it."""
        assert running_experiment(self.stores) is None
        ended = read_experiment(self.stores, 1)
        assert ended.decision == decision
        assert ended.why_ended is not None
        assert why in ended.why_ended
        assert self.served("canary") is None
        assert "canary" not in (self.triton.routed() or {})
        assert self.registry.aliases_set == {"production": production}
        return ended


@pytest.fixture
def laboratory(stores: Stores) -> Laboratory:
    steps = Steps()
    made = Laboratory(stores, fake_outside(stores.settings, steps=steps), steps)
    made.promote(made.train_good())
    made.train_good()
    return made


def test_a_challenger_answers_its_share_beside_production_and_no_alias_says_so(laboratory: Laboratory) -> None:
    begun = laboratory.start()
    assert (begun.id, begun.control, begun.challenger, begun.by, begun.until) == (1, 1, 2, "ada", None)
    route = (laboratory.triton.routed() or {})["canary"]
    assert (route.version, route.percent, route.pairs_percent) == (2, 50.0, 0.0)
    assert laboratory.served() == 1
    assert laboratory.registry.aliases_set == {"production": 1}
    assert canary_state(laboratory.stores) is None, "it is no canary: nothing widens it"
    told = {row.stage: row for row in status(laboratory.stores, laboratory.outside)}
    assert told["canary"].why == "experiment 1: it sees more at dusk"
    assert laboratory.reconcile() == []
    laboratory.restart_triton()
    laboratory.reconcile()
    assert laboratory.answering("canary") == 2
    assert version_at(laboratory.stores, "production") == 1


def test_a_difference_is_found_stored_and_stays_readable(laboratory: Laboratory) -> None:
    plan = laboratory.start().plan
    laboratory.live(8, effect=2.0)
    early = laboratory.look()
    assert early is not None
    assert early.finding.reasons[0].startswith(f"not enough evidence: 16 of {plan['blocks']} blocks")
    laboratory.live(plan["blocks"] // 2 + 1, effect=2.0)
    found = laboratory.look()
    assert found is not None
    assert found.finding.decision == "difference"
    ended = laboratory.assert_ended("difference", "more with the challenger")
    assert ended.ended_by == "sensor"
    assert ended.result is not None
    assert ended.result["overall"]["low"] > 0
    assert [look["blocks"] for look in ended.looks] == [16, plan["blocks"]]
    assert laboratory.look() is None


def test_one_that_finds_nothing_ends_at_the_last_block_of_its_plan(laboratory: Laboratory) -> None:
    plan = laboratory.start().plan
    laboratory.live(plan["blocks"] // 2 + 1, effect=0.3)
    laboratory.look()
    laboratory.assert_ended("not_found", f"in all {plan['blocks']} blocks")


def test_one_without_traffic_ends_when_its_days_have_passed(laboratory: Laboratory) -> None:
    """A training by the sensor waits for it, and nothing of what it waits for need ever come."""
    plan = laboratory.start(days=0.000_01).plan
    time.sleep(1)
    laboratory.look()
    laboratory.assert_ended("not_found", f"not enough evidence: 0 of {plan['blocks']} blocks in the 1e-05 days")


def test_a_slow_challenger_ends_it_at_once(laboratory: Laboratory) -> None:
    laboratory.start()
    laboratory.live(30, latency_ms=90.0)
    laboratory.look()
    laboratory.assert_ended("unsafe", "4.50 times as long")


def test_f1_is_compared_on_the_same_pictures(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    car = {"class_name": "car", "confidence": 0.9, "x1": 10, "y1": 10, "x2": 50, "y2": 50}
    monkeypatch.setattr(
        "its_platform.experiments.blocks.truth_of",
        lambda _, pairs: {(pair.camera_id, pair.at): [SeenBox(**car)] for pair in pairs},
    )
    asked = Question(1, 2, "it finds the car", "f1", effect=0.1, deviation=0.2)
    begun = start_experiment(laboratory.stores, asked, "ada", outside=laboratory.outside)
    assert (laboratory.triton.routed() or {})["canary"].pairs_percent == 100
    lines = [
        json.dumps(
            {
                "at": (BEGIN + timedelta(minutes=minute)).isoformat(),
                "logged_at": datetime.now(UTC).isoformat(),
                "camera_id": "north",
                "light": "day",
                "answered_by": "production",
                "production": 1,
                "production_boxes": [] if minute % 2 else [car],
                "production_ms": 10.0,
                "canary": 2,
                "canary_boxes": [car],
                "canary_ms": 10.0,
            }
        )
        for minute in range(begun.plan["blocks"])
    ]
    laboratory.stores.settings.pairs_spool.mkdir(parents=True)
    (laboratory.stores.settings.pairs_spool / "pairs-1.jsonl").write_text("\n".join(lines) + "\n")
    look = laboratory.look()
    assert look is not None
    assert look.finding.overall.effect == pytest.approx(0.5, abs=0.02)
    laboratory.assert_ended("difference", "more with the challenger")


def test_it_is_stopped_with_a_reason_and_what_it_found_so_far(laboratory: Laboratory) -> None:
    with pytest.raises(NotFound):
        laboratory.stop()
    laboratory.start()
    laboratory.live(5)
    stopped = laboratory.stop()
    assert stopped.finding.overall.blocks == 10
    ended = laboratory.assert_ended("stopped", "the fair is in town")
    assert ended.result is not None
    assert unfinished_experiment(laboratory.stores) is None
    assert laboratory.start().id == 2
    assert [one.id for one in experiments(laboratory.stores)] == [2, 1]


def test_an_experiment_and_a_canary_exclude_each_other(laboratory: Laboratory) -> None:
    laboratory.start()
    with pytest.raises(BadInput, match="Experiment 1 is running"):
        laboratory.start()
    third = laboratory.train_good()
    with pytest.raises(GateNotPassed, match="experiment 1 is running"):
        laboratory.promote(third, "canary")
    laboratory.registry.set_alias(MODEL_NAME, "canary", third)
    (refused,) = laboratory.reconcile()
    assert (refused.kind, laboratory.served("canary")) == ("refused", 2)
    laboratory.stop()
    assert laboratory.served("canary") == third, "what was asked for meanwhile is done"
    with pytest.raises(BadInput, match="Version 3 is a canary"):
        laboratory.start()


@pytest.mark.parametrize("promoted", [2, 3])
def test_a_promotion_ends_it(laboratory: Laboratory, promoted: int) -> None:
    laboratory.start()
    laboratory.train_good()
    laboratory.promote(promoted)
    laboratory.assert_ended("cut_short", f"version {promoted} is in production, not 1", production=promoted)
    assert unfinished_experiment(laboratory.stores) is not None
    laboratory.live(5)
    look = laboratory.look()
    assert look is not None
    assert look.experiment.result is not None
    assert look.finding.overall.blocks == 0, "what was logged after its end is not its own"
    assert laboratory.look() is None


def test_a_rollback_ends_it(laboratory: Laboratory) -> None:
    laboratory.promote(2)
    third = laboratory.train_good()
    laboratory.start(third, control=2)
    laboratory.rollback()
    laboratory.assert_ended("cut_short", "version 1 is in production, not 2")


def test_a_challenger_that_was_rejected_by_hand_ends_it(laboratory: Laboratory) -> None:
    laboratory.start()
    laboratory.registry.set_tag(MODEL_NAME, 2, verdicts.REJECTED, "ada: it sees ghosts")
    laboratory.look()
    laboratory.assert_ended("cut_short", "it sees ghosts")


def test_a_freeze_ends_it_and_none_begins_until_the_thaw(laboratory: Laboratory) -> None:
    laboratory.start()
    freeze(laboratory.stores, "ada", "the day of the race", laboratory.outside)
    laboratory.assert_ended("cut_short", "the day of the race")
    with pytest.raises(BadInput, match="frozen"):
        laboratory.start()
    thaw(laboratory.stores, "ada", "it is over")
    laboratory.start()


def test_both_versions_have_passed_their_gates_or_were_waived(laboratory: Laboratory) -> None:
    bad = laboratory.train()
    laboratory.judge(bad, FAILED, served=1)
    with pytest.raises(GateNotPassed, match=f"Version {bad} takes no part.*accuracy_floor"):
        laboratory.start(bad)
    version = laboratory.registry.get(MODEL_NAME, bad)
    verdicts.waive(laboratory.stores, version, FAILED.key, "ada", "it is measured for that")
    assert laboratory.start(bad).challenger == bad
    laboratory.stop()
    laboratory.judge(1, FAILED, served=None)
    with pytest.raises(GateNotPassed, match="Version 1 takes no part"):
        laboratory.start()


def test_what_cannot_be_compared_is_refused_in_one_line(laboratory: Laboratory) -> None:
    with pytest.raises(BadInput, match="Version 2 is not in production, version 1 is"):
        laboratory.start(1, control=2)
    with pytest.raises(BadInput, match="with itself"):
        laboratory.start(1)
    with pytest.raises(BadInput, match="does not say how much"):
        start_experiment(laboratory.stores, Question(1, 2, "more", effect=1.0), "ada", outside=laboratory.outside)
    assert experiments(laboratory.stores) == []


def test_the_log_says_how_much_blocks_scatter(laboratory: Laboratory) -> None:
    laboratory.live(200)
    asked = Question(1, 2, "more", effect=1.0)
    plan = start_experiment(laboratory.stores, asked, "ada", outside=laboratory.outside).plan
    assert plan["deviation"] == pytest.approx(1.0, abs=0.2)
    assert plan["baseline"] == pytest.approx(20.0, abs=0.3)


def test_many_cameras_with_few_blocks_each_scatter_no_less_than_few_with_many(laboratory: Laboratory) -> None:
    """Of a mean that is taken from two blocks each of them is nearer than it is of the truth."""
    chance = np.random.default_rng(3)
    lines = [
        json.dumps(
            {
                "at": (BEGIN + timedelta(minutes=minute)).isoformat(),
                "logged_at": datetime.now(UTC).isoformat(),
                "camera_id": f"c{camera}",
                "model": "m",
                "version": 1,
                "purpose": "live",
                "n": round(200 + chance.normal(0, 10)),
                "light": "day",
                "latency_ms": 20.0,
                "request": f"{camera}-{minute}",
            }
        )
        for camera in range(200)
        for minute in range(2)
    ]
    laboratory.stores.settings.spool.mkdir(parents=True, exist_ok=True)
    (laboratory.stores.settings.spool / "log.jsonl").write_text("\n".join(lines) + "\n")
    _, deviation = pilot(laboratory.stores, 1, "boxes", BEGIN)
    assert deviation == pytest.approx(10.0, rel=0.15)


def test_a_challenger_that_does_not_serve_leaves_all_as_it_was(laboratory: Laboratory) -> None:
    laboratory.triton.garbled.add(2)
    with pytest.raises(VersionDoesNotServe):
        laboratory.start()
    laboratory.assert_ended("cut_short", "")


def test_wherever_the_beginning_breaks_off_nothing_of_it_answers_after_the_next_reconcile(
    laboratory: Laboratory,
) -> None:
    steps = laboratory.steps
    for crash in range(100):
        steps.seen.clear()
        steps.break_at = crash
        try:
            laboratory.start()
        except Crash:
            steps.break_at = None
            laboratory.reconcile()
            assert running_experiment(laboratory.stores) is None
            assert (laboratory.served("canary"), "canary" in (laboratory.triton.routed() or {})) == (None, False)
            continue
        break
    steps.break_at = None
    assert crash > 5, "there were steps to break off at"
    assert laboratory.answering("canary") == 2


def test_traffic_that_an_ended_experiment_left_behind_is_ended(laboratory: Laboratory) -> None:
    laboratory.start()
    laboratory.steps.seen.clear()
    laboratory.steps.break_at = 0
    with pytest.raises(Crash):
        laboratory.stop()
    laboratory.steps.break_at = None
    laboratory.reconcile()
    laboratory.assert_ended("stopped", "the fair is in town")


@pytest.fixture
def its(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`its experiment …` on the laboratory: its table, or the facts of its JSON."""
    monkeypatch.setattr(commands, "_stores", lambda: laboratory.stores)
    monkeypatch.setattr("its_platform.experiments.running.real_outside", lambda _: laboratory.outside)

    def run(*words: str) -> Any:
        result = CliRunner().invoke(commands.app, list(words), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout) if "--json" in words else " ".join(result.stdout.split())

    return run


def test_the_commands_plan_begin_show_and_stop(laboratory: Laboratory, its: Callable[..., Any]) -> None:
    words = ["start", "production", "2", "--hypothesis", "it sees more", "--effect", "1", "--deviation", "1"]
    plan = its(*words, "--plan-only", "--json")
    assert experiments(laboratory.stores) == []
    assert its(*words, "--by", "ada", "--json")["plan"]["blocks"] == plan["blocks"]
    assert "no look yet" in its("status", "1")
    assert its("status", "--json")[0]["looks"] == []
    laboratory.live(5)
    assert "not enough evidence: 10 of" in its("look")
    shown = its("status", "1")
    assert f"10 of {plan['blocks']}" in shown
    assert "effect, day" in shown
    assert "not enough evidence" in its("status")
    laboratory.live(8, effect=2.0)
    assert its("stop", "--why", "the fair", "--json")["experiment"]["decision"] == "stopped"
    facts = its("status", "1", "--json")
    assert (facts["why_ended"], facts["result"]["overall"]["blocks"]) == ("the fair", 16)
    assert "stopped" in its("status")
    assert its("look") == "No experiment is running."


def test_the_page_of_the_run_shows_the_interval_from_look_to_look(laboratory: Laboratory) -> None:
    laboratory.start()
    assert sequence(read_experiment(laboratory.stores, 1)).startswith(b"\x89PNG")
    for minutes in (5, 10, 15):
        laboratory.live(minutes)
        look = laboratory.look()
        assert look is not None
    assert [one["blocks"] for one in look.experiment.looks] == [10, 20, 30]
    assert ["finding" in one for one in look.experiment.looks] == [False, False, True]
    assert sequence(look.experiment).startswith(b"\x89PNG")
    told = experiment_markdown(look.experiment, look.finding)
    assert "**it sees more at dusk** (ada)" in told
    assert "| day | 30 |" in told
