"""On a GPU a detector finds what it finds on the CPU, in a batch as alone, and as a TensorRT plan as well."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from drawn_dataset import CLASSES, write_dataset
from its_platform.contract import FORMATS
from its_platform.model.exported import open_detector, read_detector
from its_platform.model.formats import candidates
from its_platform.model.rtdetr_trainer import initial_weights
from its_platform.model.scoring import iou_matrix
from its_platform.model.trainer import EpochFigures, TrainingPlan, trainer_of
from its_platform.settings import STARTER_WEIGHTS
from its_platform.telemetry import no_progress
from its_platform.weights import check_weights

Boxes = list[npt.NDArray[np.float32]]
Pictures = npt.NDArray[np.uint8]

SIZE = 160  # pixels, of a training that only has to run
SAME_SHARE = 0.95  # FP16 moves a box by fractions of a pixel, and a score near the threshold across it


def test_the_gpu_finds_the_boxes_that_the_cpu_finds(
    pictures: Pictures, own_boxes: Boxes, on_gpu: Callable[[Pictures], Boxes]
) -> None:
    assert shared(own_boxes, on_gpu(pictures)) >= SAME_SHARE


@pytest.mark.parametrize("size", [2, 8, 32])
def test_a_picture_in_a_batch_gets_the_boxes_that_it_gets_alone(
    size: int, pictures: Pictures, on_gpu: Callable[[Pictures], Boxes]
) -> None:
    batch = np.resize(pictures, (size, *pictures.shape[1:]))
    alone = [on_gpu(picture[None])[0] for picture in batch]
    assert shared(alone, on_gpu(batch)) >= SAME_SHARE
    assert shared(on_gpu(batch), alone) >= SAME_SHARE


def test_a_plan_is_bare_and_keeps_what_the_detector_says_of_itself(starter_plan: Path, starter_onnx: Path) -> None:
    assert starter_plan.name == FORMATS["tensorrt"].file
    content = starter_plan.read_bytes()
    # Ultralytics' begin with the length of a JSON text, in four bytes, and the text.
    length = int.from_bytes(content[:4], "little")
    with pytest.raises(ValueError):
        json.loads(content[4 : 4 + length].decode("utf-8"))
    assert read_detector(starter_plan) == read_detector(starter_onnx)


def test_a_plan_finds_the_boxes_of_the_weights(starter_plan: Path, pictures: Pictures, own_boxes: Boxes) -> None:
    rows = open_detector(starter_plan).detect(pictures)
    assert rows.shape == (len(pictures), 300, 6)
    assert shared(own_boxes, found_in(rows)) >= SAME_SHARE
    assert shared(found_in(rows), own_boxes) >= SAME_SHARE


@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_plan_answers_a_batch_as_it_answers_its_pictures_alone(
    size: int, starter_plan: Path, pictures: Pictures
) -> None:
    detector = open_detector(starter_plan)
    alone = [found_in(detector.detect(picture[None]))[0] for picture in pictures[:size]]
    assert shared(alone, found_in(detector.detect(pictures[:size]))) >= SAME_SHARE


def test_where_a_plan_can_be_built_it_is_what_is_chosen_from(starter_plan: Path) -> None:
    assert starter_plan.is_file()
    assert candidates() == ("onnx", "tensorrt")


@pytest.mark.parametrize(("family", "precision"), [("yolo", "bf16"), ("rtdetr", "fp32")])
def test_a_training_takes_the_gpu_and_leaves_weights_that_every_machine_reads(
    family: str, precision: str, tmp_path: Path
) -> None:
    plan = TrainingPlan(
        data=write_dataset(tmp_path / "data"),
        weights=STARTER_WEIGHTS if family == "yolo" else initial_weights(tmp_path / "initial.pt", ("car", "bus")),
        folder=tmp_path / "training",
        home=tmp_path / "home",
        epochs=2,
        image_size=SIZE,
        batch=4,
        learning_rate=0.0001,
    )
    epochs: list[EpochFigures] = []
    trained = trainer_of(family).train(plan, epochs.append, no_progress)
    assert (trained.device, trained.precision, trained.classes) == ("0", precision, CLASSES)
    assert [epoch.epoch for epoch in epochs] == [1, 2]
    assert all(np.isfinite(value) for epoch in epochs for value in epoch.values.values())
    check_weights(trained.weights)
    onnx = tmp_path / "model.onnx"
    trainer_of(family).export(trained.weights, onnx, SIZE, 0.7, "v1")
    pictures = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    assert open_detector(onnx).detect(pictures).shape == (2, 300, 6)


def found_in(rows: npt.NDArray[np.float32]) -> Boxes:
    return [one[one[:, 4] > 0] for one in rows]


def shared(own: Boxes, found: Boxes) -> float:
    """The share of the sure boxes that the other side has, of the same class, at IoU 0.8."""
    sure = hits = 0
    for mine, theirs in zip(own, found, strict=True):
        mine = mine[mine[:, 4] >= 0.25]
        sure += len(mine)
        if len(theirs):
            fits = iou_matrix(mine[:, :4], theirs[:, :4]) >= 0.8
            fits &= mine[:, None, 5] == theirs[None, :, 5]
            hits += int(fits.any(axis=1).sum())
    assert sure > 0, "the pictures hold objects"
    return hits / sure
