"""Triton backend `openvino` for a tritonserver that comes without the compiled one.

It reads the same repository as NVIDIA's container: `config.pbtxt` with `backend: "openvino"` and
`<version>/model.xml` beside `model.bin`. What enters and leaves is what the configuration names; requests of one call
are concatenated along the batch. Nothing about traffic, detectors or stages belongs here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One instance: one request of a model that was compiled for one thread (instances, not threads, use the cores)."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        return config

    def initialize(self, args: dict[str, str]) -> None:
        import openvino

        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / "model.xml"
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        try:
            compiled = openvino.Core().compile_model(str(path), "CPU", _options())
        except Exception as error:
            raise pb_utils.TritonModelException(f"{path} cannot be loaded: {error}") from error
        there = {name for port in [*compiled.inputs, *compiled.outputs] for name in port.get_names()}
        if missing := [name for name in [*self.inputs, *self.outputs] if name not in there]:
            raise pb_utils.TritonModelException(f"{path} has no tensor {', '.join(missing)}")
        self.request = compiled.create_infer_request()

    def execute(self, requests: list[Any]) -> list[Any]:
        columns = {
            name: [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests]
            for name in self.inputs
        }
        feed = {name: parts[0] if len(parts) == 1 else np.concatenate(parts) for name, parts in columns.items()}
        try:
            found = self.request.infer(feed, share_inputs=True)
            results = [found[name] for name in self.outputs]
        except Exception as error:  # noqa: BLE001  an instance must answer each request, whatever the graph does
            failed = pb_utils.TritonError(f"the graph failed: {error}", pb_utils.TritonError.INTERNAL)
            return [pb_utils.InferenceResponse(error=failed) for _ in requests]
        responses, start = [], 0
        for part in columns[self.inputs[0]]:
            stop = start + len(part)
            # The results lie in memory of the request's own, which its next call writes over.
            tensors = [
                pb_utils.Tensor(name, np.array(result[start:stop]))
                for name, result in zip(self.outputs, results, strict=True)
            ]
            responses.append(pb_utils.InferenceResponse(tensors))
            start = stop
        return responses


def _options() -> dict[str, Any]:
    return {
        "INFERENCE_NUM_THREADS": int(os.environ.get("ITS_OPENVINO_THREADS", "1")),
        "NUM_STREAMS": 1,
        # Pinned, the threads of all instances meet on one core.
        "ENABLE_CPU_PINNING": False,
        # Processors with bfloat16 would use it unasked, and answer other boxes than were judged.
        "INFERENCE_PRECISION_HINT": "f32",
    }
