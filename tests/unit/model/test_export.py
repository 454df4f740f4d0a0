"""The exported file finds what the detector finds, at every batch size, and says what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from its_platform.errors import BadInput
from its_platform.model.embedder import embedder_digest, export_embedder
from its_platform.model.export import export_detector, own_detections, parity
from its_platform.model.exported import open_detector, open_session, read_detector
from its_platform.model.letterbox import letterbox
from its_platform.offline import prepare_ultralytics
from its_platform.settings import STARTER_WEIGHTS, load_settings
from its_platform.simulation import render
from tests.unit.model.random_detectors import SIZE, SQUARES, random_detector


@pytest.fixture(scope="module", params=["yolo11n.yaml", "yolov8n.yaml", "yolo26n.yaml"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("export")
    weights = random_detector(folder / "random.pt", request.param)
    export_detector(weights, folder / "random.onnx", SIZE, iou=0.6, dataset="v7")
    return weights, folder / "random.onnx"


def test_it_finds_the_detectors_own_boxes_at_every_batch_size(exported: tuple[Path, Path]) -> None:
    result = parity(*exported, SQUARES)
    assert result.boxes > 50
    assert set(result.by_batch) == set(range(1, 9))
    assert result.share >= 0.99
    assert result.extra <= 0.01


def test_rows_are_sorted_and_padded_with_zeros(exported: tuple[Path, Path]) -> None:
    rows = open_detector(exported[1]).detect(SQUARES[:3])
    assert rows.shape == (3, 300, 6)
    assert rows.dtype == np.float32
    assert (np.diff(rows[:, :, 4], axis=1) <= 0).all()
    is_padding = rows[:, :, 4] == 0
    assert is_padding.any()
    assert (rows[is_padding] == 0).all()
    assert (rows[~is_padding][:, 4] > 0.01).all()


def test_the_same_squares_give_the_same_rows(exported: tuple[Path, Path]) -> None:
    first, second = (open_detector(exported[1]).detect(SQUARES) for _ in range(2))
    assert np.array_equal(first, second)


def test_it_says_what_it_is(exported: tuple[Path, Path]) -> None:
    about = read_detector(exported[1])
    assert (about.image_size, about.iou, about.confidence, about.dataset) == (SIZE, 0.6, 0.01, "v7")
    assert len(about.classes) == 4


def test_a_rectangle_is_found_in_as_well_as_a_square(tmp_path: Path) -> None:
    export_detector(STARTER_WEIGHTS, tmp_path / "wide.onnx", (192, 320))
    wide = np.stack([letterbox(render("junction", 1, float(second)).image, (192, 320))[0] for second in (0, 10, 20)])
    result = parity(STARTER_WEIGHTS, tmp_path / "wide.onnx", wide, batches=(1, 2))
    assert result.boxes > 20
    assert result.share >= 0.99
    assert read_detector(tmp_path / "wide.onnx").image_size == (192, 320)


def test_it_uses_standard_operators_alone(exported: tuple[Path, Path]) -> None:
    import onnx

    graph = onnx.load(exported[1])
    assert {(o.domain, o.version) for o in graph.opset_import} == {("", 17)}
    assert [i.name for i in graph.graph.input] == ["images"]
    assert [o.name for o in graph.graph.output] == ["detections"]


def test_parity_notices_another_detector(exported: tuple[Path, Path], tmp_path: Path) -> None:
    import torch

    other = tmp_path / "other.pt"
    kept = torch.load(exported[0], weights_only=False)
    for parameter in kept["model"].parameters():
        parameter.data *= 1.05
    torch.save(kept, other)
    assert parity(other, exported[1], SQUARES, batches=(1,)).share < 0.99


def test_an_empty_picture_is_no_box_and_full_agreement(exported: tuple[Path, Path]) -> None:
    own = own_detections(exported[0], SQUARES[:1], 0.6)
    assert len(own) == 1


def test_what_is_no_detector_is_refused(tmp_path: Path) -> None:
    prepare_ultralytics(tmp_path)
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no checkpoint")
    with pytest.raises(BadInput, match="not a checkpoint"):
        export_detector(broken, tmp_path / "x.onnx", SIZE)
    with pytest.raises(BadInput, match="no weights"):
        export_detector(tmp_path / "absent.pt", tmp_path / "x.onnx", SIZE)
    (tmp_path / "y.onnx").write_bytes(b"no graph")
    with pytest.raises(BadInput, match="not an ONNX file"):
        read_detector(tmp_path / "y.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_the_embedder_is_stable_small_and_described(tmp_path: Path) -> None:
    import json

    weights = random_detector(tmp_path / "random.pt", "yolo11n.yaml")
    settings = load_settings(home=tmp_path / "home")
    path = export_embedder(settings, weights)
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["digest"] == embedder_digest(weights)
    pictures = np.random.default_rng(1).integers(0, 256, (3, 160, 160, 3), np.uint8)
    vectors = open_session(path).run(["embedding"], {"images": pictures})[0]
    assert vectors.shape == (3, about["dim"])
    assert about["dim"] <= 128
    assert np.allclose(open_session(path).run(["embedding"], {"images": pictures[1:2]})[0], vectors[1:2], atol=1e-5)
    written = path.stat().st_mtime_ns
    assert export_embedder(settings, weights).stat().st_mtime_ns == written
