"""`its release` prints facts as tables and as JSON, and refuses what the gates refuse."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from its_platform import release
from its_platform.cli import release as commands
from its_platform.errors import GateNotPassed
from its_platform.release import Look, ReleaseChange, asking, card, verdicts
from its_platform.release.canary import Verdict
from its_platform.release.gates import GateResult
from its_platform.stores import Stores
from tests.fakes import FakeRegistry, fake_outside

FAILED = GateResult("accuracy_floor", "ap50", "golden", 0.3, 0.5, 200, "failed", "mAP50 0.300")
PASSED = replace(FAILED, value=0.8, verdict="passed", detail="mAP50 0.800")


@pytest.fixture
def registry(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    outside = fake_outside(stores.settings)
    monkeypatch.setattr(commands, "_stores", lambda: stores)
    monkeypatch.setattr(asking, "real_outside", lambda _: outside)
    return outside.registry  # type: ignore[return-value]


def facts(*words: str) -> dict:
    result = CliRunner().invoke(commands.app, [*words, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_what_was_staged_is_told_by_status_and_history(registry: FakeRegistry) -> None:
    version = registry.add().version
    assert facts("stage", str(version), "--by", "ada")["version"] == version
    staging, _, production = facts("status")  # type: ignore[misc]
    assert (staging["wished"], staging["served"], staging["by"]) == (version, version, "ada")
    assert (production["wished"], production["served"]) == (None, None)
    (row,) = facts("history")  # type: ignore[misc]
    assert (row["stage"], row["version"], row["until"]) == ("staging", version, None)


def test_a_release_keeps_the_judging_that_it_stood_on(registry: FakeRegistry, stores: Stores) -> None:
    first, second = registry.add().version, registry.add().version
    facts("stage", str(first))
    endless = GateResult("latency_ratio", "ms_ratio", "all", math.inf, 1.2, None, "not_judged", "nothing served")
    verdicts.record_judgement(stores, first, "first round", None, [PASSED, endless])
    facts("promote", str(first))
    judged = verdicts.record_judgement(stores, second, "second round", first, [PASSED])
    facts("promote", str(second))
    later, promoted, staged = (row["evidence"]["judgement"] for row in facts("history"))  # type: ignore[index]
    figures = {"value": 0.8, "threshold": 0.5, "verdict": "passed"}
    told = {"round": "second round", "at": judged.at.isoformat(), "served": first, "gates": {"accuracy_floor": figures}}
    assert later == told
    assert (promoted["round"], promoted["served"]) == ("first round", None)
    assert promoted["gates"]["latency_ratio"] == {"value": None, "threshold": 1.2, "verdict": "not_judged"}
    assert staged is None, "it was staged before it was judged"


def test_a_version_that_failed_is_refused_and_shown_with_its_numbers(registry: FakeRegistry, stores: Stores) -> None:
    version = registry.add().version
    verdicts.record_judgement(stores, version, "test", None, [FAILED])
    with pytest.raises(GateNotPassed, match="accuracy_floor failed"):
        CliRunner().invoke(commands.app, ["promote", str(version)], catch_exceptions=False)
    shown = facts("gates", str(version))
    assert shown["is_passed"] is False
    assert (shown["results"][0]["key"], shown["results"][0]["value"]) == ("accuracy_floor", 0.3)


def test_the_tables_for_people_hold_the_figures(registry: FakeRegistry, stores: Stores) -> None:
    version = registry.add().version
    verdicts.record_judgement(stores, version, "test", None, [FAILED])
    told = CliRunner().invoke(commands.app, ["gates", str(version)], catch_exceptions=False).stdout
    assert "not passed" in told
    assert "mAP50" in told
    assert "production" in CliRunner().invoke(commands.app, ["status"], catch_exceptions=False).stdout


def test_a_waiver_needs_a_name_and_a_reason(registry: FakeRegistry) -> None:
    version = registry.add().version
    assert CliRunner().invoke(commands.app, ["waive", str(version), "accuracy_floor"]).exit_code == 2


def test_promotions_and_rollbacks_write_the_cards_of_both_versions_anew(
    registry: FakeRegistry, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[int] = []
    monkeypatch.setattr(card, "publish_card", lambda stores, version: published.append(version))
    for number in (1, 2):
        registry.add()
        verdicts.record_judgement(stores, number, "test", number - 1 or None, [PASSED])
        facts("promote", str(number))
    assert published == [1, 1, 2]
    facts("rollback", "--why", "it misses buses")
    assert published[3:] == [1, 2]


@pytest.mark.parametrize(
    ("words", "function", "is_look"),
    [
        (("reconcile",), "reconcile", False),
        (("look",), "look_at_canary", True),
        (("stop", "--why", "it sees ghosts"), "stop_canary", False),
    ],
)
def test_what_a_command_changed_at_a_stage_is_on_the_cards(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], function: str, is_look: bool
) -> None:
    change = ReleaseChange("canary", "rolled_back", 8, None, "worse", datetime(2026, 5, 1, tzinfo=UTC))
    look = Look(8, 5.0, Verdict("roll_back", ["worse"], {}), change)
    answer = look if is_look else [change] if function == "reconcile" else change
    published: list[list[ReleaseChange]] = []
    monkeypatch.setattr(commands, "_stores", lambda: stores)
    monkeypatch.setattr(release, function, lambda *_: answer)
    monkeypatch.setattr(release, "publish_cards", lambda stores, changes: published.append(list(changes)))
    facts(*words)
    assert published == [[change]]
