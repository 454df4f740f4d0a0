"""An exported detector: what its file says of itself, and what it answers, whatever its format.

Enters: an ONNX file, an OpenVINO IR or a TensorRT plan. Leaves: an `ExportedDetector`, which takes letterboxed RGB
uint8 `[n, H, W, 3]` and gives rows FP32 `[n, 300, 6]`. How the files are made is in `export`, `int8`,
`openvino_ir` and `tensorrt_plan`; Triton runs them by backends of its own.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from its_platform.contract import ImageSize, read_size
from its_platform.errors import BadInput
from its_platform.model.onnx_graph import INPUT, OUTPUT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from onnxruntime import InferenceSession

MAX_BATCH = 8
FACTS = "detector.json"
"""What a file that has no room for facts says of itself lies beside it under this name."""

Pictures = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DetectorFile:
    """What an exported detector says about itself. `digest` is the sha256 of the weights that it came from."""

    classes: tuple[str, ...]
    image_size: ImageSize
    iou: float
    confidence: float
    family: str
    dataset: str
    digest: str

    def as_text(self) -> dict[str, str]:
        """Each fact as JSON, as an ONNX file's metadata holds it."""
        return {name: json.dumps(value) for name, value in asdict(self).items()}

    @classmethod
    def from_text(cls, written: Mapping[str, str], path: Path) -> DetectorFile:
        """Raises `BadInput` where the file at `path` says nothing of the kind."""
        try:
            facts = {name: json.loads(written[name]) for name in cls.__dataclass_fields__}
            size = read_size(facts["image_size"])
        except (KeyError, ValueError, TypeError) as error:
            raise BadInput(
                f"{path} was not exported by this platform.", "Export it with `its model export`."
            ) from error
        return cls(**{**facts, "image_size": size, "classes": tuple(facts["classes"])})


class ExportedDetector(Protocol):
    """A detector's file, opened."""

    @property
    def about(self) -> DetectorFile: ...

    def detect(self, pictures: Pictures) -> Rows:
        """Rows `[n, 300, 6]` for letterboxed RGB pictures uint8 `[n, H, W, 3]`."""
        ...


def open_detector(path: Path, threads: int = 2) -> ExportedDetector:
    """Open a `.onnx`, an `.xml` of OpenVINO, or a `.plan` of TensorRT.

    Raises `BadInput` for a file that is none of ours, or that this machine has nothing to run with.
    """
    if path.suffix == ".xml":
        return _OpenVino(path, threads)
    if path.suffix == ".plan":
        from its_platform.model.tensorrt_plan import TensorRtDetector

        return TensorRtDetector(path, read_facts(path))
    return _Onnx(path, threads)


def read_detector(path: Path) -> DetectorFile:
    """The facts in an exported file. Raises `BadInput` where it is not one of ours."""
    if path.suffix == ".onnx":
        return _Onnx(path, threads=1).about
    return read_facts(path)


def open_session(path: Path, threads: int = 2) -> InferenceSession:
    """An ONNX Runtime session on the CPU. Raises `BadInput` for a file that is no ONNX graph."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (state.InvalidProtobuf, state.InvalidGraph, state.Fail, state.NoSuchFile) as error:
        raise BadInput(f"{path} is not an ONNX file that can be run.", "Export it again.") from error


def write_facts(about: DetectorFile, path: Path) -> None:
    """Put what a detector says of itself beside its file."""
    path.with_name(FACTS).write_text(json.dumps(about.as_text(), indent=1, sort_keys=True) + "\n", "utf-8")


def read_facts(path: Path) -> DetectorFile:
    try:
        written = json.loads(path.with_name(FACTS).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} lies without its {FACTS}.", "Export it again.") from error
    return DetectorFile.from_text(written, path)


class _Onnx:
    def __init__(self, path: Path, threads: int) -> None:
        self._session = open_session(path, threads)
        self.about = DetectorFile.from_text(self._session.get_modelmeta().custom_metadata_map, path)

    def detect(self, pictures: Pictures) -> Rows:
        return self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(pictures)})[0]


class _OpenVino:
    def __init__(self, path: Path, threads: int) -> None:
        from its_platform.model.openvino_ir import compile_ir

        self.about = read_facts(path)
        self._request: Any = compile_ir(path, threads).create_infer_request()

    def detect(self, pictures: Pictures) -> Rows:
        # The tensor that comes back is the request's own, and changes with its next answer.
        return np.array(self._request.infer({INPUT: np.ascontiguousarray(pictures)})[OUTPUT])
