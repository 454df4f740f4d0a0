"""The loop closes on real footage too, by the command that its users type, and goes on where it was killed."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.checkout import Checkout, checkout_at, steps_begun

pytestmark = [pytest.mark.slow, pytest.mark.services, pytest.mark.data, pytest.mark.timeout(1800)]

# One epoch at 160 px learns nothing worth a gate: what is tested is the way, not the accuracy.
LENIENT = {
    "REAL_FLOOR": "0",
    "CLASS_FLOOR": "0",
    "CALIBRATION_ERROR": "1",
    "MEMORY_RATIO": "20",
    "SLICE_TOLERANCE": "1",
    "CLASS_TOLERANCE": "1",
    "PARITY_FLOOR": "0.8",
    "LATENCY_RATIO": "20",
    "LATENCY_SPREAD": "20",
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    own = checkout_at(tmp_path_factory.mktemp("loop") / "its")
    own.environment.update({f"ITS_GATES__{name}": value for name, value in LENIENT.items()})
    try:
        yield own
    finally:
        own.its("down")


@pytest.fixture(scope="module")
def facts(checkout: Checkout, data_folder: Path) -> dict:
    steps = checkout.home.parent / "progress.jsonl"
    words = ["loop", "--data", str(data_folder / "datasets" / "fixed_cameras")]
    words += ["--weights", str(data_folder / "models" / "yolov8n.pt"), "--size", "160", "--epochs", "1"]
    words += ["--retraining-epochs", "1", "--keep-up", "--progress-jsonl", str(steps)]
    first = checkout.start(*words)
    while "first model" not in steps_begun(steps) and first.poll() is None:
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = checkout.start(*words)
    second.wait(1500)
    written = checkout.home / "loop" / "summary.json"
    assert written.exists(), (checkout.home.parent / "demo.log").read_text("utf-8")[-3000:]
    return json.loads(written.read_text("utf-8"))


def test_drift_on_the_live_camera_led_to_the_version_that_is_served(facts: dict):
    first, second = (model["version"] for model in facts["models"])
    assert [row["verdict"] for row in facts["drift"] if row["model"] == first] == ["drifted", "drifted"]
    assert facts["served"]["production"] == second
    assert facts["live_camera"] == "highway_night"


def test_the_first_stretch_taught_and_the_second_judged(facts: dict):
    before, after = facts["datasets"]
    assert after["frames"]["train"] - before["frames"]["train"] == 29
    judging = ("test", "golden")
    assert sum(after["frames"][split] - before["frames"][split] for split in judging) == 44


def test_both_versions_are_scored_on_the_same_frames_camera_by_camera(facts: dict):
    boxes: dict[int, dict] = {}
    for row in facts["scores"]:
        boxes.setdefault(row["version"], {})[(row["camera"], row["what"])] = row["boxes"]
        assert row["low"] <= row["ap50"] <= row["high"]
    first, second = boxes.values()
    assert first == second
    assert {camera for camera, _ in first} == {
        "all",
        "first cameras",
        "boulevard_day",
        "fork_day",
        "highway_night",
        "motorway_day",
    }
    assert {what for _, what in first} == {"car", "any class", "mean of classes"}


def test_nothing_is_there_twice_after_a_kill(facts: dict):
    assert facts["duplicates"] == {"frames": 0, "predictions": 0, "models": 0}


def test_the_report_is_one_page_that_asks_for_nothing_from_outside(facts: dict, checkout: Checkout):
    page = (checkout.home / "loop" / "report.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") >= 8
    assert "http://" not in page
    assert "https://" not in page
