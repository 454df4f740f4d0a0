"""A platform of its own on the real Triton, MLflow and PostgreSQL, whose versions are tiny detectors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from its_platform.model.scoring import ANY_CLASS, Evaluation, SliceScore
from its_platform.release import Outside, is_passed, judge_candidate, promote, served, stage
from its_platform.release.golden import GoldenAnswers
from its_platform.serving.client import detect_once
from its_platform.stores import Stores
from its_platform.stores.registry import ModelVersion, Registry, VersionFacts
from tests.fakes import golden_answers

PICTURE = np.full((48, 64, 3), 90, np.uint8)
MODEL = "detector-yolo-onnx-64"
CLASSES = ["car", "truck"]


def scores(*slices: str) -> Evaluation:
    """The tiny detectors find the same boxes everywhere, so their accuracy is given."""
    found = tuple(SliceScore(name, ANY_CLASS, 200, 20, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8) for name in slices)
    return Evaluation(found, tuple(CLASSES), {})


def even_answers(onnx: Path, version: ModelVersion, dataset: str, classes: Sequence[str]) -> GoldenAnswers:
    return golden_answers(classes)


@dataclass
class Site:
    stores: Stores
    registry: Registry
    outside: Outside
    folder: Path

    def train(self, content: bytes, proven: str = "") -> int:
        """Register a version; `proven` is the light in which it is said to be good."""
        number = len(self.registry.list()) + 1
        folder = self.folder / f"version{number}"
        folder.mkdir()
        (folder / "model.onnx").write_bytes(content)
        measured = scores("golden", *([f"golden/light={proven}"] if proven else []))
        (folder / "evaluation.json").write_text(json.dumps(measured.as_dict()))
        run = self.registry.client().create_run(self.registry.experiment())
        facts = VersionFacts("elsewhere", "yolo", 64, CLASSES, {"car": 0.3}, {"parity": "1.0"})
        return self.registry.create_version(run.info.run_id, folder, facts).version

    def judge(self, version: int) -> None:
        stage(self.stores, version, "tester", "", outside=self.outside)
        assert is_passed(judge_candidate(self.stores, version, outside=self.outside))

    def release(self, version: int) -> None:
        self.judge(version)
        promote(self.stores, version, "production", "tester", "", outside=self.outside)

    def answering(self) -> int:
        return detect_once(self.stores.settings, PICTURE, purpose="probe").model_version

    def assert_served(self, version: int) -> None:
        row = served(self.stores)
        assert row is not None
        assert (row.version, self.answering()) == (version, version)
