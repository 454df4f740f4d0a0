"""What needs an NVIDIA GPU: run where there is one, told as "not run" elsewhere. What a GPU is worth is measured in
`benchmarks/gpu.py`; here only right and wrong is told.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from its_platform.model.letterbox import letterbox
from its_platform.settings import STARTER_WEIGHTS
from its_platform.simulation import render

SIZE = 320


@pytest.fixture(scope="session", autouse=True)
def _gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("not run: no NVIDIA GPU that PyTorch can use")


@pytest.fixture(scope="session")
def starter_onnx(_gpu: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter checkpoint as ONNX."""
    from its_platform.model.export import export_detector

    path = tmp_path_factory.mktemp("gpu") / "model.onnx"
    export_detector(STARTER_WEIGHTS, path, SIZE)
    return path


@pytest.fixture(scope="session")
def starter_plan(starter_onnx: Path) -> Path:
    """The same as a TensorRT plan for this machine's GPU."""
    from its_platform.model.tensorrt_plan import export_tensorrt, missing_for_tensorrt

    if missing := missing_for_tensorrt():
        pytest.skip(f"not run: {' and '.join(missing)} is missing")
    plan = starter_onnx.with_name("model.plan")
    export_tensorrt(starter_onnx, plan)
    return plan


@pytest.fixture(scope="session")
def pictures() -> npt.NDArray[np.uint8]:
    """Eight streets of the simulated world as a detector takes them."""
    return np.stack([letterbox(render("junction", 1, float(second)).image, SIZE)[0] for second in range(0, 40, 5)])


@pytest.fixture(scope="session")
def own_boxes(_gpu: None, pictures: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
    """What the weights find in each picture, in PyTorch on the CPU."""
    from its_platform.model.export import own_detections

    return own_detections(STARTER_WEIGHTS, pictures, 0.7)


@pytest.fixture(scope="session")
def on_gpu(_gpu: None) -> Callable[[npt.NDArray[np.uint8]], list[npt.NDArray[np.float32]]]:
    """The weights in PyTorch on the GPU, in FP32: pictures `[n, H, W, 3]` to their boxes `[k, 6]` each."""
    import torch

    from its_platform.model.export import chosen_boxes, inference_network

    network, head, _ = inference_network(STARTER_WEIGHTS)
    network = network.cuda()

    def detect(batch: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        with torch.inference_mode():
            given = torch.from_numpy(batch.transpose(0, 3, 1, 2).copy()).cuda().float() / 255
            return chosen_boxes(network(given).cpu(), head, batch.shape[1:3], 0.7)

    return detect
