"""Triton backend `onnxruntime` for a tritonserver that comes without the compiled one.

It reads the same repository as NVIDIA's container: `config.pbtxt` with `platform: "onnxruntime_onnx"` and
`<version>/model.onnx`. What enters and leaves is what the configuration names; requests of one call are concatenated
along the batch. Nothing about traffic, detectors or stages belongs here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance: one ONNX Runtime session of one thread (instances, not threads, use the cores)."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        return config

    def initialize(self, args: dict[str, str]) -> None:
        import onnxruntime

        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), _options(onnxruntime), providers=_providers(args, onnxruntime)
            )
        except Exception as error:
            raise pb_utils.TritonModelException(f"{path} cannot be loaded: {error}") from error
        missing = [name for name in self.inputs if name not in {i.name for i in self.session.get_inputs()}]
        missing += [name for name in self.outputs if name not in {o.name for o in self.session.get_outputs()}]
        if missing:
            raise pb_utils.TritonModelException(f"{path} has no tensor {', '.join(missing)}")

    def execute(self, requests: list[Any]) -> list[Any]:
        columns = {
            name: [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            for name in self.inputs
        }
        feed = {name: parts[0] if len(parts) == 1 else np.concatenate(parts) for name, parts in columns.items()}
        try:
            results = self.session.run(self.outputs, feed)
        except Exception as error:  # noqa: BLE001  an instance must answer each request, whatever the graph does
            failed = pb_utils.TritonError(f"the graph failed: {error}", pb_utils.TritonError.INTERNAL)
            return [pb_utils.InferenceResponse(error=failed) for _ in requests]
        responses, start = [], 0
        for part in columns[self.inputs[0]]:
            stop = start + len(part)
            tensors = [
                pb_utils.Tensor(name, np.ascontiguousarray(result[start:stop]))
                for name, result in zip(self.outputs, results, strict=True)
            ]
            responses.append(pb_utils.InferenceResponse(tensors))
            start = stop
        return responses


def _options(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("ITS_ONNX_THREADS", "1"))
    options.inter_op_num_threads = 1
    # A spinning thread takes a core from the other instances.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _providers(args: dict[str, str], onnxruntime: Any) -> list[Any]:
    available = onnxruntime.get_available_providers()
    if args.get("model_instance_kind") == "GPU" and "CUDAExecutionProvider" in available:
        device = {"device_id": args.get("model_instance_device_id", "0")}
        return [("CUDAExecutionProvider", device), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]
