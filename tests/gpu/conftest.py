"""What needs an NVIDIA GPU: run where there is one, told elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from its_platform.settings import STARTER_WEIGHTS


@pytest.fixture(scope="session", autouse=True)
def _gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("not run: no GPU")


@pytest.fixture(scope="session")
def starter_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter checkpoint as ONNX at 320 px."""
    from its_platform.model.export import export_detector

    path = tmp_path_factory.mktemp("gpu") / "model.onnx"
    export_detector(STARTER_WEIGHTS, path, 320)
    return path
