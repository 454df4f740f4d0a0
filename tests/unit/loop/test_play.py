"""Steps that a second start takes up, and settings that only their writer overwrites."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from its_platform.errors import BadInput, ServerUnavailable
from its_platform.loop import play as plays
from its_platform.loop.dagster_page import Run
from its_platform.loop.play import Play, has_ended, settle
from its_platform.settings import Settings
from its_platform.telemetry import no_progress


def play(settings: Settings, folder: Path, began: list[str]) -> Play:
    return Play(settings, None, folder, no_progress, began.append)  # type: ignore[arg-type]


def test_a_step_adds_to_what_an_earlier_start_spent_on_it(settings: Settings, tmp_path: Path):
    began: list[str] = []
    first = play(settings, tmp_path, began)
    first.step("frames", lambda: None)
    first.seconds["frames"] = 5.0
    first.step("labels", lambda: None)
    second = play(settings, tmp_path, began)
    second.step("frames", lambda: None)
    assert second.seconds["frames"] >= 5.0
    assert began == ["frames", "labels", "frames"]


def test_settings_are_written_for_every_process_and_read_back(settings: Settings):
    made = settle(settings, "its loop", {"training": {"epochs": 3}})
    assert made.training.epochs == 3
    assert settle(settings, "its loop", {"training": {"epochs": 4}}).training.epochs == 4


def test_settings_of_another_writer_are_not_overwritten(settings: Settings):
    path = settings.home / "settings.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("training: {epochs: 7}\n")
    with pytest.raises(BadInput, match="not written by its loop"):
        settle(settings, "its loop", {})
    assert path.read_text() == "training: {epochs: 7}\n"


def test_settings_that_cannot_be_used_are_not_written(settings: Settings):
    with pytest.raises(BadInput, match=r"training.image_size.*multiple of 32"):
        settle(settings, "its loop", {"training": {"image_size": 100}})
    assert not (settings.home / "settings.yaml").exists()


def test_a_job_has_not_ended_because_the_page_is_too_busy_to_say(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def busy(settings: Settings, job: str) -> list[Run]:
        raise ServerUnavailable("Dagster's page does not answer.")

    training = Run("a", "learn", "STARTED", 1.0, None, {})
    one = play(settings, tmp_path, [])
    for run, is_over in ((training, False), (replace(training, status="SUCCESS"), True)):
        monkeypatch.setattr(plays, "runs_of", lambda settings, job, run=run: [run])
        assert has_ended(one, "learn") is is_over
    monkeypatch.setattr(plays, "runs_of", busy)
    assert not has_ended(one, "learn")
