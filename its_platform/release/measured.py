"""The measurements that releasing takes in this process: a detector on golden frames, and on one picture.

A version's ONNX file and a dataset version enter, scores and rows leave. What they have to reach is in `gates.py`;
latency, which is measured on Triton, in `latency.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from its_platform.errors import BadInput, NotFound
from its_platform.release.gates import GOLDEN
from its_platform.release.outside import Evaluate, Image, Picture, Rows

if TYPE_CHECKING:
    import pandas as pd

    from its_platform.model.scoring import Evaluation
    from its_platform.stores import Stores
    from its_platform.stores.registry import ModelVersion

# The interval is shown beside a verdict and decides nothing, so a rough one will do.
INTERVAL_ROUNDS = 50


def evaluator(stores: Stores) -> Evaluate:
    """Scores a detector on the golden frames of a dataset version, over the classes that are named.

    The slices are those of `model.evaluate` and, where a golden set has grown, `golden/since=N` for what each number
    added: the old golden set and the new part are judged apart.
    """

    def evaluate(onnx: Path, version: ModelVersion, dataset: str, classes: Sequence[str]) -> Evaluation:
        from its_platform.model.evaluate import block_names, detect_frames, slice_masks, truth_of
        from its_platform.model.scoring import Evaluation, score_detections

        frames = golden_frames(stores, dataset)
        if frames.empty:
            return Evaluation((), tuple(classes), dict(version.thresholds), dataset, version.onnx_digest)
        found = detect_frames(stores, onnx, frames, list(classes))
        masks = {name: mask for name, mask in slice_masks(frames).items() if name.startswith(GOLDEN)}
        added = sorted(int(number) for number in frames["golden_since"].dropna().unique())
        if len(added) > 1:
            masks |= {f"{GOLDEN}/since={n}": (frames["golden_since"] == n).to_numpy(bool) for n in added}
        scores = score_detections(
            truth_of(frames, list(classes)),
            found,
            list(classes),
            masks,
            block_names(frames),
            version.thresholds,
            INTERVAL_ROUNDS,
        )
        return Evaluation(tuple(scores), tuple(classes), dict(version.thresholds), dataset, version.onnx_digest)

    return evaluate


def golden_frames(stores: Stores, dataset: str) -> pd.DataFrame:
    """The golden rows of a dataset version's manifest."""
    from its_platform.dataset import load_manifest

    manifest = load_manifest(stores, dataset)
    return manifest[manifest["split"] == GOLDEN].reset_index(drop=True)


def run_onnx(onnx: Path, images: Image) -> Rows:
    """An exported detector in this process: uint8 `[n, S, S, 3]` to float32 `[n, 300, 6]`.

    Raises `BadInput` for a file that is no model, or one that takes another input.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    from its_platform.model.export import detect_squares, open_session

    try:
        return np.asarray(detect_squares(open_session(onnx), images), np.float32)
    except (state.InvalidArgument, state.RuntimeException, state.Fail, ValueError) as error:
        first = str(error).splitlines()[0]
        raise BadInput(f"{onnx.name} does not run on a picture: {first}", "Export it again.") from error


def picture_source(stores: Stores) -> Picture:
    """The golden picture with the most boxes of a version's own dataset.

    A version whose dataset is not in these stores (it was brought in from elsewhere) gets a rendered street.
    """
    kept: dict[str, Image] = {}

    def picture(version: ModelVersion) -> Image:
        if version.dataset_version not in kept:
            kept[version.dataset_version] = _busiest(stores, version.dataset_version)
        return kept[version.dataset_version]

    return picture


def parity_of(version: ModelVersion, folder: Path) -> float | None:
    """The share of the detector's own boxes that its export has, as the training left it; None where it left none.

    It stands in the version's tag `parity`, or as `share` in `parity.json` among its files.
    """
    try:
        if "parity" in version.tags:
            return float(version.tags["parity"])
        return float(json.loads((folder / "parity.json").read_text(encoding="utf-8"))["share"])
    except (OSError, KeyError, ValueError, TypeError):
        return None


def _busiest(stores: Stores, dataset: str) -> Image:
    from its_platform.frames import load_image

    try:
        frames = golden_frames(stores, dataset)
        if frames.empty:
            raise NotFound(f"Dataset {dataset} has no golden frames.")
        row = frames.iloc[int(frames["boxes"].map(len).to_numpy().argmax())]
        return load_image(stores, row["object_key"])
    except (NotFound, BadInput):
        from its_platform.simulation import render, views

        return render(views()[0], 7, 30.0).image
