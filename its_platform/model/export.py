"""A detector's weights become the ONNX file that Triton serves, with its box choice inside.

Enters: a `.pt` of the Ultralytics family. Leaves: an ONNX file with input `images` UINT8 `[n, H, W, 3]` (RGB,
letterboxed by the caller), output `detections` FP32 `[n, 300, 6]` and the facts about it in its metadata; and
`parity`, which says how many of the detector's own boxes the file finds. Thresholds do not belong here: the file
answers every box above confidence 0.01.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from its_platform.contract import ImageSize
from its_platform.errors import BadInput
from its_platform.model.exported import MAX_BATCH, DetectorFile, open_detector
from its_platform.model.letterbox import shape_of
from its_platform.model.onnx_graph import OPSET, HeadKind, end_to_end
from its_platform.weights import check_weights

CONFIDENCE = 0.01


@dataclass(frozen=True)
class ParityResult:
    """How far the export finds the detector's own boxes (Ultralytics' choice on the same pictures).

    `share`: of the detector's own boxes, those with a box of the same class at IoU 0.9 or more and a confidence at
    most `confidence_tolerance` away; the lowest of all batch sizes. `extra`: boxes that only the export has, as a
    share. `by_batch`: the share for each batch size. `worst_confidence`: largest difference among the matched.
    """

    share: float
    extra: float
    boxes: int
    by_batch: dict[int, float]
    worst_confidence: float

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "by_batch": {str(k): v for k, v in self.by_batch.items()}}


def digest_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def export_detector(
    weights: Path, out: Path, image_size: ImageSize, iou: float = 0.7, dataset: str = "", family: str = "yolo"
) -> DetectorFile:
    """Write the ONNX file of `weights` to `out`, whole or not at all. Raises `BadInput` for weights it cannot read."""
    import onnx
    import onnxslim

    weights, out = Path(weights), Path(out)
    network, head, classes = inference_network(weights)
    raw = _raw_graph(network, image_size)
    model = end_to_end(onnxslim.slim(raw), shape_of(image_size), head, CONFIDENCE, iou)
    about = DetectorFile(classes, image_size, iou, CONFIDENCE, family, dataset, digest_of(weights))
    for key, value in about.as_text().items():
        model.metadata_props.add(key=key, value=value)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    part.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(part), full_check=True)
    part.replace(out)
    return about


def parity(
    weights: Path,
    exported: Path,
    squares: npt.NDArray[np.uint8],
    batches: Iterable[int] = range(1, MAX_BATCH + 1),
    confidence_tolerance: float = 0.01,
) -> ParityResult:
    """Compare an export, of any format, with the detector that it came from, on letterboxed uint8 `[n, H, W, 3]`.

    Every batch size sees every picture. No box on either side is full agreement.
    """
    detector = open_detector(exported)
    own = own_detections(weights, squares, detector.about.iou)
    total = sum(map(len, own))
    by_batch, worst, extra = {}, 0.0, 0
    for size in batches:
        found: list[npt.NDArray[np.float32]] = []
        for at in range(0, len(squares), size):
            chunk = squares[at : at + size]
            short = size - len(chunk)
            # A last short chunk is filled up, so that this batch size is what is really run.
            whole = np.concatenate([chunk, np.repeat(chunk[-1:], short, axis=0)]) if short else chunk
            found += [rows[rows[:, 4] > 0] for rows in detector.detect(whole)[: len(chunk)]]
        matched, surplus, difference = _agreement(own, found, confidence_tolerance)
        by_batch[size] = matched / total if total else float(not surplus)
        worst, extra = max(worst, difference), max(extra, surplus)
    return ParityResult(min(by_batch.values()), extra / total if total else float(extra), total, by_batch, worst)


def own_detections(weights: Path, squares: npt.NDArray[np.uint8], iou: float) -> list[npt.NDArray[np.float32]]:
    """What Ultralytics itself finds in pictures at confidence 0.01: a `[k, 6]` array each."""
    import torch

    network, head, _ = inference_network(Path(weights))
    answers: list[npt.NDArray[np.float32]] = []
    with torch.inference_mode():
        for square in squares:
            picture = torch.from_numpy(square.transpose(2, 0, 1)[None].astype(np.float32) / 255)
            answers.append(chosen_boxes(network(picture), head, square.shape[:2], iou)[0])
    return answers


def chosen_boxes(raw: Any, head: HeadKind, shape: tuple[int, ...], iou: float) -> list[npt.NDArray[np.float32]]:
    """Ultralytics' choice of a raw answer's boxes above confidence 0.01: `[k, 6]` for each picture of height, width."""
    import torch
    from ultralytics.utils import nms, ops

    if head == "queries":
        pixels = torch.tensor([shape[1], shape[0]] * 2)
        rows = torch.cat([ops.xywh2xyxy(raw[..., :4]) * pixels, raw[..., 4:]], dim=-1)
        return [one[one[:, 4] > CONFIDENCE].numpy() for one in rows]
    chosen = nms.non_max_suppression(raw, CONFIDENCE, iou, max_det=300, end2end=head == "end2end")
    return [one.numpy() for one in chosen]


def inference_network(weights: Path) -> tuple[Any, HeadKind, tuple[str, ...]]:
    """The network fused for inference on the CPU in FP32, the kind of its head, its class names."""
    from its_platform.offline import prepare_ultralytics

    check_weights(weights)
    prepare_ultralytics()
    import torch
    from ultralytics.nn.tasks import load_checkpoint

    try:
        network, _ = load_checkpoint(str(weights), device=torch.device("cpu"), inplace=False, fuse=False)
    except (KeyError, EOFError, RuntimeError, AttributeError, ModuleNotFoundError, TypeError) as error:
        raise BadInput(f"{weights} is not a checkpoint of the Ultralytics family.", "Give a detector's .pt.") from error
    if getattr(network, "task", "detect") != "detect":
        raise BadInput(f"{weights} does a task other than detection: {network.task}.", "Give a detector's .pt.")
    names = network.names
    classes = tuple(names[i] for i in sorted(names)) if isinstance(names, dict) else tuple(names)
    network = network.float().fuse(verbose=False).eval()
    layer = network.model[-1]
    layer.export, layer.format, layer.dynamic = True, "onnx", False
    for part in network.modules():
        if type(part).__name__ == "C2f":
            part.forward = part.forward_split  # the form that exports cleanly
    if type(layer).__name__ == "RTDETRDecoder":
        head: HeadKind = "queries"
    else:
        head = "end2end" if layer.end2end else "anchors"
    return network.requires_grad_(False), head, classes


def _raw_graph(network: Any, image_size: ImageSize) -> Any:
    import onnx
    import torch

    picture = torch.zeros(2, 3, *shape_of(image_size))
    with torch.inference_mode():
        anchors = network(picture).shape
    buffer = io.BytesIO()
    torch.onnx.export(
        network,
        (picture,),
        buffer,  # type: ignore[arg-type]
        input_names=["its_picture"],
        output_names=["its_raw"],
        opset_version=OPSET,
        dynamic_axes={"its_picture": {0: "batch"}, "its_raw": {0: "batch"}},
        dynamo=False,
    )
    raw = onnx.load_from_string(buffer.getvalue())
    for dimension, length in list(zip(raw.graph.output[0].type.tensor_type.shape.dim, anchors, strict=True))[1:]:
        dimension.dim_value = length
    return raw


def _agreement(
    own: Sequence[npt.NDArray[np.float32]], found: Sequence[npt.NDArray[np.float32]], tolerance: float
) -> tuple[int, int, float]:
    """Matched own boxes, boxes that only `found` has, largest difference in confidence among the matched."""
    from its_platform.model.scoring import iou_matrix

    matched, surplus, worst = 0, 0, 0.0
    for mine, theirs in zip(own, found, strict=True):
        difference = np.abs(mine[:, None, 4] - theirs[None, :, 4])
        fits = iou_matrix(mine[:, :4], theirs[:, :4]) >= 0.9
        fits &= (mine[:, None, 5] == theirs[None, :, 5]) & (difference <= tolerance)
        taken = np.zeros(len(theirs), bool)
        for row in range(len(mine)):
            open_to_it = np.flatnonzero(fits[row] & ~taken)
            if len(open_to_it):
                best = open_to_it[np.argmin(difference[row, open_to_it])]
                taken[best] = True
                matched, worst = matched + 1, max(worst, float(difference[row, best]))
        surplus += int((~taken).sum())
    return matched, surplus, worst
