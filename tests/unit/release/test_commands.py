"""`its release` prints facts as tables and as JSON, and refuses what the gates refuse."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from its_platform.cli import release as commands
from its_platform.errors import GateNotPassed
from its_platform.release import asking, verdicts
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
