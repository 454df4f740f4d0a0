"""Labels from a detector: boxes of origin `model`, unreviewed, which may teach if asked for and never judge.

The detector enters as a callable, because the model stage lies above this one. How it was trained or loaded
does not belong here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from its_platform.detections import Detections
from its_platform.errors import BadInput
from its_platform.frames import load_image
from its_platform.frames.erasure import object_keys
from its_platform.labels.labelling import Box, FrameLabels, LabelResult, check_class_names, rename_classes
from its_platform.labels.store import add_labels
from its_platform.offline import prepare_ultralytics
from its_platform.stores import Stores
from its_platform.telemetry import Progress, no_progress
from its_platform.weights import check_weights

Image = npt.NDArray[np.uint8]
Detect = Callable[[Sequence[Image]], Sequence[Detections]]
# Half a minute of a detector's work on two cores is all that an interruption may cost.
STORED_AT_ONCE = 200


def auto_label(
    stores: Stores,
    frame_hashes: Sequence[str],
    detect: Detect,
    classes: Sequence[str],
    confidence: float = 0.25,
    source: str = "detector",
    batch: int = 8,
    mapping: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
) -> LabelResult:
    """Run the detector over frames and store its boxes of at least `confidence`, `STORED_AT_ONCE` frames in a commit.

    `detect` takes RGB uint8 `[H,W,3]` pictures and answers with one `Detections` for each; `classes` are its
    class names by id; `source` names it (a digest of the weights). `mapping` (old name → ours) keeps the classes that
    it names and drops the detector's others; without one all are kept.
    """
    check_class_names(mapping or (), classes)
    keys = object_keys(stores, frame_hashes)
    result, made = LabelResult(0), list[FrameLabels]()
    for start in range(0, len(frame_hashes), batch):
        hashes = frame_hashes[start : start + batch]
        images = [load_image(stores, keys[frame_hash]) for frame_hash in hashes]
        for frame_hash, image, found in zip(hashes, images, detect(images), strict=True):
            entry = _labels(frame_hash, image, found.above(confidence), tuple(classes), source)
            made.append(_mapped(entry, mapping) if mapping else entry)
        if len(made) >= STORED_AT_ONCE:
            result, made = result.with_later(add_labels(stores, made)), []
        progress("auto-label", min(start + batch, len(frame_hashes)), len(frame_hashes))
    return result.with_later(add_labels(stores, made))


def _labels(frame_hash: str, image: Image, found: Detections, classes: tuple[str, ...], source: str) -> FrameLabels:
    """A detector's boxes reach over the border and may be slivers there; that is no fault of the frame."""
    height, width = image.shape[:2]
    boxes = []
    for (x1, y1, x2, y2), confidence, class_id in zip(found.boxes, found.confidence, found.class_id, strict=True):
        x1, y1, x2, y2 = max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2)
        if x2 - x1 >= 1 and y2 - y1 >= 1 and 0 <= class_id < len(classes):
            corners = (float(x1), float(y1), float(x2), float(y2))
            boxes.append(Box(classes[class_id], *corners, "model", "unreviewed", float(confidence)))
    return FrameLabels(frame_hash, tuple(boxes), classes, source=source, review="unreviewed")


def _mapped(entry: FrameLabels, mapping: Mapping[str, str]) -> FrameLabels:
    return rename_classes(entry, mapping, {name for name in entry.classes if name not in mapping})


def ultralytics_detector(weights: Any, size: int = 640) -> tuple[Detect, tuple[str, ...]]:
    """A `Detect` from Ultralytics weights (`.pt` or `.onnx`) and its class names, on the CPU or a GPU.

    Raises `BadInput` for weights that cannot be used, or not at this `size`, and for an ONNX file that does not say its
    classes: Ultralytics would make some up.
    """
    path = Path(weights)
    check_weights(path, (".pt", ".onnx"))
    if path.suffix.lower() == ".onnx":
        _check_onnx(path, size)
    prepare_ultralytics()
    from ultralytics import YOLO

    try:
        model: Any = YOLO(str(path), task="detect")
        names = model.names
    except (KeyError, EOFError, RuntimeError, AttributeError, ModuleNotFoundError, TypeError) as error:
        raise BadInput(f"{path} is not a checkpoint of the Ultralytics family.", "Give a detector's .pt.") from error
    if model.task != "detect":
        raise BadInput(f"{path} does a task other than detection: {model.task}.", "Give a detector's .pt.")

    def detect(images: Sequence[Image]) -> list[Detections]:
        # Ultralytics reads an array as BGR.
        pictures = [np.ascontiguousarray(image[..., ::-1]) for image in images]
        found = []
        for picture in pictures:
            boxes = model.predict(picture, imgsz=size, conf=0.05, verbose=False)[0].boxes.cpu()
            found.append(
                Detections(
                    boxes.xyxy.numpy().astype(np.float32),
                    boxes.conf.numpy().astype(np.float32),
                    boxes.cls.numpy().astype(np.int32),
                )
            )
        return found

    return detect, tuple(names[index] for index in sorted(names))


def _check_onnx(path: Path, size: int) -> None:
    """Raise `BadInput` unless the graph takes one RGB picture, not in whole numbers, and answers with rows of boxes."""
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (state.Fail, state.InvalidProtobuf, state.InvalidGraph, state.NotImplemented, RuntimeError) as error:
        raise BadInput(f"{path} is not an ONNX file that can be run.", "Export it again.") from error
    pictures, answers = session.get_inputs(), session.get_outputs()
    shape = pictures[0].shape if pictures else []
    is_detector = len(pictures) == len(answers) == 1 and len(shape) == 4 and shape[1] == 3
    if not is_detector or len(answers[0].shape) != 3 or pictures[0].type not in ("tensor(float)", "tensor(float16)"):
        raise BadInput(
            f"{path} is not a detector that Ultralytics exported.", "Export one with `yolo export format=onnx`."
        )
    fixed = {side for side in shape[2:] if isinstance(side, int)}
    if fixed and fixed != {size}:
        sides = " x ".join(map(str, shape[2:]))
        raise BadInput(f"{path} works at {sides} pixels alone, not at {size}.", f"Pass --size {max(fixed)}.")
    said = session.get_modelmeta().custom_metadata_map
    if "names" not in said or said.get("task", "detect") != "detect":
        raise BadInput(
            f"{path} does not say which classes it detects.", "Take a .pt, or an .onnx that Ultralytics exported."
        )
