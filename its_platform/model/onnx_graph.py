"""What is built round a detector's raw ONNX graph: uint8 pictures in front, the choice of boxes behind.

Enters: an ONNX graph from float pictures `[n, 3, H, W]` to Ultralytics' raw head. Leaves: one standard ONNX graph
(opset 17, no custom operators) from uint8 `[n, H, W, 3]` to FP32 `[n, 300, 6]`. No weights are read and no file is
written here.

The choice of boxes is Ultralytics' own, step by step (best class of each anchor, strict comparisons, one NMS over
boxes moved apart by class), so that the export can be compared with the detector box by box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from its_platform.detections import MAX_DETECTIONS

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

OPSET = 17
INPUT, OUTPUT = "images", "detections"
HeadKind = Literal["anchors", "end2end", "queries"]
CLASS_OFFSET_PX = 7680.0  # Ultralytics' `max_wh`; another value rounds the boxes differently.


def end_to_end(raw: ModelProto, shape: tuple[int, int], head: HeadKind, confidence: float, iou: float) -> ModelProto:
    """The whole detector as one graph, for pictures of `shape` (height, width).

    `head` is `"anchors"` (raw output `[n, 4 + classes, anchors]`, centre and size, YOLOv8 and YOLO11), `"end2end"`
    (raw output `[n, k, 6]`, already chosen boxes, YOLO26) or `"queries"` (the same, as centre and size in shares of the
    picture, RT-DETR).
    """
    from onnx import checker, helper

    raw_input, raw_output = raw.graph.input[0].name, raw.graph.output[0].name
    before, before_values = _pixels_to_floats(raw_input)
    dims = [d.dim_value for d in raw.graph.output[0].type.tensor_type.shape.dim]
    if head == "anchors":
        after, after_values = _choose_boxes(raw_output, anchors=dims[2], confidence=confidence, iou=iou)
    elif head == "end2end":
        after, after_values = _keep_confident(raw_output, rows=dims[1], confidence=confidence)
    else:
        corners, corner_values = _corners_in_pixels(raw_output, shape)
        kept, kept_values = _keep_confident("its_corners", rows=dims[1], confidence=confidence)
        after, after_values = corners + kept, corner_values + kept_values
    graph = helper.make_graph(
        [*before, *raw.graph.node, *after],
        "detector",
        [helper.make_tensor_value_info(INPUT, 2, ["batch", *shape, 3])],
        [helper.make_tensor_value_info(OUTPUT, 1, ["batch", MAX_DETECTIONS, 6])],
        [*raw.graph.initializer, *before_values, *after_values],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="its-platform")
    model.ir_version = 8  # the newest that ONNX Runtime releases of 2022 and later all read
    checker.check_model(model)
    return model


def cast_first(model: ModelProto) -> ModelProto:
    """The same detector with the bytes of a picture made floats before they are turned round, as TensorRT wants it.

    In other runtimes the order of `end_to_end` is the faster one.
    """
    changed = type(model)()
    changed.CopyFrom(model)
    turn, cast, *rest = changed.graph.node
    cast.input[0], cast.output[0] = INPUT, "its_hwc_float"
    turn.input[0], turn.output[0] = "its_hwc_float", "its_float"
    del changed.graph.node[:]
    changed.graph.node.extend([cast, turn, *rest])
    return changed


def _pixels_to_floats(name: str) -> tuple[list[NodeProto], list[TensorProto]]:
    from onnx import helper

    nodes = [
        # Turned round while still bytes: a quarter of the memory traffic.
        helper.make_node("Transpose", [INPUT], ["its_chw"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["its_chw"], ["its_float"], to=1),
        helper.make_node("Mul", ["its_float", "its_per_level"], [name]),
    ]
    return nodes, [_constant("its_per_level", np.float32(1 / 255))]


def _choose_boxes(raw: str, anchors: int, confidence: float, iou: float) -> tuple[list[NodeProto], list[TensorProto]]:
    from onnx import helper

    kept = min(MAX_DETECTIONS, anchors)
    values = [
        _constant("its_four", np.array([4], np.int64)),
        _constant("its_zero", np.array([0], np.int64)),
        _constant("its_one", np.array([1], np.int64)),
        _constant("its_two", np.array([2], np.int64)),
        _constant("its_end", np.array([np.iinfo(np.int64).max], np.int64)),
        _constant("its_half", np.float32(0.5)),
        _constant("its_offset", np.float32(CLASS_OFFSET_PX)),
        _constant("its_most", np.array([MAX_DETECTIONS], np.int64)),
        _constant("its_iou", np.array([iou], np.float32)),
        _constant("its_confidence", np.array([confidence], np.float32)),
        _constant("its_kept", np.array([kept], np.int64)),
        _constant("its_image_and_anchor", np.array([0, 2], np.int64)),
        _constant("its_nothing", np.float32(0)),
    ]
    n = helper.make_node
    nodes = [
        n("Slice", [raw, "its_zero", "its_two", "its_one"], ["its_centre"]),
        n("Slice", [raw, "its_two", "its_four", "its_one"], ["its_size"]),
        n("Slice", [raw, "its_four", "its_end", "its_one"], ["its_scores"]),
        n("ReduceMax", ["its_scores"], ["its_best"], axes=[1], keepdims=1),  # [n, 1, a]
        n("ArgMax", ["its_scores"], ["its_class_i"], axis=1, keepdims=1),
        n("Cast", ["its_class_i"], ["its_class"], to=1),  # [n, 1, a]
        n("Mul", ["its_size", "its_half"], ["its_reach"]),
        n("Sub", ["its_centre", "its_reach"], ["its_low"]),
        n("Add", ["its_centre", "its_reach"], ["its_high"]),
        n("Concat", ["its_low", "its_high"], ["its_box"], axis=1),  # [n, 4, a]
        n("Mul", ["its_class", "its_offset"], ["its_shift"]),
        n("Add", ["its_box", "its_shift"], ["its_apart_t"]),
        n("Transpose", ["its_apart_t"], ["its_apart"], perm=[0, 2, 1]),  # [n, a, 4]
        # NMS takes (y1, x1, y2, x2) and is symmetric in x and y, so (x1, y1, x2, y2) serves as well.
        n(
            "NonMaxSuppression",
            ["its_apart", "its_best", "its_most", "its_iou", "its_confidence"],
            ["its_chosen"],
        ),  # [k, 3]: image, class (always 0), anchor
        n("Gather", ["its_chosen", "its_image_and_anchor"], ["its_where"], axis=1),  # [k, 2]
        n("Squeeze", ["its_best", "its_one"], ["its_flat"]),  # [n, a]
        n("GatherND", ["its_flat", "its_where"], ["its_chosen_scores"]),
        n("Mul", ["its_flat", "its_nothing"], ["its_empty"]),
        n("ScatterND", ["its_empty", "its_where", "its_chosen_scores"], ["its_survivors"]),  # 0 where not chosen
        n("TopK", ["its_survivors", "its_kept"], ["its_top", "its_top_i"], axis=1, largest=1, sorted=1),
        n("Concat", ["its_box", "its_best", "its_class"], ["its_rows_t"], axis=1),  # [n, 6, a]
        n("Transpose", ["its_rows_t"], ["its_rows"], perm=[0, 2, 1]),  # [n, a, 6]
        n("Unsqueeze", ["its_top_i", "its_two"], ["its_top_ii"]),  # [n, kept, 1]
        n("GatherND", ["its_rows", "its_top_ii"], ["its_picked"], batch_dims=1),  # [n, kept, 6]
        n("Unsqueeze", ["its_top", "its_two"], ["its_top_3"]),
    ]
    tail, tail_values = _blank_and_pad("its_picked", "its_top_3", kept)
    return nodes + tail, values + tail_values


def _corners_in_pixels(raw: str, shape: tuple[int, int]) -> tuple[list[NodeProto], list[TensorProto]]:
    """Centre and size in shares of the picture become `its_corners`, x1, y1, x2, y2 in pixels, scores as they are."""
    from onnx import helper

    height, width = shape
    # One product does it: a row (cx, cy, w, h, score, class) times this matrix.
    matrix: npt.NDArray[np.float32] = np.eye(6, dtype=np.float32)
    matrix[:4, :4] = np.array(
        [
            [width, 0, width, 0],
            [0, height, 0, height],
            [-width / 2, 0, width / 2, 0],
            [0, -height / 2, 0, height / 2],
        ],
        np.float32,
    )
    return [helper.make_node("MatMul", [raw, "its_to_corners"], ["its_corners"])], [_constant("its_to_corners", matrix)]


def _keep_confident(raw: str, rows: int, confidence: float) -> tuple[list[NodeProto], list[TensorProto]]:
    from onnx import helper

    values = [
        _constant("its_confidence", np.float32(confidence)),
        _constant("its_from", np.array([4], np.int64)),
        _constant("its_to", np.array([5], np.int64)),
        _constant("its_axis", np.array([2], np.int64)),
        _constant("its_nothing", np.float32(0)),
    ]
    nodes = [
        helper.make_node("Slice", [raw, "its_from", "its_to", "its_axis"], ["its_score"]),
        helper.make_node("Greater", ["its_score", "its_confidence"], ["its_sure"]),
        helper.make_node("Where", ["its_sure", "its_score", "its_nothing"], ["its_top_3"]),
    ]
    tail, tail_values = _blank_and_pad(raw, "its_top_3", rows)
    return nodes + tail, values + [v for v in tail_values if v.name != "its_nothing"]


def _blank_and_pad(picked: str, score: str, rows: int) -> tuple[list[NodeProto], list[TensorProto]]:
    """Rows whose score is zero become zeros; fewer than 300 rows are filled up with zeros."""
    from onnx import helper

    missing = MAX_DETECTIONS - rows
    name = "its_blanked" if missing else OUTPUT
    nodes = [
        helper.make_node("Greater", [score, "its_nothing"], ["its_is_box"]),
        helper.make_node("Where", ["its_is_box", picked, "its_nothing"], [name]),
    ]
    if not missing:
        return nodes, []
    nodes.append(helper.make_node("Pad", [name, "its_pads"], [OUTPUT]))
    return nodes, [_constant("its_pads", np.array([0, 0, 0, 0, missing, 0], np.int64))]


def _constant(name: str, value: np.ndarray | np.generic) -> TensorProto:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(value), name)
