"""The measurements that releasing takes in this process: a detector on golden frames, and on one picture.

A version's ONNX file and a dataset version enter, answers and rows leave. What they have to reach is in `gates`;
latency, which is measured on Triton, in `latency.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from its_platform.errors import BadInput, NotFound
from its_platform.release.gates import GOLDEN
from its_platform.release.golden import GoldenAnswers
from its_platform.release.outside import Evaluate, Image, Picture, ReadCard, Rows

if TYPE_CHECKING:
    import pandas as pd

    from its_platform.stores import Stores
    from its_platform.stores.registry import ModelVersion


def evaluator(stores: Stores) -> Evaluate:
    """Runs a detector over the golden frames of a dataset version, over the classes that are named.

    The slices are those of `model.evaluate` and, where a golden set has grown, `golden/since=N` for what each number
    added: the old golden set and the new part are judged apart.
    """

    def evaluate(onnx: Path, version: ModelVersion, dataset: str, classes: Sequence[str]) -> GoldenAnswers:
        from its_platform.model.evaluate import block_names, detect_frames, slice_masks, truth_of

        frames = golden_frames(stores, dataset)
        found = detect_frames(stores, onnx, frames, list(classes))
        masks = {name: mask for name, mask in slice_masks(frames).items() if name.startswith(GOLDEN)}
        added = sorted(int(number) for number in frames["golden_since"].dropna().unique())
        if len(added) > 1:
            masks |= {f"{GOLDEN}/since={n}": (frames["golden_since"] == n).to_numpy(bool) for n in added}
        return GoldenAnswers(
            classes=tuple(classes),
            truth=tuple(truth_of(frames, list(classes))),
            found=tuple(found),
            slices=masks,
            blocks=tuple(block_names(frames)),
            is_simulated=frames["camera_id"].isin(simulated_cameras(stores, frames)).to_numpy(bool),
        )

    return evaluate


def simulated_cameras(stores: Stores, frames: pd.DataFrame) -> set[str]:
    """The cameras among these frames that are no real ones: registered with a `sim://` address.

    One that is not registered here (its frames were pulled from elsewhere) is simulated where it has boxes and the
    simulated world made all of them; whoever cannot tell says "real".
    """
    from its_platform.cameras import list_cameras

    known = {camera.camera_id: camera.is_simulated for camera in list_cameras(stores)}
    origins: dict[str, set[str]] = {}
    for camera_id, boxes in zip(frames["camera_id"], frames["boxes"], strict=True):
        origins.setdefault(camera_id, set()).update(box["origin"] for box in boxes)
    return {name for name, found in origins.items() if known.get(name, found == {"simulated"})}


def card_reader(stores: Stores) -> ReadCard:
    """The card of a dataset version by its name; None where these stores know no such version, or it has no card."""

    def read(dataset: str) -> dict[str, Any] | None:
        from its_platform.dataset.manifest import CARD, read_card
        from its_platform.dataset.versions import version, version_bytes

        try:
            known = version(stores, dataset)
        except NotFound:
            return None
        data = version_bytes(stores, known).get(CARD)
        return None if data is None else read_card(data)

    return read


def classes_in(onnx: Path) -> tuple[str, ...] | None:
    """The classes that an exported file names in its own metadata; None where it names none."""
    from its_platform.model.exported import read_detector

    try:
        return read_detector(onnx).classes
    except BadInput:
        return None


def golden_frames(stores: Stores, dataset: str) -> pd.DataFrame:
    """The golden rows of a dataset version's manifest."""
    from its_platform.dataset import load_manifest

    manifest = load_manifest(stores, dataset)
    return manifest[manifest["split"] == GOLDEN].reset_index(drop=True)


def run_onnx(onnx: Path, images: Image) -> Rows:
    """An exported detector, of any format, in this process: uint8 `[n, H, W, 3]` to float32 `[n, 300, 6]`.

    Raises `BadInput` for a file that is no model, or one that takes another input.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    from its_platform.model.exported import open_detector

    try:
        return np.asarray(open_detector(onnx).detect(images), np.float32)
    except (state.InvalidArgument, state.RuntimeException, state.Fail, RuntimeError, ValueError) as error:
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


def format_loss_of(version: ModelVersion) -> float | None:
    """What the version's format lost of AP50 when it was made; None where that was not measured."""
    from its_platform.model.formats import ACCURACY_LOSS

    try:
        return float(version.tags[ACCURACY_LOSS])
    except (KeyError, ValueError):
        return None


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
        return rendered_street()


def rendered_street() -> Image:
    """A picture of the simulated world, where there is no real one."""
    from its_platform.simulation import render, views

    return render(views()[0], 7, 30.0).image
