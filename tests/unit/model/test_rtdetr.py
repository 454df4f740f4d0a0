"""A second family behind the same interface: trained, exported to the same contract, and found again box by box."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drawn_dataset import CLASSES, write_dataset
from its_platform.errors import BadInput
from its_platform.model.exported import open_detector, read_detector
from its_platform.model.openvino_ir import export_openvino
from its_platform.model.rtdetr_trainer import initial_weights
from its_platform.model.trainer import TrainingPlan, families, trainer_of
from its_platform.settings import STARTER_WEIGHTS
from its_platform.telemetry import no_progress
from its_platform.weights import check_weights

SIZE = 160


@pytest.fixture
def plan(tmp_path: Path) -> TrainingPlan:
    return TrainingPlan(
        data=write_dataset(tmp_path / "data"),
        weights=initial_weights(tmp_path / "initial.pt", ("car", "van")),
        folder=tmp_path / "training",
        home=tmp_path / "home",
        epochs=1,
        image_size=SIZE,
        batch=4,
        learning_rate=0.0001,
        device="cpu",
    )


def test_it_is_one_of_the_families() -> None:
    assert "rtdetr" in families()
    assert trainer_of("rtdetr").family == "rtdetr"


@pytest.mark.slow
def test_it_trains_and_its_export_keeps_the_contract_in_every_exact_format(plan: TrainingPlan, tmp_path: Path) -> None:
    trainer = trainer_of("rtdetr")
    epochs: list[int] = []
    trained = trainer.train(plan, lambda figures: epochs.append(figures.epoch), no_progress)
    assert (epochs, trained.classes, trained.precision) == ([1], CLASSES, "fp32")
    check_weights(trained.weights)
    onnx = tmp_path / "model.onnx"
    about = trainer.export(trained.weights, onnx, SIZE, 0.7, "v1")
    assert read_detector(onnx) == about
    assert (about.family, about.image_size, about.classes) == ("rtdetr", SIZE, CLASSES)
    pictures = np.random.default_rng(1).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    rows = open_detector(onnx).detect(pictures)
    assert rows.shape == (4, 300, 6)
    found = rows[rows[:, :, 4] > 0]
    assert len(found) > 50
    assert (np.diff(rows[:, :, 4], axis=1) <= 0).all()
    assert (found[:, 2:4] > found[:, :2]).all()
    assert np.abs(found[:, :4]).max() > 2, "pixels, not shares of the picture"
    assert set(found[:, 5]) <= {0.0, 1.0}
    result = trainer.parity(trained.weights, onnx, pictures)
    assert result.boxes > 50
    assert result.share >= 0.99
    export_openvino(onnx, tmp_path / "model.xml")
    assert trainer.parity(trained.weights, tmp_path / "model.xml", pictures).share >= 0.99


@pytest.mark.slow
def test_weights_of_the_other_family_are_refused(plan: TrainingPlan) -> None:
    with pytest.raises(BadInput, match="no RT-DETR"):
        trainer_of("rtdetr").train(replace(plan, weights=STARTER_WEIGHTS), lambda _: None, no_progress)
    with pytest.raises(BadInput, match="not a YOLO"):
        trainer_of("yolo").train(plan, lambda _: None, no_progress)
