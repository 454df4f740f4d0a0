"""Each format keeps the contract and says what it is, and what it cannot be made of is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from its_platform.errors import BadInput
from its_platform.model import formats
from its_platform.model.export import export_detector, parity
from its_platform.model.exported import FACTS, open_detector, read_detector
from its_platform.model.formats import measure_costs
from its_platform.model.int8 import export_int8, kept_in_fp32, name_nodes
from its_platform.model.onnx_graph import cast_first
from its_platform.model.openvino_ir import export_openvino
from its_platform.model.tensorrt_plan import check_tensorrt, export_tensorrt, missing_for_tensorrt
from its_platform.telemetry import no_progress
from tests.unit.model.random_detectors import SIZE, SQUARES, random_detector


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("formats")
    weights = random_detector(folder / "random.pt", "yolo11n.yaml")
    export_detector(weights, folder / "model.onnx", SIZE, dataset="v7")
    return weights, folder / "model.onnx"


def test_openvino_finds_the_detectors_own_boxes_at_every_batch_size(
    detector: tuple[Path, Path], tmp_path: Path
) -> None:
    weights, onnx = detector
    about = export_openvino(onnx, tmp_path / "model.xml")
    assert (tmp_path / "model.bin").is_file()
    assert read_detector(tmp_path / "model.xml") == about == read_detector(onnx)
    result = parity(weights, tmp_path / "model.xml", SQUARES, batches=(1, 2, 8))
    assert result.boxes > 50
    assert result.share >= 0.99
    assert result.extra <= 0.01


def test_a_file_without_its_facts_is_refused(detector: tuple[Path, Path], tmp_path: Path) -> None:
    export_openvino(detector[1], tmp_path / "model.xml")
    (tmp_path / FACTS).unlink()
    with pytest.raises(BadInput, match=FACTS):
        open_detector(tmp_path / "model.xml")


def test_an_openvino_file_that_is_none_is_refused(detector: tuple[Path, Path], tmp_path: Path) -> None:
    export_openvino(detector[1], tmp_path / "model.xml")
    (tmp_path / "model.xml").write_text("<net/>")
    with pytest.raises(BadInput, match="OpenVINO can run"):
        open_detector(tmp_path / "model.xml")


def test_int8_keeps_the_contract_and_says_what_it_is(detector: tuple[Path, Path], tmp_path: Path) -> None:
    import onnx

    about = export_int8(detector[1], tmp_path / "model.onnx", SQUARES)
    assert read_detector(tmp_path / "model.onnx") == about
    rows, exact = (open_detector(path).detect(SQUARES[:3]) for path in (tmp_path / "model.onnx", detector[1]))
    assert rows.shape == (3, 300, 6)
    assert (np.diff(rows[:, :, 4], axis=1) <= 0).all()
    assert not np.array_equal(rows, exact)
    kinds = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "NonMaxSuppression"} <= kinds
    assert (tmp_path / "model.onnx").stat().st_size < 0.5 * detector[1].stat().st_size


def test_a_graph_that_openvino_or_quantisation_refuses_is_named_with_the_cause(
    detector: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime.quantization
    import openvino
    from openvino.frontend import OpConversionFailure

    def refuse(*_: object, **__: object) -> None:
        raise OpConversionFailure("no rule for Twist\nat line 7")

    def fail(*_: object, **__: object) -> None:
        raise ValueError("no range for its_scores")

    monkeypatch.setattr(openvino, "convert_model", refuse)
    monkeypatch.setattr(onnxruntime.quantization, "quantize_static", fail)
    with pytest.raises(BadInput, match=r"OpenVINO cannot convert model\.onnx: no rule for Twist Serve it as onnx"):
        export_openvino(detector[1], tmp_path / "model.xml")
    with pytest.raises(BadInput, match=r"model\.onnx cannot be quantised: no range for its_scores"):
        export_int8(detector[1], tmp_path / "model.onnx", SQUARES)
    assert not (tmp_path / "model.onnx").exists()


def test_a_format_that_cannot_be_made_is_told_and_the_others_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(stores: object, base: object, name: str, folder: Path, progress: object) -> Path:
        if name == "onnx-int8":
            raise BadInput("model.onnx cannot be quantised: a reason", "Serve it as onnx.")
        return folder / "model.xml"

    monkeypatch.setattr(formats, "_make", make)
    monkeypatch.setattr(formats, "version_folder", lambda stores, version: tmp_path / "trained")
    monkeypatch.setattr(formats, "candidates", lambda: ("onnx", "onnx-int8", "openvino"))
    files, unmade = formats.make_candidates(SimpleNamespace(), SimpleNamespace(version=1), tmp_path, no_progress)
    assert files == {"onnx": tmp_path / "trained" / "model.onnx", "openvino": tmp_path / "openvino" / "model.xml"}
    assert unmade == {"onnx-int8": "model.onnx cannot be quantised: a reason"}


def test_the_ends_of_the_head_and_the_choice_of_boxes_are_not_rounded(detector: tuple[Path, Path]) -> None:
    import onnx

    model = onnx.load(detector[1])
    name_nodes(model)
    kept = set(kept_in_fp32(model))
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    last = [name for name in convolutions if name in kept]
    # Three scales with a branch for boxes and one for classes, and the one that reads a distribution.
    assert len(last) == 7
    assert len(convolutions) - len(last) > 50
    assert all(node.name in kept for node in model.graph.node if node.op_type in ("NonMaxSuppression", "TopK"))


def test_what_an_image_costs_is_measured_for_each_format(detector: tuple[Path, Path], tmp_path: Path) -> None:
    export_openvino(detector[1], tmp_path / "model.xml")
    costs = measure_costs({"onnx": detector[1], "openvino": tmp_path / "model.xml"}, SQUARES)
    assert set(costs) == {"onnx", "openvino"}
    assert all(cost > 0 for cost in costs.values())


def test_casting_before_turning_changes_no_box(detector: tuple[Path, Path], tmp_path: Path) -> None:
    import onnx

    changed = cast_first(onnx.load(detector[1]))
    assert [node.op_type for node in changed.graph.node][:2] == ["Cast", "Transpose"]
    onnx.checker.check_model(changed, full_check=True)
    onnx.save(changed, tmp_path / "changed.onnx")
    rows = [open_detector(path).detect(SQUARES[:2]) for path in (tmp_path / "changed.onnx", detector[1])]
    assert np.array_equal(*rows)


def test_a_plan_names_everything_that_it_would_need(
    detector: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("its_platform.model.tensorrt_plan.find_spec", lambda name: None)
    assert missing_for_tensorrt() == ["an NVIDIA GPU that PyTorch can use", "the Python package tensorrt"]
    with pytest.raises(BadInput, match="needs an NVIDIA GPU that PyTorch can use and the Python package tensorrt"):
        export_tensorrt(detector[1], tmp_path / "model.plan")
    assert not (tmp_path / "model.plan").exists()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(BadInput, match="needs the Python package tensorrt, which"):
        check_tensorrt()
