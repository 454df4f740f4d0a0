"""A dataset version as a folder that a YOLO trainer reads: data.yaml, images and labels of train, val and test.

The golden set is left out on purpose: it judges, and no trainer gets to see it. A folder appears whole or not at
all, and is kept by the version's digest.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import yaml

from its_platform.dataset.versions import DatasetVersion, cache_folder, frame_bytes, publish
from its_platform.errors import BadInput
from its_platform.labels.formats import yolo_lines
from its_platform.stores import Stores
from its_platform.telemetry import Progress, no_progress

SPLITS = ("train", "val", "test")


def materialise_yolo(
    stores: Stores,
    wanted: DatasetVersion,
    manifest: pd.DataFrame,
    folder: Path | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Write the folder (home/cache by default) unless it is there; gives its path.

    Pictures are copies: a trainer that "repairs" a JPEG in place would otherwise change the stored frame. Raises
    `NotFound` and `DatasetDamaged` for a frame that the object store lacks or holds differently, and `BadInput` for a
    folder that holds something else.
    """
    target = (folder or cache_folder(stores, wanted.digest).with_name(f"{wanted.digest}-yolo")).resolve()
    if (target / "digest").is_file() and (target / "digest").read_text("utf-8") == wanted.digest:
        return target
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise BadInput(f"{target} is there already and holds something else.", "Name a new or an empty folder.")
    rows = manifest[manifest["split"].isin(SPLITS)]
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=target.parent))
    try:
        for split in SPLITS:
            (unfinished / "images" / split).mkdir(parents=True)
            (unfinished / "labels" / split).mkdir(parents=True)
        for done, row in enumerate(rows.to_dict("records"), 1):
            stem = row["frame_hash"]
            picture = unfinished / "images" / row["split"] / f"{stem}.jpg"
            picture.write_bytes(frame_bytes(stores, row["object_key"], stem))
            boxes = [SimpleNamespace(**box) for box in row["boxes"]]
            text = yolo_lines(boxes, wanted.classes, row["width"], row["height"])
            (unfinished / "labels" / row["split"] / f"{stem}.txt").write_text(text, "utf-8")
            if done % 50 == 0 or done == len(rows):
                progress("pictures", done, len(rows))
        described = {
            "path": str(target),
            "train": "images/train",
            "val": "images/val",
            "test": "images/test",
            "names": dict(enumerate(wanted.classes)),
        }
        (unfinished / "data.yaml").write_text(yaml.safe_dump(described, sort_keys=False), "utf-8")
        (unfinished / "digest").write_text(wanted.digest, "utf-8")
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    publish(unfinished, target)
    return target
