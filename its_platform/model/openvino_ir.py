"""The detector as OpenVINO's own representation, `model.xml` and `model.bin`, in FP32.

Enters: the ONNX file of `export`. Leaves: the two files, with the detector's facts beside them, and what runs them in
this process. The same options stand in `triton_models/backends/openvino/model.py`, which runs them in Triton.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from its_platform.errors import BadInput
from its_platform.model.exported import DetectorFile, read_detector, write_facts

if TYPE_CHECKING:
    from openvino import CompiledModel


def export_openvino(onnx: Path, out: Path) -> DetectorFile:
    """Write `out` (`.xml`) and its `.bin` from an ONNX detector.

    Raises `BadInput` for a graph that OpenVINO has no words for.
    """
    import openvino
    from openvino import frontend

    about = read_detector(onnx)
    out.parent.mkdir(parents=True, exist_ok=True)
    refusals = (
        frontend.GeneralFailure,
        frontend.InitializationFailure,
        frontend.NotImplementedFailure,
        frontend.OpConversionFailure,
        frontend.OpValidationFailure,
        RuntimeError,
    )
    try:
        converted = openvino.convert_model(str(onnx))
    except refusals as error:
        first = str(error).strip().splitlines()[0]
        raise BadInput(f"OpenVINO cannot convert {onnx.name}: {first}", "Serve it as onnx.") from error
    # FP16 weights would halve the file and cost parity.
    openvino.save_model(converted, str(out), compress_to_fp16=False)
    write_facts(about, out)
    return about


def compile_ir(path: Path, threads: int) -> CompiledModel:
    """The IR, ready to run on the CPU. Raises `BadInput` for files that OpenVINO cannot read."""
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        # Pinned, the threads of several sessions meet on one core.
        "ENABLE_CPU_PINNING": False,
        # Processors with bfloat16 would use it unasked, and answer other boxes than the ONNX file.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    try:
        return openvino.Core().compile_model(str(path), "CPU", options)
    except RuntimeError as error:
        raise BadInput(f"{path} is not a model that OpenVINO can run.", "Export it again.") from error
