"""What the sensors decide, without Dagster."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from its_platform.errors import BadInput
from its_platform.serving.log_table import waiting
from its_platform.telemetry import parse_time
from sensors.drift import PATIENCE, is_to_wait, learn_config
from sensors.footage import LONGEST_PAUSE_S, next_try
from sensors.predictions import is_worth_collecting, oldest_file_s


class FakeDecision:
    def __init__(self, window=None):
        self.window = window


NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_new_footage_is_taken_in_at_once():
    assert next_try(["a"], [], 0, NOON, 2.0) == NOON
    assert next_try(["a", "b"], ["a"], 5, NOON, 2.0) == NOON


def test_footage_whose_ingest_failed_is_tried_again_after_pauses_that_double_up_to_a_limit():
    pauses = [(next_try(["a"], ["a"], tries, NOON, 2.0) - NOON).total_seconds() for tries in (1, 2, 3, 30)]
    assert pauses == [4.0, 8.0, 16.0, LONGEST_PAUSE_S]


def test_a_first_model_learns_from_everything_and_from_the_starter():
    config = learn_config(FakeDecision(), previous=None, served_version=None)["ops"]
    assert config["dataset_version"]["config"] == {}
    assert config["candidate_model"]["config"] == {}


def test_a_retraining_extends_the_served_models_dataset_by_the_window_and_trains_on_from_it():
    window = (datetime(2026, 5, 1, 20, tzinfo=UTC), datetime(2026, 5, 1, 21, tzinfo=UTC))
    config = learn_config(FakeDecision(window), previous="v1", served_version=3)["ops"]
    assert config["dataset_version"]["config"] == {
        "previous": "v1",
        "window_since": "2026-05-01T20:00:00+00:00",
        "window_until": "2026-05-01T21:00:00+00:00",
    }
    assert config["reviewed_labels"]["config"]["window_since"] == "2026-05-01T20:00:00+00:00"
    assert config["candidate_model"]["config"] == {"base_version": 3}


def test_a_time_without_a_zone_is_utc_and_a_wrong_one_is_refused():
    assert parse_time("2026-05-01T08:00:00") == datetime(2026, 5, 1, 8, tzinfo=UTC)
    assert parse_time(None) is None
    with pytest.raises(BadInput, match="is not a time"):
        parse_time("yesterday")


@pytest.mark.parametrize(
    ("waiting", "oldest_s", "worth"), [(0, 99.0, False), (5, 1.0, False), (5, 8.0, True), (20, 0.0, True)]
)
def test_few_predictions_are_collected_only_after_a_while(waiting: int, oldest_s: float, worth: bool):
    assert is_worth_collecting(waiting, needed=20, oldest_s=oldest_s, patience_s=8.0) is worth


def test_a_training_waits_for_footage_that_is_coming_in_but_not_for_ever():
    assert is_to_wait(True, NOON, NOON)
    assert not is_to_wait(False, NOON, NOON)
    assert not is_to_wait(True, NOON, NOON + PATIENCE)
    assert not is_to_wait(True, NOON + timedelta(days=1), NOON), "the clock was set back"


def test_a_retraining_takes_epochs_of_its_own_and_a_first_training_those_of_the_settings():
    later = learn_config(FakeDecision(), previous="v1", served_version=3, retraining_epochs=8)["ops"]
    assert later["candidate_model"]["config"] == {"base_version": 3, "epochs": 8}
    first = learn_config(FakeDecision(), previous=None, served_version=None, retraining_epochs=8)["ops"]
    assert first["candidate_model"]["config"] == {}


def test_predictions_that_were_written_before_the_clock_was_set_back_do_not_wait_for_that_time(tmp_path: Path):
    file = tmp_path / "predictions-a.jsonl"
    file.write_text("{}\n")
    os.utime(file, (time.time() + 86_400, time.time() + 86_400))
    assert oldest_file_s(tmp_path) > 86_000


def test_a_file_that_is_collected_while_the_sensor_looks_waits_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "predictions-a.jsonl").write_text("{}\n{}\n")
    found = [*tmp_path.glob("*.jsonl"), tmp_path / "predictions-b.jsonl"]
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: iter(found))
    assert sum(content.count(b"\n") for content in waiting(tmp_path)) == 2
    assert oldest_file_s(tmp_path) < 60
