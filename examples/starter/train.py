"""Train the starter checkpoint from random weights on a folder of rendered frames, with the platform's own trainer.

Enters: a folder in YOLO's form, as `examples/starter/render.py` writes it. Leaves: `starter.pt`, half precision and
without optimizer state or any path of the machine that trained it, and beside it `starter.json` with its own scores.
No weights are downloaded and none are needed. Small pictures come first: the shapes are learnt there at a quarter of
the cost. On two cores the defaults take about three quarters of an hour.

    python examples/starter/train.py --data /tmp/starter --out its_platform/model/starter.pt
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 6_000_000
ARCHITECTURE = "yolo11n.yaml"


@dataclass(frozen=True)
class Stage:
    """Epochs at one picture size."""

    image_size: int
    epochs: int
    learning_rate: float


STAGES = (Stage(160, 14, 0.002), Stage(320, 4, 0.001))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with data.yaml")
    parser.add_argument("--out", type=Path, default=Path("starter.pt"))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="starter-") as folder:
        weights, figures = train(options.data, Path(folder), options.batch, options.seed)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, options.out)
    report = describe(options.out, options.data, figures, time.monotonic() - started)
    options.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    if report["bytes"] > MOST_BYTES:
        sys.stderr.write(f"The checkpoint has {report['bytes']} bytes; at most {MOST_BYTES} may be shipped.\n")
        return 1
    return 0


def train(data: Path, scratch: Path, batch: int, seed: int) -> tuple[Path, dict[str, float]]:
    """The weights after the last stage, and that stage's last figures on the validation frames."""
    os.environ["ITS_HOME"] = str(scratch)
    from its_platform.model.trainer import EpochFigures, TrainingPlan, trainer_of
    from its_platform.telemetry import silence_tools, terminal_progress

    silence_tools()
    weights, figures = random_weights(scratch, seed), {}

    def say(epoch: EpochFigures) -> None:
        sys.stdout.write(f"epoch {epoch.epoch}: mAP50 {epoch.values.get('metrics/mAP50', 0.0):.3f}\n")

    with terminal_progress() as progress:
        for number, stage in enumerate(STAGES):
            plan = TrainingPlan(
                data=data,
                weights=weights,
                folder=scratch / f"stage-{number}",
                home=scratch,
                epochs=stage.epochs,
                image_size=stage.image_size,
                batch=batch,
                learning_rate=stage.learning_rate,
                seed=seed,
            )
            trained = trainer_of("yolo").train(plan, say, progress)
            weights, figures = trained.weights, trained.epochs[-1].values
    return weights, figures


def random_weights(scratch: Path, seed: int) -> Path:
    """The architecture with random numbers in it."""
    from its_platform.offline import prepare_ultralytics

    prepare_ultralytics(scratch)
    import torch
    from ultralytics import YOLO

    torch.manual_seed(seed)
    path = scratch / "random.pt"
    YOLO(ARCHITECTURE).save(path)
    return path


def describe(weights: Path, data: Path, figures: dict[str, float], seconds: float) -> dict[str, Any]:
    """What `starter.json` says: where the checkpoint comes from and how good it is on cameras it has not seen."""
    names = yaml.safe_load((data / "data.yaml").read_text("utf-8"))["names"]
    return {
        "architecture": ARCHITECTURE.removesuffix(".yaml"),
        "digest": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "bytes": weights.stat().st_size,
        "stages": [vars(stage) for stage in STAGES],
        "seconds": round(seconds),
        "scores": {
            name.removeprefix("metrics/").lower(): round(value, 4)
            for name, value in figures.items()
            if name.startswith("metrics/")
        },
        "data": {
            "classes": list(names.values() if isinstance(names, dict) else names),
            "light": ["day", "dusk"],
            "weather": ["clear", "rain"],
            **{split: count(data, split) for split in ("train", "val")},
        },
    }


def count(data: Path, split: str) -> dict[str, int]:
    """Frames and boxes of a split, counted in its label files."""
    files = list((data / "labels" / split).glob("*.txt"))
    return {"frames": len(files), "boxes": sum(len(file.read_text("utf-8").splitlines()) for file in files)}


if __name__ == "__main__":
    raise SystemExit(main())
