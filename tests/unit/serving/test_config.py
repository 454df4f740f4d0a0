"""Every configuration is read by Triton's own protobuf as what was meant."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from its_platform.contract import FORMATS, ImageSize
from its_platform.errors import BadInput
from its_platform.serving.config import FRONT, ModelConfig, contract_of, detector_config, detector_name, front_config
from its_platform.settings import ServingSettings


def parsed(config: ModelConfig) -> Any:
    return text_format.Parse(config.text(), model_config_pb2.ModelConfig())


def serving(**values: Any) -> ServingSettings:
    return ServingSettings(**values)


def test_a_detector_is_an_onnx_model_of_uint8_pictures_with_a_batch() -> None:
    read = parsed(detector_config(detector_name("yolo", 320), 320, serving(instances=3, max_batch=4)))
    assert read.name == "detector-yolo-onnx-320"
    assert read.platform == "onnxruntime_onnx"
    assert read.max_batch_size == 4
    (images,), (detections,) = read.input, read.output
    assert (images.name, images.data_type, list(images.dims)) == (
        "images",
        model_config_pb2.TYPE_UINT8,
        [320, 320, 3],
    )
    assert (detections.name, detections.data_type, list(detections.dims)) == (
        "detections",
        model_config_pb2.TYPE_FP32,
        [300, 6],
    )
    assert read.instance_group[0].count == 3
    assert read.version_policy.WhichOneof("policy_choice") == "all"


@pytest.mark.parametrize(
    ("family", "format_name", "size", "name"),
    [
        ("yolo", "onnx", 320, "detector-yolo-onnx-320"),
        ("yolo", "onnx-int8", 640, "detector-yolo-onnx-int8-640"),
        ("rtdetr", "openvino", (192, 320), "detector-rtdetr-openvino-320x192"),
        ("yolo", "tensorrt", 320, "detector-yolo-tensorrt-320"),
    ],
)
def test_a_detectors_name_says_its_contract(family: str, format_name: str, size: ImageSize, name: str) -> None:
    assert detector_name(family, size, format_name) == name
    read = contract_of(name)
    assert (read.family, read.format.name, read.image_size) == (family, format_name, size)


@pytest.mark.parametrize(
    "name", ["traffic_detector", "detector-yolo-onnx", "detector-yolo-caffe-320", "detector-onnx-320"]
)
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="not the name of a detector"):
        contract_of(name)


@pytest.mark.parametrize(
    ("format_name", "platform", "backend"),
    [
        ("onnx", "onnxruntime_onnx", ""),
        ("onnx-int8", "onnxruntime_onnx", ""),
        ("openvino", "", "openvino"),
        ("tensorrt", "tensorrt_plan", ""),
    ],
)
def test_each_format_is_run_by_its_own_backend_on_the_same_tensors(
    format_name: str, platform: str, backend: str
) -> None:
    read = parsed(detector_config(detector_name("yolo", (192, 320), format_name), (192, 320), serving()))
    assert (read.platform, read.backend) == (platform, backend)
    assert list(read.input[0].dims) == [192, 320, 3]
    assert list(read.output[0].dims) == [300, 6]
    assert list(FORMATS) == ["onnx", "onnx-int8", "openvino", "tensorrt"]


def test_a_detector_runs_a_picture_before_a_version_counts_as_ready() -> None:
    (warm_up,) = parsed(detector_config("detector-yolo-onnx-320", 320, serving())).model_warmup
    assert warm_up.batch_size == 1
    assert list(warm_up.inputs["images"].dims) == [320, 320, 3]
    assert warm_up.inputs["images"].random_data


@pytest.mark.parametrize("is_on", [True, False])
def test_requests_are_batched_by_triton_only_where_it_was_asked_for(is_on: bool) -> None:
    read = parsed(detector_config("detector-yolo-onnx-320", 320, serving(dynamic_batching=is_on)))
    assert read.HasField("dynamic_batching") is is_on


def test_the_front_takes_pictures_of_any_size_and_has_two_instances_or_more() -> None:
    read = parsed(front_config(serving(), 1000))
    assert (read.name, read.backend, read.max_batch_size) == (FRONT, "python", 0)
    assert list(read.input[0].dims) == [-1, -1, -1, 3]
    assert {output.name: list(output.dims) for output in read.output} == {
        "detections": [-1, 300, 6],
        "served_version": [-1],
        "served_model": [1],
    }
    assert read.instance_group[0].count >= 2


def test_the_front_is_told_its_settings_and_no_path_of_this_machine() -> None:
    read = parsed(front_config(serving(spool_rows=77, confidence=0.4), 1000))
    values = {name: parameter.string_value for name, parameter in read.parameters.items()}
    assert values["spool_rows"] == "77"
    assert values["confidence"] == "0.4"
    assert not any(value.startswith("/") for value in values.values())


@pytest.mark.parametrize(
    "config", [front_config(serving(), 1000), detector_config("detector-yolo-onnx-320", 320, serving())]
)
def test_no_model_is_tied_to_a_cpu(config: ModelConfig) -> None:
    assert "KIND_CPU" not in config.text()
    assert all(group.kind == model_config_pb2.ModelInstanceGroup.KIND_AUTO for group in parsed(config).instance_group)


# What every Triton understands alike; `optimization`, parameters of a backend and host policies are a machine's own.
PORTABLE = {
    "name",
    "platform",
    "backend",
    "max_batch_size",
    "version_policy",
    "input",
    "output",
    "instance_group",
    "dynamic_batching",
    "model_warmup",
}


def test_no_detectors_configuration_has_a_key_that_belongs_to_one_kind_of_machine() -> None:
    read = parsed(
        detector_config("detector-yolo-onnx-320", 320, serving(instances=4, threads=4, dynamic_batching=True))
    )
    assert {field.name for field, _ in read.ListFields()} <= PORTABLE
    (group,) = read.instance_group
    assert {field.name for field, _ in group.ListFields()} <= {"count", "kind"}


def test_threads_are_the_servers_business_and_no_models() -> None:
    one, four = (detector_config("detector-yolo-onnx-320", 320, serving(threads=count)).text() for count in (1, 4))
    assert one == four
