"""The RT-DETR family: transformer detectors that choose their boxes by themselves, without NMS.

Enters: a `TrainingPlan` whose weights are an RT-DETR's. Leaves: what `ultralytics_trainer` leaves, of which this is the
other network and the other way to read pictures. `initial_weights` makes the weights that a first training begins with:
a small network of random numbers, since none is shipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

from its_platform.errors import BadInput
from its_platform.model.ultralytics_trainer import UltralyticsTrainer, names_to_carry_over, save_checkpoint
from its_platform.offline import prepare_ultralytics

# Of the same parts as Ultralytics' rtdetr-l, with a tenth of its weights: a CPU can train it.
BACKBONE = [
    [-1, 1, "HGStem", [16, 32]],
    [-1, 2, "HGBlock", [32, 64, 3]],
    [-1, 1, "DWConv", [64, 3, 2, 1, False]],
    [-1, 2, "HGBlock", [32, 128, 3]],  # 3: an eighth of the picture's side
    [-1, 1, "DWConv", [128, 3, 2, 1, False]],
    [-1, 2, "HGBlock", [64, 256, 5, True, False]],  # 5: a sixteenth
    [-1, 1, "DWConv", [256, 3, 2, 1, False]],
    [-1, 2, "HGBlock", [96, 384, 5, True, False]],  # 7: a thirty-second
]
HEAD = [
    [-1, 1, "Conv", [128, 1, 1, None, 1, 1, False]],
    [-1, 1, "AIFI", [256, 4]],
    [-1, 1, "Conv", [128, 1, 1]],  # 10
    [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
    [5, 1, "Conv", [128, 1, 1, None, 1, 1, False]],
    [[-2, -1], 1, "Concat", [1]],
    [-1, 1, "RepC3", [128]],
    [-1, 1, "Conv", [128, 1, 1]],  # 15
    [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
    [3, 1, "Conv", [128, 1, 1, None, 1, 1, False]],
    [[-2, -1], 1, "Concat", [1]],
    [-1, 1, "RepC3", [128]],  # 19
    [-1, 1, "Conv", [128, 3, 2]],
    [[-1, 15], 1, "Concat", [1]],
    [-1, 1, "RepC3", [128]],  # 22
    [-1, 1, "Conv", [128, 3, 2]],
    [[-1, 10], 1, "Concat", [1]],
    [-1, 1, "RepC3", [128]],  # 25
    # width, queries, points, heads, layers, width of the layers between
    [[19, 22, 25], 1, "RTDETRDecoder", ["nc", 128, 300, 4, 4, 3, 512]],
]


class RtdetrTrainer(UltralyticsTrainer):
    """See `trainer.Trainer`."""

    family = "rtdetr"

    def _precision(self, device: str) -> str:
        # In half precision its matching of boxes meets numbers that are none.
        return "fp32"

    def _overrides(self, plan: Any, device: str, precision: str) -> dict[str, Any]:
        # Its sampling has no deterministic way back.
        return {**super()._overrides(plan, device, precision), "deterministic": False}

    def _make_trainer(self, overrides: dict[str, Any], precision: str) -> Any:
        return _make_trainer(overrides)


def initial_weights(out: Path, classes: Sequence[str], seed: int = 0) -> Path:
    """Write a checkpoint of random numbers for these classes, to train from."""
    if not classes:
        raise BadInput("A detector needs classes.", "Name one or more.")
    prepare_ultralytics()
    import torch
    from ultralytics.nn.tasks import RTDETRDetectionModel

    torch.manual_seed(seed)
    described = {"nc": len(classes), "backbone": BACKBONE, "head": HEAD}
    network = RTDETRDetectionModel(described, nc=len(classes), verbose=False)
    network.names = dict(enumerate(classes))
    out.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(network, out, {"task": "detect"})
    return out


def _make_trainer(overrides: dict[str, Any]) -> Any:
    from ultralytics.data import YOLODataset
    from ultralytics.models.rtdetr.train import RTDETRTrainer
    from ultralytics.models.rtdetr.val import RTDETRValidator
    from ultralytics.nn.tasks import RTDETRDetectionModel
    from ultralytics.utils import RANK

    def letterboxed(owner: Any, pictures: str, batch: int | None, is_augmented: bool) -> YOLODataset:
        """Pictures as they will be served: Ultralytics' own stretches them to the square for this family."""
        return YOLODataset(
            img_path=pictures,
            imgsz=owner.args.imgsz,
            batch_size=batch,
            augment=is_augmented,
            hyp=owner.args,
            rect=False,
            data=owner.data,
        )

    class LetterboxedValidator(RTDETRValidator):
        def build_dataset(self, img_path: str, mode: str = "val", batch: int | None = None) -> YOLODataset:
            return letterboxed(self, img_path, batch, is_augmented=False)

    class OfflineTrainer(RTDETRTrainer):
        def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
            if not isinstance(weights, RTDETRDetectionModel):
                raise BadInput(
                    f"{overrides['model']} is no RT-DETR.",
                    "Begin with one: its model initial --out FILE.pt, then training.weights.",
                )
            model = RTDETRDetectionModel(
                cfg, nc=self.data["nc"], ch=self.data["channels"], verbose=verbose and RANK == -1
            )
            model.names = self.data["names"]
            weights.names = names_to_carry_over(weights.names, self.data["names"].values())
            model.load(weights)
            return model

        def build_dataset(self, img_path: str, mode: str = "train", batch: int | None = None) -> YOLODataset:
            return letterboxed(self, img_path, batch, is_augmented=mode == "train")

        def get_validator(self) -> RTDETRValidator:
            return LetterboxedValidator(
                self.test_loader, save_dir=self.save_dir, args=copy(self.args), _callbacks=self.callbacks
            )

        def final_eval(self) -> None:
            """No last validation: the exported file is judged instead, on frames that took no part."""

    return OfflineTrainer(overrides=overrides)
