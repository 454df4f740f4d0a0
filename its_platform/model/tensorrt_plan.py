"""The detector as a TensorRT plan, for the GPU that it is built on.

Enters: the ONNX file of `export`. Leaves: `model.plan`, the bare plan that Triton reads (Ultralytics' `.engine` files
begin with a header of its own, which Triton does not read), with the detector's facts beside it; and what runs it in
this process. Both need an NVIDIA GPU and the package `tensorrt`, which is no requirement of the platform.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from its_platform.errors import BadInput
from its_platform.model.exported import MAX_BATCH, DetectorFile, read_detector, write_facts
from its_platform.model.letterbox import shape_of
from its_platform.model.onnx_graph import INPUT, OUTPUT, cast_first

if TYPE_CHECKING:
    from its_platform.model.exported import Pictures, Rows

OPTIMAL_BATCH = 4
WORKSPACE_BYTES = 2 << 30


def missing_for_tensorrt() -> list[str]:
    """What this machine lacks to build or run a plan, in words; empty where it has all of it."""
    import torch

    missing = [] if torch.cuda.is_available() else ["an NVIDIA GPU that PyTorch can use"]
    return missing if find_spec("tensorrt") else [*missing, "the Python package tensorrt"]


def check_tensorrt() -> None:
    """Raise `BadInput` naming everything that a plan would need and this machine has not."""
    if missing := missing_for_tensorrt():
        raise BadInput(
            f"A TensorRT plan needs {' and '.join(missing)}, which this machine has not.",
            "Build it on the machine that will serve it, or choose the format onnx, onnx-int8 or openvino.",
        )


def export_tensorrt(onnx: Path, out: Path) -> DetectorFile:
    """Build the plan of an ONNX detector for this machine's GPU, for batches of 1 to 8, in FP16 where it is faster.

    Raises `BadInput` where there is no GPU or no TensorRT, or for a graph that it cannot build.
    """
    check_tensorrt()
    import onnx as onnx_package
    import tensorrt

    about = read_detector(onnx)
    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    graph = cast_first(onnx_package.load(onnx))
    if not parser.parse(graph.SerializeToString()):
        first = parser.get_error(0).desc()
        raise BadInput(f"TensorRT cannot read {onnx}: {first}", "Serve it as onnx.")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    # Newer releases take the precision from the graph alone.
    if hasattr(tensorrt.BuilderFlag, "FP16"):
        config.set_flag(tensorrt.BuilderFlag.FP16)
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, *((batch, *shape_of(about.image_size), 3) for batch in (1, OPTIMAL_BATCH, MAX_BATCH)))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BadInput(f"TensorRT cannot build a plan of {onnx}.", "Its own lines above say why.")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    part.write_bytes(bytes(plan))
    part.replace(out)
    write_facts(about, out)
    return about


class TensorRtDetector:
    """A plan, run in this process. See `exported.ExportedDetector`."""

    def __init__(self, path: Path, about: DetectorFile) -> None:
        check_tensorrt()
        import tensorrt

        self.about = about
        self._logger = tensorrt.Logger(tensorrt.Logger.WARNING)
        # The context uses both for as long as it lives.
        self._runtime = tensorrt.Runtime(self._logger)
        self._engine: Any = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise BadInput(f"{path} is no plan for this GPU and this TensorRT.", "Build it again here.")
        self._context: Any = self._engine.create_execution_context()

    def detect(self, pictures: Pictures) -> Rows:
        import torch

        given = torch.from_numpy(np.ascontiguousarray(pictures)).cuda()
        shape = (len(pictures), *self._engine.get_tensor_shape(OUTPUT)[1:])
        found = torch.zeros(shape, dtype=torch.float32, device="cuda")
        self._context.set_input_shape(INPUT, tuple(given.shape))
        self._context.set_tensor_address(INPUT, given.data_ptr())
        self._context.set_tensor_address(OUTPUT, found.data_ptr())
        stream = torch.cuda.current_stream()
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise BadInput("The TensorRT plan failed on these pictures.", "Build it again here.")
        stream.synchronize()
        rows: npt.NDArray[np.float32] = found.cpu().numpy()
        return rows
