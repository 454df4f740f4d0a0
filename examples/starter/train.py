"""Train the starter checkpoint from nothing on a folder of rendered frames.

Enters: a folder in YOLO's form (`data.yaml` with `names`, `train` and `val`; `images/...` and `labels/...`), as
`examples/starter/render.py` writes it. Leaves: `starter.pt`, half precision and without optimizer state or any path
of the machine that trained it, and beside it `starter.json` with its own scores. It starts from random numbers: no
weights are downloaded and none are needed.

Only torch and ultralytics are needed, so that it runs on a machine with a GPU and nothing of the platform:

    python examples/starter/train.py --data FOLDER --epochs 100 --batch 128 --size 320 --workers 16 --out starter.pt
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MOST_BYTES = 6_000_000


def main() -> int:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="starter-") as folder:
        scratch = Path(folder)
        prepare_offline(scratch)
        data = described_data(options.data, scratch)
        started = time.monotonic()
        best, scores = train(options, data, scratch)
        size = save_stripped(best, options.out, options.size)
        report = {
            "architecture": options.model,
            "digest": hashlib.sha256(options.out.read_bytes()).hexdigest(),
            "bytes": size,
            "image_size": options.size,
            "epochs": options.epochs,
            "batch": options.batch,
            "seed": options.seed,
            "seconds": round(time.monotonic() - started, 1),
            "scores": scores,
            "data": data_figures(data),
        }
    options.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    say(json.dumps(report))
    if size > MOST_BYTES:
        say(f"The checkpoint has {size} bytes; at most {MOST_BYTES} may be shipped.")
        return 1
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with data.yaml")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=320, help="side of the square input in pixels")
    parser.add_argument("--out", type=Path, default=Path("starter.pt"))
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--model", default="yolo11n.yaml", help="architecture; a file inside ultralytics")
    parser.add_argument("--cache", default="ram", choices=["ram", "disk", "none"])
    parser.add_argument("--close-mosaic", type=int, default=None, help="last epochs without mosaic")
    parser.add_argument("--small-size", type=int, default=160, help="side of the input in the first epochs")
    parser.add_argument(
        "--small-epochs", type=int, default=0, help="epochs on small pictures first: several times cheaper"
    )
    parser.add_argument(
        "--rate", type=float, default=None, help="learning rate of AdamW; Ultralytics chooses by default"
    )
    parser.add_argument("--threads", type=int, default=None, help="CPU threads")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def prepare_offline(scratch: Path) -> None:
    """Keep Ultralytics from asking any server and from writing outside `scratch`. Call before importing it."""
    os.environ.update(
        YOLO_OFFLINE="1", YOLO_AUTOINSTALL="false", YOLO_CONFIG_DIR=str(scratch), MPLCONFIGDIR=str(scratch)
    )
    from ultralytics.data import utils
    from ultralytics.utils import SETTINGS

    # Loggers that happen to be installed would write where they are run, MLflow a database for one.
    loggers = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "sync")
    SETTINGS.update({name: False for name in loggers if name in SETTINGS})
    # The dataset check looks for a font for plots that are not drawn, and asks a server where it is missing.
    utils.check_font = lambda font: None


def described_data(folder: Path, scratch: Path) -> Path:
    """A data.yaml with absolute paths for this machine, in `scratch`."""
    import yaml

    given = yaml.safe_load((folder / "data.yaml").read_text())
    names = given["names"]
    described = {
        "path": str(folder.resolve()),
        "train": given.get("train", "images/train"),
        "val": given.get("val", "images/val"),
        "names": names if isinstance(names, dict) else dict(enumerate(names)),
    }
    path = scratch / "data.yaml"
    path.write_text(yaml.safe_dump(described))
    return path


def train(options: argparse.Namespace, data: Path, scratch: Path) -> tuple[Path, dict[str, Any]]:
    """The best checkpoint in `scratch` and its scores on the validation frames."""
    import torch
    from ultralytics import YOLO

    has_gpu = torch.cuda.is_available()
    say(f"torch {torch.__version__}, {torch.cuda.get_device_name(0) if has_gpu else 'CPU'}")
    if options.threads:
        torch.set_num_threads(options.threads)
    start = options.model
    if options.small_epochs:
        start = str(fit(options, start, data, scratch, options.small_size, options.small_epochs, "small"))
    best = fit(options, start, data, scratch, options.size, options.epochs, "starter")
    judged = YOLO(best).val(
        data=str(data),
        imgsz=options.size,
        batch=options.batch,
        workers=min(options.workers, 4),
        device=0 if has_gpu else "cpu",
        plots=False,
        verbose=False,
        project=str(scratch / "runs"),
        name="judge",
        exist_ok=True,
    )
    return best, score_figures(judged)


def fit(options: argparse.Namespace, start: str, data: Path, scratch: Path, size: int, epochs: int, name: str) -> Path:
    """Train from an architecture or a checkpoint at one picture size; returns the best checkpoint."""
    import torch
    from ultralytics import YOLO

    network = YOLO(start)
    started = time.monotonic()

    def tell(trainer: Any) -> None:
        if trainer.epoch >= epochs:  # the last look at the best checkpoint counts as an epoch more
            return
        map50 = trainer.metrics.get("metrics/mAP50(B)", float("nan"))
        spent = time.monotonic() - started
        left = spent / (trainer.epoch + 1) * (epochs - trainer.epoch - 1)
        say(f"{name}: epoch {trainer.epoch + 1} of {epochs}: mAP50 {map50:.4f}, {spent:.0f} s, {left:.0f} s left")

    network.add_callback("on_fit_epoch_end", tell)
    has_gpu = torch.cuda.is_available()
    closing = options.close_mosaic if options.close_mosaic is not None else max(1, epochs // 8)
    rate: dict[str, Any] = {"optimizer": "AdamW", "lr0": options.rate} if options.rate else {}
    network.train(
        data=str(data),
        epochs=epochs,
        batch=options.batch,
        imgsz=size,
        workers=options.workers,
        cache=False if options.cache == "none" else options.cache,
        device=0 if has_gpu else "cpu",
        # "bf16" needs no trial with downloaded weights, which plain `True` does.
        amp="bf16" if has_gpu else False,
        pretrained=Path(start).suffix == ".pt",
        cos_lr=True,
        warmup_epochs=min(3.0, epochs / 4),
        close_mosaic=closing,
        patience=0,
        plots=False,
        val=True,
        seed=options.seed,
        deterministic=False,
        project=str(scratch / "runs"),
        name=name,
        exist_ok=True,
        **rate,
    )
    return Path(network.trainer.best)


def score_figures(judged: Any) -> dict[str, Any]:
    """mAP50 and mAP50-95, precision and recall, and mAP50 by class, on the validation frames."""
    box, names = judged.box, judged.names
    by_class = {names[int(c)]: round(float(box.ap50[i]), 5) for i, c in enumerate(box.ap_class_index)}
    return {
        "map50": round(float(box.map50), 5),
        "map50_95": round(float(box.map), 5),
        "precision": round(float(box.mp), 5),
        "recall": round(float(box.mr), 5),
        "map50_by_class": by_class,
    }


def save_stripped(best: Path, out: Path, image_size: int) -> int:
    """Write the weights alone to `out`, as `ultralytics.YOLO` reads them; returns the bytes written."""
    import torch
    import ultralytics
    from ultralytics.nn.tasks import load_checkpoint

    model, _ = load_checkpoint(str(best), device=torch.device("cpu"))
    model.half().eval()
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.args = {"imgsz": image_size, "task": "detect"}
    for trace in ("criterion", "pt_path", "yaml_file"):
        if hasattr(model, trace):
            delattr(model, trace)
    model.yaml = {key: value for key, value in model.yaml.items() if key != "yaml_file"}
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    torch.save(
        {
            "epoch": -1,
            "model": model,
            "ema": None,
            "optimizer": None,
            "train_args": {"imgsz": image_size, "task": "detect"},
            "version": ultralytics.__version__,
            "license": "AGPL-3.0",
        },
        part,
    )
    part.replace(out)
    return out.stat().st_size


def data_figures(data: Path) -> dict[str, Any]:
    """Frames and boxes by split, counted in the label files."""
    import yaml

    described = yaml.safe_load(data.read_text())
    figures: dict[str, Any] = {"classes": list(described["names"].values())}
    for split in ("train", "val"):
        images = Path(described["path"]) / described[split]
        labels = Path(str(images).replace("images", "labels"))
        files = sorted(labels.rglob("*.txt"))
        boxes = sum(len(file.read_text().splitlines()) for file in files)
        frames = sum(1 for file in images.rglob("*") if file.suffix.lower() in {".jpg", ".jpeg", ".png"})
        figures[split] = {"frames": frames, "boxes": boxes}
    return figures


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
