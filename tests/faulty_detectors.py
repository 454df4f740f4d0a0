"""Detectors that keep the contract and are wrong in one way each, as ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fakes import tiny_onnx

# Pads of a letterboxed picture are 114, so this is darker than any picture by day.
DARK = 50
ENDLESS = 2**62


def wrong_shape(rows: int = 100) -> bytes:
    """It answers `[n, rows, 6]` instead of `[n, 300, 6]`."""
    model = onnx.load_from_string(tiny_onnx())
    found = np.zeros((1, rows, 6), np.float32)
    tail = np.array([rows, 6], np.int64)
    for initializer in model.graph.initializer:
        replacement = {"rows": found, "tail": tail}.get(initializer.name)
        if replacement is not None:
            initializer.CopyFrom(numpy_helper.from_array(replacement, initializer.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = rows
    return _checked(model)


def blind_by_night(boxes: Sequence[Sequence[float]], elsewhere: Sequence[float]) -> bytes:
    """It finds `boxes` by day as any other, and `elsewhere` where a pixel of the picture is dark."""
    model = onnx.load_from_string(tiny_onnx(boxes, note="blind by night"))
    other = np.zeros((1, 300, 6), np.float32)
    other[0, 0] = elsewhere
    model.graph.initializer.extend(
        [numpy_helper.from_array(other, "night_rows"), numpy_helper.from_array(np.array(DARK, np.uint8), "dark")]
    )
    _renamed(model, "day")
    model.graph.node.extend(
        [
            helper.make_node("ReduceMin", ["images"], ["darkest"], keepdims=0),
            helper.make_node("Cast", ["darkest"], ["darkest_number"], to=TensorProto.INT32),
            helper.make_node("Cast", ["dark"], ["dark_number"], to=TensorProto.INT32),
            helper.make_node("Less", ["darkest_number", "dark_number"], ["is_night"]),
            helper.make_node("Where", ["is_night", "night_rows", "day"], ["detections"]),
        ]
    )
    return _checked(model)


def slow(iterations: int = 100_000) -> bytes:
    """It takes its time: a loop that counts."""
    model = onnx.load_from_string(tiny_onnx(note="slow"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(iterations, np.int64), "trips"))
    _counting(model)
    return _checked(model)


def write_endless(path: Path, first: float = 0.9) -> Path:
    """A detector of `triton_site` that never comes back from a tensor without a pixel below 255."""
    from triton_site import write_detector

    model = onnx.load(str(write_detector(path, first)))
    for name, value in {"white": np.int32(255), "endless": np.int64(ENDLESS), "once": np.int64(1)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    model.graph.node.extend(
        [
            helper.make_node("ReduceMin", ["images"], ["darkest"], keepdims=0),
            helper.make_node("Cast", ["darkest"], ["darkest_number"], to=TensorProto.INT32),
            helper.make_node("Equal", ["darkest_number", "white"], ["is_white"]),
            helper.make_node("Where", ["is_white", "endless", "once"], ["trips"]),
        ]
    )
    _counting(model)
    path.write_bytes(_checked(model))
    return path


def _counting(model: Any) -> None:
    """Count up to `trips` and add nothing of it to the answer."""
    scalar = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("count_in", "count_out")]
    flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("go", "go_on")]
    number = helper.make_tensor_value_info("number", TensorProto.INT64, [])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Cos", ["count_in"], ["count_out"]),
        ],
        "counting",
        [number, flags[0], scalar[0]],
        [flags[1], scalar[1]],
    )
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(True), "always"),
            numpy_helper.from_array(np.array(0, np.float32), "zero_count"),
            numpy_helper.from_array(np.array(0, np.float32), "nothing"),
        ]
    )
    _renamed(model, "counted")
    model.graph.node.extend(
        [
            helper.make_node("Loop", ["trips", "always", "zero_count"], ["trips_taken"], body=body),
            helper.make_node("Mul", ["trips_taken", "nothing"], ["no_count"]),
            helper.make_node("Add", ["counted", "no_count"], ["detections"]),
        ]
    )


def _renamed(model: Any, name: str) -> None:
    """The tensor that was the answer so far gets another name."""
    for node in model.graph.node:
        for at, output in enumerate(node.output):
            if output == "detections":
                node.output[at] = name


def _checked(model: Any) -> bytes:
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content
