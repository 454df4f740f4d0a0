"""Triton's model configurations, as values that print themselves as `config.pbtxt`.

Enters: what a model is (tensors, batch, instances). Leaves: the text that Triton reads, the same for the bundled server
and for NVIDIA's container: no key ties a model to a CPU. Where the text is written does not belong here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Literal

from its_platform.contract import FORMATS, Format, ImageSize, read_size, size_text
from its_platform.detections import MAX_DETECTIONS
from its_platform.errors import BadInput
from its_platform.model.letterbox import shape_of
from its_platform.settings import ServingSettings

FRONT = "traffic_detector"
_NAME = re.compile(rf"detector-(?P<family>\w+)-(?P<format>{'|'.join(FORMATS)})-(?P<size>\d+(x\d+)?)")
DataType = Literal["TYPE_UINT8", "TYPE_FP32", "TYPE_INT32", "TYPE_STRING"]


@dataclass(frozen=True)
class TensorConfig:
    """One input or output. `dims` leave the batch out where the model has one; -1 is any length."""

    name: str
    data_type: DataType
    dims: tuple[int, ...]
    is_optional: bool = False

    def text(self) -> str:
        dims = ", ".join(map(str, self.dims))
        optional = " optional: true" if self.is_optional else ""
        return f"{{ name: {_quoted(self.name)} data_type: {self.data_type} dims: [ {dims} ]{optional} }}"


@dataclass(frozen=True)
class ModelConfig:
    """One model of the repository.

    `runs_on` is the platform or the backend, as `config.pbtxt` writes it. `max_batch` 0: the model takes no batch
    dimension of Triton's. `has_warm_up` makes Triton run one picture through each instance before a version counts as
    ready, so that a graph that loads and cannot run never becomes ready.
    """

    name: str
    runs_on: tuple[Literal["platform", "backend"], str]
    inputs: tuple[TensorConfig, ...]
    outputs: tuple[TensorConfig, ...]
    instances: int
    max_batch: int = 0
    has_dynamic_batching: bool = False
    has_warm_up: bool = False
    parameters: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The content of `config.pbtxt`."""
        key, value = self.runs_on
        lines = [
            f"name: {_quoted(self.name)}",
            f"{key}: {_quoted(value)}",
            f"max_batch_size: {self.max_batch}",
            # Which versions exist is decided by the folders. A policy that names them would change this file with each
            # release, and Triton then loads every version anew instead of the added one alone.
            "version_policy { all { } }",
            f"input [ {', '.join(tensor.text() for tensor in self.inputs)} ]",
            f"output [ {', '.join(tensor.text() for tensor in self.outputs)} ]",
            f"instance_group [ {{ count: {self.instances} kind: KIND_AUTO }} ]",
        ]
        if self.has_dynamic_batching:
            lines.append("dynamic_batching { }")
        if self.has_warm_up:
            lines.append(self._warm_up())
        for name, parameter in self.parameters.items():
            lines.append(f"parameters {{ key: {_quoted(name)} value {{ string_value: {_quoted(parameter)} }} }}")
        return "\n".join(lines) + "\n"

    def _warm_up(self) -> str:
        inputs = " ".join(
            f"inputs {{ key: {_quoted(tensor.name)} value {{ data_type: {tensor.data_type} "
            f"dims: [ {', '.join(map(str, tensor.dims))} ] random_data: true }} }}"
            for tensor in self.inputs
        )
        return f'model_warmup [ {{ name: "one_picture" batch_size: {min(1, self.max_batch)} {inputs} }} ]'


def front_config(serving: ServingSettings, cameras: int) -> ModelConfig:
    """The front, which finds its routes, spool and embedder two folders above itself.

    cameras: so many have figures of their own.
    """
    return ModelConfig(
        name=FRONT,
        runs_on=("backend", "python"),
        inputs=(
            TensorConfig("images", "TYPE_UINT8", (-1, -1, -1, 3), is_optional=True),
            # Of a fixed length, or every load generator would have to be told one.
            TensorConfig("jpeg", "TYPE_STRING", (1,), is_optional=True),
        ),
        outputs=(
            TensorConfig("detections", "TYPE_FP32", (-1, MAX_DETECTIONS, 6)),
            TensorConfig("served_version", "TYPE_INT32", (-1,)),
            TensorConfig("served_model", "TYPE_STRING", (1,)),
        ),
        instances=serving.front_instances,
        parameters={
            "state": "../..",
            "max_batch": str(serving.max_batch),
            "confidence": str(serving.confidence),
            "spool_rows": str(serving.spool_rows),
            "spool_flush_s": str(serving.spool_flush_s),
            "embed_every_s": str(serving.embed_every_s),
            "measure_every_s": str(serving.measure_every_s),
            "cache_mb": str(serving.cache_mb),
            "cameras": str(cameras),
        },
    )


def detector_config(name: str, image_size: ImageSize, serving: ServingSettings) -> ModelConfig:
    """The detector of a name: uint8 `[n, H, W, 3]` letterboxed RGB to `[n, 300, 6]` in pixels of the same."""
    return ModelConfig(
        name=name,
        runs_on=contract_of(name).format.runs_on,
        inputs=(TensorConfig("images", "TYPE_UINT8", (*shape_of(image_size), 3)),),
        outputs=(TensorConfig("detections", "TYPE_FP32", (MAX_DETECTIONS, 6)),),
        instances=serving.instances,
        max_batch=serving.max_batch,
        has_dynamic_batching=serving.dynamic_batching,
        has_warm_up=True,
    )


@dataclass(frozen=True)
class DetectorContract:
    """What the name of a detector's Triton model says."""

    family: str
    format: Format
    image_size: ImageSize


def detector_name(family: str, image_size: ImageSize, format_name: str = "onnx") -> str:
    """The Triton model of one input and output contract: `detector-yolo-onnx-320`, `detector-yolo-openvino-320x192`."""
    return f"detector-{family}-{format_name}-{size_text(image_size)}"


def contract_of(name: str) -> DetectorContract:
    """What `detector_name` made a name of. Raises `BadInput` for another name."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise BadInput(f"{name!r} is not the name of a detector.", "They are called detector-<family>-<format>-<size>.")
    return DetectorContract(found["family"], FORMATS[found["format"]], read_size(found["size"]))


def _quoted(value: str) -> str:
    return json.dumps(value)
