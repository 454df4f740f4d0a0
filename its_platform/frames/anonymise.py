"""Makes faces and number plates unrecognisable, for cameras whose policy asks for it.

Enters: an RGB picture. Leaves: a copy in which each face and plate found is reduced to a few flat cells, before
anything is encoded or stored: the original is never written, so nothing can bring it back. Both detectors are given in
the settings (`frames.face_model`, `frames.plate_model`); without them the policy cannot be kept and nothing is taken
in. Detectors miss some: this lowers what is stored about people, it does not prove that nothing is.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from its_platform.errors import BadInput, PermanentError
from its_platform.frames.images import Image
from its_platform.settings import FrameSettings

Boxes = npt.NDArray[np.float32]

# Low thresholds: hiding a headlight costs little, showing a face cannot be taken back.
FACE_CONFIDENCE = 0.5
PLATE_CONFIDENCE = 0.25
# A face or plate that fills this share of the picture is a mistake unless the detector is sure of it.
LARGE_SHARE = 0.02
SURE = 0.75
NMS_IOU = 0.5
# Faces of 10 px are found at this size; larger pictures are cut into tiles of about it for plates.
FACE_LONG_SIDE = 1600
TILE = 720
TILE_OVERLAP = 0.15
MARGIN = 0.2
CELLS = 4


class PolicyCannotBeKept(PermanentError):
    """A camera asks for anonymous frames and there is no detector to make them with."""


def open_anonymiser(settings: FrameSettings) -> Callable[[Image], tuple[Image, int]]:
    """A function that gives an anonymous copy of an RGB picture, and how many places it hid.

    Raises `PolicyCannotBeKept` naming the settings that are missing, `BadInput` for a model that cannot be loaded.
    """
    paths = {"face_model": settings.face_model, "plate_model": settings.plate_model}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        named = " and ".join(f"frames.{name}" for name in missing)
        variables = " and ".join(f"ITS_FRAMES__{name.upper()}" for name in missing)
        raise PolicyCannotBeKept(
            f"The camera's policy is faces_and_plates, and {named} is not set.",
            f"Set {variables} to an ONNX file (docs/frames.md says which), or change the camera's privacy.",
        )
    for name, path in paths.items():
        if path is not None and not path.is_file():
            raise BadInput(f"frames.{name}: there is no file {path}.", f"Set ITS_FRAMES__{name.upper()}.")
    find_faces = _face_finder(Path(str(settings.face_model)))
    find_plates = _plate_finder(Path(str(settings.plate_model)))

    def anonymise(image: Image) -> tuple[Image, int]:
        boxes = np.concatenate([find_faces(image), find_plates(image)])
        return hide(image, boxes), len(boxes)

    return anonymise


def hide(image: Image, boxes: Boxes) -> Image:
    """A copy in which each box (x1, y1, x2, y2 in pixels), with a margin, holds at most 4 x 4 flat cells."""
    height, width = image.shape[:2]
    hidden = image.copy()
    for x1, y1, x2, y2 in np.asarray(boxes, np.float32).reshape(-1, 4):
        dx, dy = max(2.0, MARGIN * (x2 - x1)), max(2.0, MARGIN * (y2 - y1))
        left, top = max(0, int(x1 - dx)), max(0, int(y1 - dy))
        right, bottom = min(width, ceil(x2 + dx)), min(height, ceil(y2 + dy))
        if right <= left or bottom <= top:
            continue
        # Taken from the original, so that two boxes that overlap do not depend on their order.
        part = image[top:bottom, left:right]
        cells = cv2.resize(part, (min(CELLS, right - left), min(CELLS, bottom - top)), interpolation=cv2.INTER_AREA)
        flat = cv2.resize(cells, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST)
        hidden[top:bottom, left:right] = flat
    return hidden


def _face_finder(path: Path) -> Callable[[Image], Boxes]:
    try:
        detector = cv2.FaceDetectorYN.create(str(path), "", (320, 320), FACE_CONFIDENCE, 0.3, 5000)
    except cv2.error as error:
        raise BadInput(
            f"frames.face_model: OpenCV cannot load {path} as a YuNet model.",
            "Exports with a fixed input size load; those with a dynamic one do not.",
        ) from error

    def find(image: Image) -> Boxes:
        height, width = image.shape[:2]
        # Small pictures are enlarged: a face in the distance is otherwise under the detector's least size.
        scale = min(2.0, FACE_LONG_SIDE / max(height, width))
        size = (round(width * scale), round(height * scale))
        bgr = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), cv2.COLOR_RGB2BGR)
        detector.setInputSize(size)
        _, found = detector.detect(bgr)
        if found is None:
            return np.zeros((0, 4), np.float32)
        rows = np.asarray(found, np.float32)
        boxes = rows[:, :4] / scale
        boxes[:, 2:] += boxes[:, :2]
        return _plausible(boxes, rows[:, 14], image)

    return find


def _plate_finder(path: Path) -> Callable[[Image], Boxes]:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (state.Fail, state.InvalidProtobuf, state.InvalidGraph, state.NotImplemented, RuntimeError) as error:
        raise BadInput(f"frames.plate_model: {path} cannot be loaded: {str(error)[:160]}.") from error
    entry = session.get_inputs()[0]
    side = entry.shape[2] if len(entry.shape) == 4 and isinstance(entry.shape[2], int) else 640

    def one(tile: Image) -> Boxes:
        height, width = tile.shape[:2]
        scale = side / max(height, width)
        canvas = np.full((side, side, 3), 114, np.uint8)
        inner = cv2.resize(tile, (max(1, round(width * scale)), max(1, round(height * scale))))
        canvas[: inner.shape[0], : inner.shape[1]] = inner
        tensor = np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32) / 255.0
        raw: Any = session.run(None, {entry.name: tensor})[0]
        rows = np.asarray(raw, np.float32)[0].T
        rows = rows[rows[:, 4:].max(axis=1) >= PLATE_CONFIDENCE]
        centre, half = rows[:, :2], rows[:, 2:4] / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1) / scale
        sized = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        keep = cv2.dnn.NMSBoxes(sized.tolist(), rows[:, 4].tolist(), PLATE_CONFIDENCE, NMS_IOU)
        kept = np.asarray(keep, int).reshape(-1)
        return np.concatenate([boxes[kept], rows[kept, 4:5]], axis=1).astype(np.float32)

    def find(image: Image) -> Boxes:
        found = [one(image)]
        height, width = image.shape[:2]
        columns, rows = ceil(width / TILE), ceil(height / TILE)
        if columns * rows > 1:
            for top, bottom in _spans(height, rows):
                for left, right in _spans(width, columns):
                    boxes = one(image[top:bottom, left:right])
                    found.append(boxes + np.array([left, top, left, top, 0], np.float32))
        rows_found = np.concatenate(found)
        return _plausible(rows_found[:, :4], rows_found[:, 4], image)

    return find


def _plausible(boxes: Boxes, confidence: npt.NDArray[np.float32], image: Image) -> Boxes:
    share = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (image.shape[0] * image.shape[1])
    return boxes[(share < LARGE_SHARE) | (confidence >= SURE)]


def _spans(length: int, parts: int) -> list[tuple[int, int]]:
    """`parts` overlapping pieces of a length."""
    if parts == 1:
        return [(0, length)]
    size = min(length, ceil(length / parts * (1 + TILE_OVERLAP)))
    starts = (round(i * (length - size) / (parts - 1)) for i in range(parts))
    return [(start, start + size) for start in starts]
