"""The detector on a GPU: batches pay, one picture is quick, and a TensorRT plan finds the same objects."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from its_platform.model.export import chosen_boxes, inference_network, own_detections
from its_platform.model.exported import open_detector
from its_platform.model.letterbox import letterbox
from its_platform.model.scoring import iou_matrix
from its_platform.settings import STARTER_WEIGHTS
from its_platform.simulation import render

BATCHES = (1, 2, 4, 8, 16, 32)
REPEATS = 30
SAME_SHARE = 0.95  # FP16 moves a box by fractions of a pixel, and a score near the threshold across it


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.stack([letterbox(render("junction", 1, float(second)).image, 320)[0] for second in range(0, 40, 5)])


@pytest.fixture(scope="module")
def curve(pictures: np.ndarray) -> dict[int, float]:
    """Milliseconds of a batch by its size, PyTorch in FP16, transfers not counted."""
    import torch

    network: Any = inference_network(STARTER_WEIGHTS)[0].cuda().half()
    taken: dict[int, float] = {}
    with torch.inference_mode():
        for size in BATCHES:
            batch = np.resize(pictures, (size, *pictures.shape[1:]))
            given = torch.from_numpy(batch.transpose(0, 3, 1, 2).copy()).cuda().half() / 255
            for _ in range(5):
                network(given)
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(REPEATS):
                network(given)
            torch.cuda.synchronize()
            taken[size] = (time.perf_counter() - began) * 1000 / REPEATS
    return taken


def test_a_picture_in_a_large_batch_costs_less_than_one_alone(
    curve: dict[int, float], record_property: pytest.RecordProperty
) -> None:
    record_property("batching_curve_ms", {size: round(value, 3) for size, value in curve.items()})
    each = {size: value / size for size, value in curve.items()}
    assert each[32] < 0.5 * each[1], each


def test_one_picture_is_answered_within_a_live_frames_time(
    curve: dict[int, float], record_property: pytest.RecordProperty
) -> None:
    record_property("latency_ms", round(curve[1], 3))
    assert curve[1] < 40, "a camera of 25 frames a second"


def test_the_gpu_finds_the_boxes_that_the_cpu_finds(pictures: np.ndarray) -> None:
    import torch

    network, head, _ = inference_network(STARTER_WEIGHTS)
    with torch.inference_mode():
        given = torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()).cuda().float() / 255
        raw = network.cuda()(given).cpu()
    found = chosen_boxes(raw, head, pictures.shape[1:3], 0.7)
    assert _shared(own_detections(STARTER_WEIGHTS, pictures, 0.7), found) >= SAME_SHARE


def test_a_tensorrt_plan_finds_the_objects_and_has_no_header(
    starter_onnx: Path, pictures: np.ndarray, tmp_path: Path
) -> None:
    if not find_spec("tensorrt"):
        pytest.skip("not run: tensorrt is not installed")
    from its_platform.model.tensorrt_plan import export_tensorrt

    plan = tmp_path / "model.plan"
    export_tensorrt(starter_onnx, plan)
    # Ultralytics writes the length of a JSON text and the text before its plans.
    assert b"{" not in plan.read_bytes()[4:8]
    rows = open_detector(plan).detect(pictures)
    assert rows.shape == (len(pictures), 300, 6)
    found = [one[one[:, 4] > 0] for one in rows]
    assert _shared(own_detections(STARTER_WEIGHTS, pictures, 0.7), found) >= SAME_SHARE


def _shared(own: list[np.ndarray], found: list[np.ndarray]) -> float:
    """The share of the sure boxes that the other side has, of the same class, at IoU 0.8."""
    sure = hits = 0
    for mine, theirs in zip(own, found, strict=True):
        mine = mine[mine[:, 4] >= 0.25]
        fits = iou_matrix(mine[:, :4], theirs[:, :4]) >= 0.8
        fits &= mine[:, None, 5] == theirs[None, :, 5]
        sure, hits = sure + len(mine), hits + int(fits.any(axis=1).sum()) if len(theirs) else hits
    assert sure > 0, "the pictures hold objects"
    return hits / sure
