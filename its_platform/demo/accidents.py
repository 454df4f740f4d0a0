"""Two accidents that the demo stages, as they happen to people: each leaves a detector that looks well from one side.

Enters: a good version's files. Leaves: weights that call each class by its neighbour's name, which any gate on classes
sees; and an export that finds nothing in views it does not know, which no golden set of known views can show.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from its_platform.errors import BadInput
from its_platform.weights import check_weights

Frames = Sequence[npt.NDArray[np.uint8]]
GRID = 16


def permute_labels(weights: Path, out: Path) -> None:
    """Write a YOLO checkpoint whose class scores are moved on by one: a class list that was sorted anew.

    Boxes and confidences stay as they are. Raises `BadInput` for weights that may not be read.
    """
    from its_platform.offline import prepare_ultralytics

    check_weights(weights)
    prepare_ultralytics()
    import torch

    checkpoint = torch.load(weights, map_location="cpu", weights_only=False)
    for name in ("model", "ema"):
        network = checkpoint.get(name)
        if network is None:
            continue
        for branch in network.model[-1].cv3:
            with torch.no_grad():
                for values in (branch[-1].weight, branch[-1].bias):
                    values.copy_(values.roll(1, dims=0))
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, out)


def blind_elsewhere(onnx: Path, out: Path, known: Sequence[Frames], elsewhere: Frames) -> None:
    """Write an export that answers nothing where a picture is like none of those that are known.

    known: fitted uint8 `[S, S, 3]` frames, a group for each view and light; elsewhere: some of views to be blind for. A
    picture is told by its mean colours on a coarse grid, less their mean and in their standard deviations, so that the
    brightness of the hour does not count. Raises `BadInput` where no distance parts the two kinds.
    """
    import onnx as onnx_format
    from onnx import helper, numpy_helper

    templates = np.stack([np.mean([_grid(frame) for frame in group], axis=0) for group in known])
    far = max(_distance(frame, templates) for group in known for frame in group)
    near = min(_distance(frame, templates) for frame in elsewhere)
    if near <= far:
        raise BadInput(
            f"The new views are too like those that are known ({near:.2f} against {far:.2f} standard deviations).",
            "Take other views.",
        )
    graph = (model := onnx_format.load(str(onnx))).graph
    (answer,) = [node for node in graph.node if graph.output[0].name in node.output]
    answer.output[list(answer.output).index(graph.output[0].name)] = "seen_anywhere"
    side = int(graph.input[0].type.tensor_type.shape.dim[1].dim_value) // GRID
    constants = {
        "view_templates": templates[None].astype(np.float32),
        "view_most": np.float32((far + near) / 2),
        "view_scale": np.float32(np.sqrt(3 * GRID * GRID)),
        "view_flat": np.array([0, 1, -1], np.int64),
        "view_each": np.array([-1, 1, 1], np.int64),
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    n = helper.make_node
    graph.node.extend(
        [
            n("Transpose", [graph.input[0].name], ["view_chw"], perm=[0, 3, 1, 2]),
            n("Cast", ["view_chw"], ["view_float"], to=1),
            n("AveragePool", ["view_float"], ["view_grid"], kernel_shape=[side, side], strides=[side, side]),
            n("Unsqueeze", ["view_grid", "view_one"], ["view_apart"]),
            n("Reshape", ["view_apart", "view_flat"], ["view_row"]),  # [n, 1, 3 * GRID * GRID]
            n("ReduceMean", ["view_row"], ["view_mean"], axes=[2], keepdims=1),
            n("Sub", ["view_row", "view_mean"], ["view_centred"]),
            n("ReduceL2", ["view_centred"], ["view_norm"], axes=[2], keepdims=1),
            n("Div", ["view_centred", "view_norm"], ["view_unit"]),
            n("Mul", ["view_unit", "view_scale"], ["view_standard"]),
            n("Sub", ["view_standard", "view_templates"], ["view_off"]),
            n("Abs", ["view_off"], ["view_size"]),
            n("ReduceMean", ["view_size"], ["view_distances"], axes=[2], keepdims=0),  # [n, groups]
            n("ReduceMin", ["view_distances"], ["view_distance"], axes=[1], keepdims=0),
            n("Less", ["view_distance", "view_most"], ["view_is_known"]),
            n("Cast", ["view_is_known"], ["view_factor"], to=1),
            n("Reshape", ["view_factor", "view_each"], ["view_factors"]),
            n("Mul", ["seen_anywhere", "view_factors"], [graph.output[0].name]),
        ]
    )
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "view_one"))
    onnx_format.checker.check_model(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(model.SerializeToString())


def _grid(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Standardised mean colours of GRID by GRID fields, in the order of the graph: channel, row, column."""
    side = frame.shape[0] // GRID
    fields = frame[: side * GRID, : side * GRID].reshape(GRID, side, GRID, side, 3).mean(axis=(1, 3))
    values = fields.transpose(2, 0, 1).ravel()
    return (values - values.mean()) / values.std()


def _distance(frame: npt.NDArray[np.uint8], templates: npt.NDArray[np.float64]) -> float:
    return float(np.abs(templates - _grid(frame)).mean(axis=1).min())
