"""The Ultralytics family: YOLOv8, YOLO11 and YOLO26 detectors, trained offline.

Enters: a `TrainingPlan`. Leaves: half-precision weights below the plan's folder and the figures of each epoch. What
Ultralytics would do besides (plots, own loggers, downloads, a last validation) is switched off.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from its_platform.contract import ImageSize
from its_platform.errors import BadInput
from its_platform.hardware import has_fast_bf16
from its_platform.model.export import ParityResult, export_detector, parity
from its_platform.model.exported import DetectorFile
from its_platform.model.trainer import EpochFigures, TrainedDetector, TrainingPlan
from its_platform.offline import prepare_ultralytics
from its_platform.telemetry import Progress
from its_platform.weights import check_weights

# Other words for the same thing in the weights that a training may start from, the likeliest first.
OTHER_WORDS = {
    "bike": ("motorcycle", "bicycle"),
    "cyclist": ("bicycle",),
    "lorry": ("truck",),
    "motorbike": ("motorcycle",),
    "motorcycle": ("motorbike",),
    "pedestrian": ("person",),
    "person": ("pedestrian",),
    "van": ("car",),
    "vehicle": ("car",),
}
MOST_THREADS = 8  # above it a small network gains nothing
SHORT_STEPS = 500  # below this the weights are only adjusted, and Ultralytics' schedule for long trainings misfits


class UltralyticsTrainer:
    """See `trainer.Trainer`."""

    family = "yolo"

    def train(
        self, plan: TrainingPlan, on_epoch: Callable[[EpochFigures], None], progress: Progress
    ) -> TrainedDetector:
        check_weights(plan.weights)
        prepare_ultralytics(plan.home)
        import torch

        device = _device(plan.device)
        precision = self._precision(device)
        epochs: list[EpochFigures] = []
        clock = _Clock()
        trainer = self._make_trainer(self._overrides(plan, device, precision), precision)
        _listen(trainer, plan, epochs, clock, on_epoch, progress)
        threads = torch.get_num_threads()
        # Ultralytics leaves a core idle, which of two is half.
        torch.set_num_threads(min(MOST_THREADS, len(os.sched_getaffinity(0))))
        try:
            trainer.train()
        finally:
            # Ultralytics turns these on for the whole process; the export that follows must not run under them.
            torch.use_deterministic_algorithms(False)
            torch.set_num_threads(threads)
        best = plan.folder / "trained.pt"
        classes = _save_weights(Path(trainer.best if Path(trainer.best).is_file() else trainer.last), best, plan)
        return TrainedDetector(best, classes, tuple(epochs), clock.rate(), precision, str(device))

    def export(self, weights: Path, out: Path, image_size: ImageSize, iou: float, dataset: str) -> DetectorFile:
        return export_detector(weights, out, image_size, iou, dataset, self.family)

    def parity(self, weights: Path, exported: Path, squares: npt.NDArray[np.uint8]) -> ParityResult:
        return parity(weights, exported, squares)

    def _precision(self, device: str) -> str:
        return "bf16" if device != "cpu" or has_fast_bf16() else "fp32"

    def _overrides(self, plan: TrainingPlan, device: str, precision: str) -> dict[str, Any]:
        return _overrides(plan, device, precision)

    def _make_trainer(self, overrides: dict[str, Any], precision: str) -> Any:
        return _make_trainer(overrides, precision)


class _Clock:
    """Images and seconds spent in training batches alone, without validation."""

    def __init__(self) -> None:
        self.images, self.seconds, self._since = 0, 0.0, 0.0

    def start(self) -> None:
        self._since = time.perf_counter()

    def add(self, images: int) -> None:
        now = time.perf_counter()
        self.images, self.seconds, self._since = self.images + images, self.seconds + now - self._since, now

    def rate(self) -> float:
        return round(self.images / self.seconds, 2) if self.seconds else 0.0


def _device(wanted: str) -> str:
    import torch

    if wanted != "auto":
        return wanted
    return "0" if torch.cuda.is_available() else "cpu"


def _overrides(plan: TrainingPlan, device: str, precision: str) -> dict[str, Any]:
    is_short = _is_short(plan)
    return {
        "task": "detect",
        "mode": "train",
        "model": str(plan.weights),
        "data": str(_data_yaml(plan)),
        "epochs": plan.epochs,
        "imgsz": plan.image_size,
        "batch": plan.batch,
        "workers": plan.workers,
        "device": device,
        "seed": plan.seed,
        "deterministic": device == "cpu",
        "freeze": plan.freeze_layers or None,
        "amp": "bf16" if device != "cpu" and precision == "bf16" else False,
        "optimizer": "AdamW",
        "lr0": plan.learning_rate,
        "momentum": 0.9,
        # Ultralytics gathers gradients of 64 images by default: 31 steps in 2,000 images. Here each batch is a step.
        "nbs": plan.batch,
        # The rate is set batch by batch in `_listen`: Ultralytics' own warm-up takes at least 100 batches, which can
        # be the whole of a short training.
        "warmup_epochs": 0,
        # Fixed cameras: four pictures in one teach less about the picture that will be seen.
        "mosaic": 0.5 if is_short else 1.0,
        "close_mosaic": max(1, plan.epochs // 2) if is_short else 10,
        "scale": 0.3 if is_short else 0.5,
        "patience": 0,
        "val": True,
        "plots": False,
        "cache": False,
        "save": True,
        "verbose": False,
        # A relative folder would be put below a folder of Ultralytics' own.
        "project": str(plan.folder.absolute()),
        "name": "ultralytics",
        "exist_ok": True,
    }


def _is_short(plan: TrainingPlan) -> bool:
    pictures = sum(1 for _ in (plan.data / "images" / "train").glob("*"))
    return plan.epochs * math.ceil(pictures / plan.batch) < SHORT_STEPS


def _data_yaml(plan: TrainingPlan) -> Path:
    """The dataset's own description, in the plan's folder; an empty val falls back to test, then to train."""
    described = yaml.safe_load((plan.data / "data.yaml").read_text("utf-8"))
    described["path"] = str(plan.data.absolute())
    for split in ("val", "test", "train"):
        images = plan.data / str(described.get(split, f"images/{split}"))
        if images.is_dir() and any(images.iterdir()):
            described["val"] = str(described.get(split, f"images/{split}"))
            break
    else:
        raise BadInput(f"There are no pictures in {plan.data}.", "Build the dataset version again.")
    plan.folder.mkdir(parents=True, exist_ok=True)
    path = plan.folder / "data.yaml"
    path.write_text(yaml.safe_dump(described, sort_keys=False), "utf-8")
    return path


def _make_trainer(overrides: dict[str, Any], precision: str) -> Any:
    import torch
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel
    from ultralytics.utils import RANK

    class CpuBf16Model(DetectionModel):
        """The network in bfloat16, the loss in FP32. Ultralytics refuses bfloat16 on a CPU, which is 2 times faster.

        Copies and checkpoints of it are plain `DetectionModel`s: nobody who reads them needs this class.
        """

        def loss(self, batch: dict[str, Any], preds: Any = None) -> Any:
            if preds is None and self.training:
                with torch.autocast("cpu", torch.bfloat16):
                    preds = self.forward(batch["img"].contiguous(memory_format=torch.channels_last))
                preds = _as_floats(preds)
            return super().loss(batch, preds)

        def __reduce_ex__(self, protocol: Any) -> Any:
            made = super().__reduce_ex__(protocol)
            return (made[0], (DetectionModel, *made[1][1:]), *made[2:])

    class OfflineTrainer(DetectionTrainer):
        def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
            if isinstance(weights, RTDETRDetectionModel):
                raise BadInput(f"{overrides['model']} is an RT-DETR, not a YOLO.", "Set training.family to rtdetr.")
            is_bf16 = precision == "bf16" and self.device.type == "cpu"
            network = CpuBf16Model if is_bf16 else DetectionModel
            model = network(cfg, nc=self.data["nc"], ch=self.data["channels"], verbose=verbose and RANK == -1)
            # Loading carries a class over by its name, or by its number where the network has no names yet.
            model.names = self.data["names"]
            if weights:
                weights.names = names_to_carry_over(weights.names, self.data["names"].values())
                model.load(weights)
            # The layout that a CPU's convolutions work in; the other one is turned into it layer by layer.
            return model.to(memory_format=torch.channels_last) if self.device.type == "cpu" else model

        def final_eval(self) -> None:
            """No last validation: the exported file is judged instead, on frames that took no part."""

    return OfflineTrainer(overrides=overrides)


def rate_factor(batch: int, batches: int) -> float:
    """Share of the learning rate at a batch (from 0): up over the first fifth, then down a cosine to 2 %."""
    warm = min(100, max(1, batches // 5))
    if batch < warm:
        return (batch + 1) / (warm + 1)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (batch - warm) / max(1, batches - warm)))


def names_to_carry_over(known: Mapping[int, str], wanted: Iterable[str]) -> dict[int, str]:
    """The class names of base weights, with those that have another word among the wanted ones called by it.

    So what the weights know of a `person` is where a `pedestrian` begins. A wanted name that they have stays theirs.
    """
    names = dict(known)
    held = {name.strip().lower(): number for number, name in names.items()}
    asked = {name.strip().lower(): name for name in wanted}
    for plain, name in asked.items():
        for other in OTHER_WORDS.get(plain, ()) if plain not in held else ():
            if other in held and other not in asked:
                names[held.pop(other)] = name
                break
    return names


def _as_floats(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value.float()
    if isinstance(value, dict):
        return {key: _as_floats(part) for key, part in value.items()}
    return [_as_floats(part) for part in value] if isinstance(value, list | tuple) else value


def _listen(
    trainer: Any,
    plan: TrainingPlan,
    epochs: list[EpochFigures],
    clock: _Clock,
    on_epoch: Callable[[EpochFigures], None],
    progress: Progress,
) -> None:
    def training_starts(running: Any) -> None:
        if _is_short(plan):
            # Ultralytics' 0.03 follows the weights so slowly that a short training ends with statistics of its start.
            for module in running.model.modules():
                if hasattr(module, "running_mean"):
                    module.momentum = 0.1

    def epoch_starts(_: Any) -> None:
        clock.start()

    def batch_starts(running: Any) -> None:
        batches = len(running.train_loader) * plan.epochs
        factor = rate_factor(clock.images // plan.batch, batches)
        for group in running.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def batch_ends(running: Any) -> None:
        clock.add(plan.batch)
        batches = len(running.train_loader)
        done = min(clock.images // plan.batch, batches * plan.epochs)
        progress("train", done, batches * plan.epochs, f"epoch {running.epoch + 1} of {plan.epochs}")

    def epoch_ends(running: Any) -> None:
        values = running.label_loss_items(running.tloss, prefix="train") | running.metrics
        values |= {"lr": max(group["lr"] for group in running.optimizer.param_groups)}
        found = EpochFigures(running.epoch + 1, {_plain(k): float(v) for k, v in values.items()})
        epochs.append(found)
        on_epoch(found)

    trainer.add_callback("on_train_start", training_starts)
    trainer.add_callback("on_train_epoch_start", epoch_starts)
    trainer.add_callback("on_train_batch_start", batch_starts)
    trainer.add_callback("on_train_batch_end", batch_ends)
    trainer.add_callback("on_fit_epoch_end", epoch_ends)


def _plain(name: str) -> str:
    """`metrics/mAP50(B)` as `metrics/mAP50`: MLflow refuses brackets."""
    return name.replace("(B)", "")


def _save_weights(source: Path, out: Path, plan: TrainingPlan) -> tuple[str, ...]:
    """The weights alone, in half precision, without optimizer state or this machine's paths; its class names."""
    import torch
    from ultralytics.nn.tasks import load_checkpoint

    model, _ = load_checkpoint(str(source), device=torch.device("cpu"))
    save_checkpoint(model, out, {"imgsz": plan.image_size, "task": "detect"})
    return tuple(model.names[i] for i in sorted(model.names))


def save_checkpoint(model: Any, out: Path, about: dict[str, Any]) -> None:
    """Write a network as a checkpoint that `weights.check_weights` lets pass; it is left in half precision."""
    import torch
    import ultralytics

    model.half().requires_grad_(False)
    model.args = about
    model.criterion = None
    if hasattr(model, "pt_path"):
        del model.pt_path
    part = out.with_suffix(".part")
    torch.save(
        {"epoch": -1, "model": model, "ema": None, "train_args": about, "version": ultralytics.__version__}, part
    )
    part.replace(out)
