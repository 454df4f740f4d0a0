"""The policy in words says the numbers that it is carried out by, and no secret."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from its_platform.cli import retraining as commands
from its_platform.errors import BadInput
from its_platform.retraining import policy_of
from its_platform.settings import load_settings


def test_each_number_of_the_policy_is_said() -> None:
    settings = load_settings(
        retraining={
            "first_model_frames": 61,
            "minimum_reviewed_frames": 43,
            "cool_down_s": 1234,
            "most_a_day": 7,
            "attempts": 3,
            "sample_frames": 99,
            "judge_share": 0.35,
            "epochs": 11,
        },
        drift={"windows": 5, "windows_drifted": 4},
    )
    policy = policy_of(settings)
    said = " ".join([*policy.starts, *policy.data, *policy.at_most, *policy.told])
    for number in ("61", "43", "1234 s", "At most 7", "At most 3", "99", "35%", "11 epochs", "4 of the last 5"):
        assert number in said
    assert "canary or an experiment" in said
    assert policy.told == ("Nobody (notifications).",)


def test_a_policy_that_is_switched_off_starts_nothing() -> None:
    assert policy_of(load_settings(retraining={"enabled": False})).starts[0].startswith("Nothing")


def test_who_is_told_is_shown_without_the_secret_of_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITS_NOTIFICATIONS__WEBHOOK", "https://chat.example/hooks/s3cr3t")
    monkeypatch.setenv("ITS_NOTIFICATIONS__COMMAND", '["/usr/bin/page", "--team", "roads"]')
    done = CliRunner().invoke(commands.app, ["policy", "--json"], catch_exceptions=False)
    told = json.loads(done.stdout)["told"]
    assert [one.split(" of each")[0] for one in told] == [
        "The webhook at chat.example",
        "The command /usr/bin/page",
    ]
    assert "s3cr3t" not in done.stdout
    assert "s3cr3t" not in repr(load_settings())


@pytest.mark.parametrize("wrong", ["ftp://chat.example/hook", "chat.example", "https://"])
def test_an_address_that_cannot_be_posted_to_is_refused_by_name(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITS_NOTIFICATIONS__WEBHOOK", wrong)
    with pytest.raises(BadInput, match=r"notifications\.webhook"):
        load_settings()
