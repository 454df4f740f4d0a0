"""A trained version in other formats: registered with figures of its own, chosen, gated, released and asked for boxes.

One small training, the choice of its format, and a real Triton, which both tests share.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import numpy as np
import pytest

from its_platform.cameras import add_camera
from its_platform.cameras.registry import make_camera
from its_platform.dataset import DatasetRequest, build_dataset, load_manifest
from its_platform.errors import BadInput
from its_platform.frames import load_image
from its_platform.frames.ingest import ingest
from its_platform.labels.review import review_simulated, unlabelled_frames
from its_platform.model import formats
from its_platform.model.exported import open_detector
from its_platform.model.format_choice import fastest
from its_platform.model.formats import FormatChoice, choice_of, choose_format, export_format, formats_of
from its_platform.model.registered import base_weights, evaluation_of, exported_file, pipeline_parameters
from its_platform.model.train import train_candidate
from its_platform.release import is_passed, judge_candidate, promote, served, stage
from its_platform.serving.client import detect_once, with_client
from its_platform.serving.repository import place_version, route_of, write_routes
from its_platform.serving.server import start_triton, stop_triton
from its_platform.settings import DatasetSettings, GateSettings, Settings, TrainingSettings
from its_platform.simulation import append_segment
from its_platform.stores import Stores, open_stores
from its_platform.stores import versions as repository
from its_platform.stores.registry import MODEL_NAME
from tests.integration.trail import rows
from tests.triton_site import settings_at, wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]

TINY = TrainingSettings(epochs=1, image_size=160, batch=8, device="cpu", rectangular=True)
# How good so short a training is, and how even a machine that runs a whole suite, is not what is tested.
LENIENT = GateSettings(
    simulated_floor=0.05,
    class_floor=0.0,
    calibration_error=1.0,
    minimum_boxes=20,
    latency_ratio=20.0,
    latency_spread=50.0,
)


@pytest.fixture(scope="module")
def trained(postgres_server: str, mlflow_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """A crossing's dataset version v1 and a detector of it, version 1, for the camera's own shape; Triton runs."""
    from sqlalchemy.engine import make_url

    from its_platform.stores.database import create_database, dispose_engines

    base = settings_at(tmp_path_factory.mktemp("formats") / "home")
    if not (base.environments / "tritonserver" / "pytriton").is_dir():
        if os.environ.get("ITS_REQUIRE_SERVICES") == "1":
            pytest.fail("the bundled tritonserver is required here and missing")
        pytest.skip("the bundled tritonserver is missing")
    address = make_url(postgres_server).set(database=f"t{uuid.uuid4().hex[:10]}").render_as_string(hide_password=False)
    own = {"dataset": DatasetSettings(block_s=10, guard_s=1), "training": TINY, "gates": LENIENT}
    settings = base.model_copy(update={"database_url": address, **own})
    create_database(settings, "its", template="template_its")
    create_database(settings, "mlflow", template=mlflow_template)
    stores = open_stores(settings)
    with pytest.MonkeyPatch.context() as patch:
        # DVC takes seconds a call and has tests of its own.
        patch.setattr(repository, "commit_version", lambda *_: "commit")
        patch.setattr(repository, "push", lambda *_: 0)
        add_camera(stores, make_camera("junction", "sim://junction", sample_interval_s=2))
        append_segment(settings, "day", "clear", 100)
        ingest(stores, "junction")
        review_simulated(stores, unlabelled_frames(stores))
        build_dataset(stores, DatasetRequest(settings.classes))
        assert train_candidate(stores, "v1").model_version.image_size == (96, 160)
        start_triton(settings)
        try:
            yield stores
        finally:
            stop_triton(settings)
            dispose_engines()


@pytest.fixture(scope="module")
def chosen(trained: Stores) -> FormatChoice:
    assert trained.settings.serving.format == "auto"
    choice = choose_format(trained, 1)
    registered = {one.format: one.version for one in trained.registry.list()}
    assert registered == {"onnx": 1, choice.version.format: choice.version.version}, "of the others none is registered"
    return choice


def test_the_fastest_here_that_is_as_good_is_gated_released_and_answers_through_the_front(
    trained: Stores, chosen: FormatChoice
) -> None:
    assert [one.format for one in chosen.figures] == ["onnx", "onnx-int8", "openvino"]
    assert all(one.cpu_ms > 0 for one in chosen.figures)
    best, why = fastest(chosen.figures)
    version = chosen.version
    assert (version.format, version.version, chosen.why) == (best.format, best.version, why)
    assert choice_of(trained, 1) == (best.format, why)
    recorded = [row.detail for row in rows(trained) if row.action == "model.registered"]
    assert {(told["format"], told["version"]) for told in recorded} == {("onnx", 1), (best.format, version.version)}
    assert best.objection == ""
    again = choose_format(trained, version.version)
    assert (again.version, again.why) == (version, why)
    assert train_candidate(trained, "v1").model_version.version == 1, "the training is found by its own version"

    stage(trained, version.version, "tester", "")
    results = judge_candidate(trained, version.version)
    assert is_passed(results), [result for result in results if result.verdict != "passed"]
    promote(trained, version.version, "production", "tester", "")
    row = served(trained)
    assert row is not None
    assert (row.version, row.model) == (version.version, f"detector-yolo-{best.format}-160x96")
    golden = load_manifest(trained, "v1").query("split == 'golden'")
    answer = detect_once(trained.settings, load_image(trained, golden.iloc[0]["object_key"]), purpose="probe")
    assert (answer.model_version, answer.model_name) == (row.version, row.model)


def test_each_format_is_a_version_of_the_same_weights_and_answers_in_triton_what_its_file_answers(
    trained: Stores, chosen: FormatChoice
) -> None:
    versions = {name: export_format(trained, 1, name) for name in ("onnx", "onnx-int8", "openvino")}
    assert versions[chosen.version.format].version == chosen.version.version
    again = export_format(trained, versions["openvino"].version, "onnx-int8")
    assert again.version == versions["onnx-int8"].version, "made once"
    assert len(trained.registry.list()) == 3
    known = {one.format: one for one in formats_of(trained, versions["openvino"].version)}
    assert {name: one.version for name, one in known.items()} == {name: one.version for name, one in versions.items()}
    assert known["openvino"].parity >= 0.99
    for name, version in versions.items():
        assert base_weights(trained, version.version).read_bytes() == base_weights(trained, 1).read_bytes()
        assert pipeline_parameters(trained, version.version) == pipeline_parameters(trained, 1)
        scores = evaluation_of(trained, version.version).score("all")
        assert scores is not None
        assert scores.ap50 == known[name].map50
        assert version.semantic.startswith("1.0.")
    run = trained.registry.client().get_run(versions["openvino"].run_id)
    assert run.data.tags["exported_from"] == "1"
    assert {path.name for path in exported_file(trained, versions["openvino"].version).parent.iterdir()} == {
        "model.xml", "model.bin", "model.pt", "detector.json", "evaluation.json", "parity.json",
    }  # fmt: skip
    with pytest.raises(BadInput, match="TensorRT plan needs"):
        export_format(trained, 1, "tensorrt")
    assert choose_format(trained, 1, wanted="onnx").version.version == 1, "what is asked for by name is not measured"

    settings = trained.settings
    picture = np.random.default_rng(0).integers(0, 256, (1, 96, 160, 3), np.uint8)
    for version in versions.values():
        place_version(settings, version, exported_file(trained, version.version))
        route = route_of(version)
        with_client(settings, lambda client, r=route: client.load(r.model))
        answered = with_client(settings, lambda client, r=route: client.infer_detector(r.model, r.version, picture))
        own = open_detector(exported_file(trained, version.version)).detect(picture)
        assert np.allclose(answered, own, atol=0.05), route.model
        write_routes(settings, {"production": route})
        # The front follows a route within moments.
        wait_until(lambda r=route: answering(settings) == (r.version, r.model))


def answering(settings: Settings) -> tuple[int, str]:
    """Who answers through the front: the version, and Triton's model of it."""
    answer = detect_once(settings, np.full((90, 160, 3), 80, np.uint8), purpose="probe")
    return answer.model_version, answer.model_name


def test_a_version_that_stays_the_choice_is_told_with_its_record(
    trained: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a machine on which no format saves anything.
    monkeypatch.setattr(formats, "hardware_name", lambda: "another machine")
    monkeypatch.setattr(formats, "measure_costs", lambda files, pictures: dict.fromkeys(files, 10.0))
    choice = choose_format(trained, 1)
    assert choice.version == trained.registry.get(MODEL_NAME, 1)
    again = choose_format(trained, 1)
    assert (again.version, again.why) == (choice.version, choice.why)
