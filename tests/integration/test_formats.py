"""A trained version in other formats: registered with figures of its own, chosen, and served by a real Triton."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from its_platform.cameras import add_camera
from its_platform.cameras.registry import make_camera
from its_platform.dataset import DatasetRequest, build_dataset
from its_platform.errors import BadInput
from its_platform.frames.ingest import ingest
from its_platform.labels.review import review_simulated, unlabelled_frames
from its_platform.model import formats
from its_platform.model.exported import open_detector
from its_platform.model.formats import choice_of, choose_format, export_format, formats_of
from its_platform.model.registered import base_weights, evaluation_of, exported_file, pipeline_parameters
from its_platform.model.train import train_candidate
from its_platform.serving.client import with_client
from its_platform.serving.repository import place_version, route_of, write_routes
from its_platform.serving.server import start_triton, stop_triton
from its_platform.settings import DatasetSettings, TrainingSettings
from its_platform.simulation import append_segment
from its_platform.stores import Stores, open_stores
from its_platform.stores.registry import MODEL_NAME

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]

TINY = TrainingSettings(epochs=1, image_size=160, batch=8, device="cpu", rectangular=True)


@pytest.fixture
def trained(stores: Stores, registry: object, require: Callable[[bool, str], None]) -> Stores:
    """A crossing's dataset version v1 and a detector of it, version 1, for the camera's own shape."""
    require((stores.settings.environments / "dvc" / "bin" / "dvc").is_file(), "DVC's environment")
    spacing = DatasetSettings(block_s=10, guard_s=1)
    opened = open_stores(stores.settings.model_copy(update={"dataset": spacing, "training": TINY}))
    add_camera(opened, make_camera("junction", "sim://junction", sample_interval_s=2))
    append_segment(opened.settings, "day", "clear", 100)
    ingest(opened, "junction")
    review_simulated(opened, unlabelled_frames(opened))
    build_dataset(opened, DatasetRequest(opened.settings.classes))
    assert train_candidate(opened, "v1").model_version.image_size == (96, 160)
    return opened


def test_formats_are_versions_of_the_same_weights_with_figures_of_their_own(
    trained: Stores, require: Callable[[bool, str], None]
) -> None:
    int8 = export_format(trained, 1, "onnx-int8")
    openvino = export_format(trained, 1, "openvino")
    assert [(one.version, one.format) for one in trained.registry.list()] == [
        (1, "onnx"),
        (2, "onnx-int8"),
        (3, "openvino"),
    ]
    assert export_format(trained, 2, "openvino") == openvino, "made once, from whichever version it is asked"
    assert route_of(int8).model == "detector-yolo-onnx-int8-160x96"
    assert route_of(openvino).model == "detector-yolo-openvino-160x96"
    known = {one.format: one for one in formats_of(trained, 3)}
    assert {name: one.version for name, one in known.items()} == {"onnx": 1, "onnx-int8": 2, "openvino": 3}
    assert all(one.cpu_ms > 0 for one in known.values())
    for number in (2, 3):
        assert base_weights(trained, number).read_bytes() == base_weights(trained, 1).read_bytes()
        assert pipeline_parameters(trained, number) == pipeline_parameters(trained, 1)
        scores = evaluation_of(trained, number).score("all")
        assert scores is not None
        assert scores.ap50 == known[trained.registry.get(MODEL_NAME, number).format].map50
    assert known["openvino"].parity >= 0.99
    assert known["openvino"].objection == ""
    with pytest.raises(BadInput, match="TensorRT plan needs"):
        export_format(trained, 1, "tensorrt")
    served_by_triton(trained, (1, 2, 3), require)


def served_by_triton(trained: Stores, versions: tuple[int, ...], require: Callable[[bool, str], None]) -> None:
    """Triton answers for each version what its file answers in this process."""
    settings = trained.settings
    require((settings.environments / "tritonserver" / "pytriton").is_dir(), "the bundled tritonserver")
    picture = np.random.default_rng(0).integers(0, 256, (1, 96, 160, 3), np.uint8)
    stages = ("production", "staging", "canary")
    routes = {}
    for stage, number in zip(stages, versions, strict=True):
        version = trained.registry.get(MODEL_NAME, number)
        place_version(settings, version, exported_file(trained, number))
        routes[stage] = route_of(version)
    write_routes(settings, routes)
    start_triton(settings)
    try:
        for stage, route in routes.items():
            served = with_client(settings, lambda client, r=route: client.infer_detector(r.model, r.version, picture))
            own = open_detector(exported_file(trained, route.version)).detect(picture)
            assert np.allclose(served, own, atol=0.05), route.model
            wide = np.full((90, 160, 3), 80, np.uint8)
            answer = with_client(settings, lambda client, s=stage, w=wide: client.detect(w, stage=s))
            assert (answer.model_version, answer.model_name) == (route.version, route.model)
    finally:
        stop_triton(settings)


def test_the_fastest_that_is_as_good_is_registered_with_the_reason(
    trained: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "measure_costs", lambda files, _: {"onnx": 20.0, "onnx-int8": 30.0, "openvino": 10.0})
    chosen = choose_format(trained, 1)
    assert (chosen.version.format, chosen.version.version) == ("openvino", 2)
    assert "onnx 20.0, onnx-int8 30.0, openvino 10.0" in chosen.why
    assert choice_of(trained, 1) == ("openvino", chosen.why)
    assert {one.format: one.version for one in chosen.figures} == {"onnx": 1, "onnx-int8": None, "openvino": 2}
    assert len(trained.registry.list()) == 2, "what is not served is not registered"
    again = choose_format(trained, 2)
    assert (again.version, again.why) == (chosen.version, chosen.why)
    assert train_candidate(trained, "v1").model_version.version == 1, "the training is found by its own version"
    tags = trained.registry.client().get_run(chosen.version.run_id).data.tags
    assert tags["exported_from"] == "1"
    assert json.loads(trained.registry.get(MODEL_NAME, 1).tags["formats"])["chosen"] == "openvino"
    assert {path.name for path in exported_file(trained, 2).parent.iterdir()} == {
        "model.xml", "model.bin", "model.pt", "detector.json", "evaluation.json", "parity.json",
    }  # fmt: skip
    assert choose_format(trained, 2, wanted="onnx").version.version == 1, "what is asked for by name is not measured"
    assert len(trained.registry.list()) == 2
