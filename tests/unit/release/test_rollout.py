"""A canary's way on and back, on evidence that is made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from its_platform.notifications import Event
from its_platform.release import rollout, verdicts
from its_platform.release.canary import Block, Evidence
from its_platform.release.rollout import Look, canary_state, hold_canary, look_at_canary, stop_canary
from its_platform.stores import Stores
from its_platform.stores.registry import MODEL_NAME
from tests.fakes import Steps, fake_outside
from tests.unit.release.platform import FAILED, Platform

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Evidence]:
    """What the canary and production saw, as a test sets it; in no light was production proven."""
    shown = {"evidence": Evidence((), 0)}
    monkeypatch.setattr(rollout, "gather_evidence", lambda *_: shown["evidence"])
    monkeypatch.setattr(rollout, "proven_lights", lambda *_: set())
    return shown


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    events: list[Event] = []
    monkeypatch.setattr(rollout, "tell", lambda _, event: events.append(event))
    return events


@pytest.fixture
def trial(stores: Stores) -> Platform:
    """Version 1 in production, version 2 a canary with all of the traffic."""
    canary = stores.settings.canary.model_copy(update={"steps": [100.0], "minimum_blocks": 4})
    stores = type(stores)(stores.settings.model_copy(update={"canary": canary}), stores.objects, stores.database)
    steps = Steps()
    platform = Platform(stores, fake_outside(stores.settings, steps=steps), steps)
    platform.promote(platform.train_good())
    platform.promote(platform.train_good(), "canary")
    return platform


def blocks(light: str = "night", disagreement: float = 0.0, number: int = 200) -> Evidence:
    found = tuple(
        Block("north" if place % 2 else "south", BEGIN + timedelta(minutes=place), light, 5, disagreement)
        for place in range(number)
    )
    return Evidence(found, number)


def look(platform: Platform) -> Look:
    found = look_at_canary(platform.stores, "tester", outside=platform.outside)
    assert found is not None
    return found


def test_after_its_last_step_a_canary_is_in_production(trial: Platform, seen: dict[str, Evidence]) -> None:
    seen["evidence"] = blocks()
    found = look(trial)
    assert found.change is not None
    assert (found.change.kind, found.change.version) == ("released", 2)
    trial.assert_served(2)
    assert canary_state(trial.stores) is None


def test_a_last_step_that_is_refused_leaves_the_alias_and_is_said_once(
    trial: Platform, seen: dict[str, Evidence], told: list[Event]
) -> None:
    trial.judge(2, FAILED, served=1)
    seen["evidence"] = blocks()
    for _ in range(2):
        found = look(trial)
        assert found.change is not None
        assert found.change.kind == "refused"
        assert "accuracy_floor" in found.change.reason
    trial.assert_served(1)
    assert trial.served("canary") == 2
    last = verdicts.latest_of(trial.stores, (verdicts.REFUSED,))
    trial.judge(2, served=1)
    look(trial)
    assert last is not None
    assert verdicts.latest_of(trial.stores, (verdicts.REFUSED,)).id == last.id  # type: ignore[union-attr]
    trial.assert_served(2)


def test_a_last_step_at_which_the_front_does_not_follow_is_tried_three_times(
    trial: Platform, seen: dict[str, Evidence], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen["evidence"] = blocks()
    trial.triton.garbled.add(2)
    kinds = []
    for _ in range(5):
        change = look(trial).change
        assert change is not None
        kinds.append(change.kind)
    assert kinds == ["failed"] * 3 + ["refused"] * 2
    trial.assert_served(1)


def test_a_hold_ends_with_the_trial_that_it_was_about(trial: Platform, seen: dict[str, Evidence]) -> None:
    hold_canary(trial.stores, "ada", "the fair is in town")
    seen["evidence"] = blocks()
    assert look(trial).verdict.action == "wait"
    stop_canary(trial.stores, "ada", "later", outside=trial.outside)
    version = trial.registry.get(MODEL_NAME, 2)
    verdicts.waive(trial.stores, version, verdicts.REJECTED, "ada", "the fair is over")
    trial.promote(2, "canary")
    state = canary_state(trial.stores)
    assert state is not None
    assert (state.held, state.verdict) == (None, None)


def test_where_only_labels_can_tell_somebody_is_told_once_and_where_to_look(
    trial: Platform, seen: dict[str, Evidence], told: list[Event]
) -> None:
    hold_canary(trial.stores, "ada", "to look twice")
    seen["evidence"] = blocks(disagreement=0.9)
    for _ in range(2):
        assert look(trial).verdict.labels_wanted == ("night",)
    (event,) = told
    assert (event.kind, event.facts["lights"]) == ("canary", ["night"])
    assert event.facts["to_be_looked_at"][0] == "south 2026-03-01 12:00"
    assert len(event.facts["to_be_looked_at"]) == 5


def test_a_canary_without_evidence_is_told_of_once_its_patience_is_over(
    trial: Platform, seen: dict[str, Evidence], told: list[Event]
) -> None:
    look(trial)
    assert told == []
    canary = trial.stores.settings.canary.model_copy(update={"patience_s": 1e-6})
    settings = trial.stores.settings.model_copy(update={"canary": canary})
    stores = type(trial.stores)(settings, trial.stores.objects, trial.stores.database)
    for _ in range(2):
        found = look_at_canary(stores, "tester", outside=trial.outside)
        assert found is not None
        assert found.verdict.reasons[-1].startswith("waiting since")
    assert [event.summary for event in told] == [
        "Version 2 goes neither on nor back: not enough evidence: 0 of 4 blocks of camera and minute"
    ]
