"""The two sizes of the demo: `full`, which has accuracies to reach, and `tiny`, the same path for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Segment:
    """A stretch of the simulated world's time under one light and weather. `purpose` names it."""

    purpose: str
    light: str
    weather: str
    seconds: float


@dataclass(frozen=True)
class Floors:
    """What the full demo has to reach, as mAP50 and differences of it."""

    day: float
    night_gain: float
    day_loss: float


@dataclass(frozen=True)
class Scale:
    """One size: what is written into `settings.yaml`, which cameras, and how the world's time goes on."""

    name: str
    views: tuple[str, ...]
    sample_interval_s: float
    segments: tuple[Segment, ...]
    settings: Mapping[str, Any]
    floors: Floors | None


def _segments(day_s: float, window_s: float, trial_s: float) -> tuple[Segment, ...]:
    return (
        Segment("first dataset", "day", "clear", day_s),
        Segment("live day", "day", "clear", window_s),
        Segment("nightfall", "night", "fog", window_s),
        Segment("live night", "night", "fog", window_s),
        Segment("canary night", "night", "fog", trial_s),
        Segment("live night again", "night", "fog", window_s),
    )


FULL = Scale(
    name="full",
    views=("junction", "boulevard", "motorway"),
    sample_interval_s=2.0,
    segments=_segments(day_s=300.0, window_s=150.0, trial_s=120.0),
    settings={
        "dataset": {"block_s": 20.0, "guard_s": 2.0, "split_train": 0.6, "split_val": 0.1, "split_test": 0.15},
        # The starter knows such a world, so that one epoch is enough; small batches make the most steps of it.
        "training": {"epochs": 1, "image_size": 320, "batch": 8},
        # Measuring every format would take minutes of the demo's ten.
        "serving": {"format": "onnx"},
        "gates": {"minimum_boxes": 60, "slice_tolerance": 0.05, "slice_floors": {"light=night": 0.7}},
        "drift": {"window_s": 150.0, "minimum_rows": 100, "windows": 2, "windows_drifted": 2},
        "retraining": {
            "cool_down_s": 30.0,
            "sample_frames": 300,
            "first_model_frames": 300,
            "minimum_reviewed_frames": 40,
        },
        # One step, and every live picture asked of both: the nights of this world are short.
        "canary": {"steps": [50.0], "pairs_percent": 100.0, "minimum_blocks": 6},
        "sensors": {"interval_s": 2},
        # Once an hour would be in the midst of it.
        "marts": {"every_hours": 24},
    },
    floors=Floors(day=0.80, night_gain=0.15, day_loss=0.03),
)

TINY = Scale(
    name="tiny",
    views=("junction", "boulevard"),
    sample_interval_s=2.0,
    segments=_segments(day_s=60.0, window_s=40.0, trial_s=40.0),
    settings={
        "dataset": {"block_s": 6.0, "guard_s": 1.0, "split_train": 0.5, "split_val": 0.2, "split_test": 0.3},
        "training": {"epochs": 1, "image_size": 160, "batch": 8},
        "serving": {"format": "onnx"},
        "gates": {
            "simulated_floor": 0.0,
            "class_floor": 0.0,
            "calibration_error": 1.0,
            "minimum_boxes": 1,
            "slice_tolerance": 1.0,
            "class_tolerance": 1.0,
            "latency_ratio": 20.0,
            "latency_spread": 20.0,
            "latency_rounds": 3,
            "memory_ratio": 20.0,
            "parity_floor": 0.9,
        },
        "drift": {"window_s": 40.0, "minimum_rows": 20, "windows": 2, "windows_drifted": 2},
        "retraining": {
            "cool_down_s": 0.0,
            "sample_frames": 40,
            "first_model_frames": 20,
            "minimum_reviewed_frames": 10,
        },
        # What an epoch of this size makes is worth nothing, and may be worse than what was before it.
        "canary": {"steps": [50.0], "pairs_percent": 100.0, "minimum_blocks": 2, "margin": 0.99, "disagreement": 0.99},
        "sensors": {"interval_s": 1},
        "marts": {"every_hours": 24},
    },
    floors=None,
)
SCALES = {scale.name: scale for scale in (FULL, TINY)}
