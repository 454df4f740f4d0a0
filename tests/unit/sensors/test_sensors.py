"""What the sensors decide, without Dagster."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from its_platform.errors import BadInput
from its_platform.telemetry import parse_time
from sensors.drift import learn_config
from sensors.footage import cameras_with_new_footage
from sensors.predictions import is_worth_collecting


class FakeDecision:
    def __init__(self, window=None):
        self.window = window


def test_only_cameras_whose_footage_grew_are_taken_in():
    assert cameras_with_new_footage({"a": "10", "b": "7", "c": "1"}, {"a": "9", "b": "7"}) == ["a", "c"]


def test_a_camera_that_lost_its_footage_starts_nothing():
    assert cameras_with_new_footage({}, {"a": "9"}) == []


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
