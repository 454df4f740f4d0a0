"""The detector with 8-bit weights and activations, as ONNX with QDQ nodes.

Enters: the FP32 ONNX file of `export`, and pictures that show what its activations reach. Leaves: another ONNX file of
the same input and output. The convolutions are quantised, and what lies between them; the choice of boxes and the
last convolution of each branch of the head stay FP32, because a step of 1/255 in a score, or of half a pixel in a box,
is what parity and AP lose first. Whether the file is good enough is judged in `formats`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from its_platform.errors import BadInput
from its_platform.hardware import has_vnni
from its_platform.model.exported import DetectorFile, read_detector
from its_platform.model.onnx_graph import INPUT

if TYPE_CHECKING:
    from onnx import ModelProto

CALIBRATION_FRAMES = 48
OWN = "its_"  # how the tensors and nodes of `onnx_graph` are called
QUANTISED = ("Conv", "Mul", "Sigmoid", "Add", "Concat", "MaxPool", "Resize", "Split")


def export_int8(onnx: Path, out: Path, pictures: npt.NDArray[np.uint8]) -> DetectorFile:
    """Write the quantised file of `onnx` to `out`; `pictures` are letterboxed uint8 `[n, H, W, 3]`.

    Raises `BadInput` for a graph that cannot be quantised.
    """
    import onnx as onnx_package
    from onnxruntime.capi import onnxruntime_pybind11_state as state
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    about = read_detector(onnx)
    model = onnx_package.load(onnx)
    name_nodes(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        named, part = Path(folder) / "named.onnx", Path(folder) / "int8.onnx"
        shaped = onnx_package.shape_inference.infer_shapes(model)
        add_pre_process_metadata(shaped)  # its graph was simplified when it was exported
        onnx_package.save(shaped, named)
        try:
            _quantise(named, part, pictures, kept_in_fp32(model))
        except (RuntimeError, ValueError, state.Fail, state.InvalidGraph, state.NotImplemented) as error:
            raise BadInput(f"{onnx.name} cannot be quantised: {error}", "Serve it as onnx.") from error
        made = onnx_package.load(part)
        del made.metadata_props[:]
        for key, value in about.as_text().items():
            made.metadata_props.add(key=key, value=value)
        onnx_package.save(made, part)
        part.replace(out)
    return about


def name_nodes(model: ModelProto) -> None:
    """Give each node that has no name one, for quantisation tells nodes apart by name."""
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{OWN}{number}_{node.op_type}"


def kept_in_fp32(model: ModelProto) -> list[str]:
    """The names of the nodes that stay as they are: the platform's own, and all behind which no layer comes any more.

    A layer is a convolution of several channels; the one that makes a number of a box's distribution has a single one.
    """
    channels = {one.name: one.dims[0] for one in model.graph.initializer if one.dims}
    nodes = list(model.graph.node)
    is_layer = [node.op_type == "Conv" and channels.get(node.input[1], 0) > 1 for node in nodes]
    readers: dict[str, list[int]] = {}
    for number, node in enumerate(nodes):
        for name in node.input:
            readers.setdefault(name, []).append(number)
    # Nodes stand in the order in which they run, so those that read a node are decided before it.
    leads_to_layer = [False] * len(nodes)
    for number in reversed(range(len(nodes))):
        after = [reader for name in nodes[number].output for reader in readers.get(name, [])]
        leads_to_layer[number] = any(leads_to_layer[one] or is_layer[one] for one in after)
    return [
        node.name for node, leads in zip(nodes, leads_to_layer, strict=True) if not leads or node.name.startswith(OWN)
    ]


def _quantise(named: Path, part: Path, pictures: npt.NDArray[np.uint8], kept: list[str]) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantize_static(
        named,
        part,
        _Calibration(pictures),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTISED),
        per_channel=True,
        # Without VNNI the products of 8-bit values are added up in 16 bits, which overflow: 7 bits do not.
        reduce_range=not has_vnni(),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=kept,
        calibrate_method=CalibrationMethod.MinMax,
    )


class _Calibration:
    """The pictures one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, pictures: npt.NDArray[np.uint8]) -> None:
        self._left: Iterator[npt.NDArray[np.uint8]] = iter(pictures)

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        picture = next(self._left, None)
        return None if picture is None else {INPUT: picture[None]}
