"""What a family of detectors has to offer, and which families there are.

A family trains from a plan, exports to the contract of `export`, and tells its own boxes for parity. Everything that
is alike for all families (MLflow, evaluation, registration) is in `train`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from its_platform.contract import ImageSize
from its_platform.errors import BadInput
from its_platform.model.export import ParityResult
from its_platform.model.exported import DetectorFile
from its_platform.telemetry import Progress


@dataclass(frozen=True)
class TrainingPlan:
    """All that decides a training. `folder` is the only place that the family may write below.

    data: folder with data.yaml in YOLO's form. image_size: pixels, of the square that is trained on. device: `auto`,
    `cpu` or the number of a GPU. seed: two trainings of one plan on one machine give the same weights, as far as its
    kernels allow.
    """

    data: Path
    weights: Path
    folder: Path
    home: Path
    epochs: int
    image_size: int
    batch: int
    learning_rate: float
    freeze_layers: int = 0
    device: str = "auto"
    workers: int = 0
    seed: int = 0


@dataclass(frozen=True)
class EpochFigures:
    """One epoch's losses and validation figures by name. `epoch` counts from 1."""

    epoch: int
    values: dict[str, float]


@dataclass(frozen=True)
class TrainedDetector:
    """The trained weights, their class names, each epoch's figures, and images a second while training."""

    weights: Path
    classes: tuple[str, ...]
    epochs: tuple[EpochFigures, ...]
    images_per_s: float
    precision: str
    device: str
    facts: dict[str, str] = field(default_factory=dict)


class Trainer(Protocol):
    """A family of detectors."""

    family: str

    def train(
        self, plan: TrainingPlan, on_epoch: Callable[[EpochFigures], None], progress: Progress
    ) -> TrainedDetector:
        """Train. Raises `BadInput` for weights or data that cannot be used."""
        ...

    def export(self, weights: Path, out: Path, image_size: ImageSize, iou: float, dataset: str) -> DetectorFile:
        """Write the ONNX file that keeps the contract of `export`."""
        ...

    def parity(self, weights: Path, exported: Path, squares: npt.NDArray[np.uint8]) -> ParityResult:
        """How many of the detector's own boxes an exported file of any format finds, over batches 1 to 8."""
        ...


def families() -> Sequence[str]:
    """The families that can be trained."""
    return ("yolo", "rtdetr")


def trainer_of(family: str) -> Trainer:
    """The trainer of a family. Raises `BadInput` for one that is not known."""
    if family == "yolo":
        from its_platform.model.ultralytics_trainer import UltralyticsTrainer

        return UltralyticsTrainer()
    if family == "rtdetr":
        from its_platform.model.rtdetr_trainer import RtdetrTrainer

        return RtdetrTrainer()
    raise BadInput(f"No trainer is known for the family {family!r}.", f"Known: {', '.join(families())}.")
