"""params.yaml and dvc.yaml: a commit alone decides what is trained, and no name leads out of the folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from its_platform.errors import BadInput, NotFound
from its_platform.model.export import ParityResult, digest_of
from its_platform.model.pipeline import (
    Parameters,
    check_out_dataset,
    evaluate_stage,
    export_stage,
    metrics_of,
    open_pipeline,
)
from its_platform.model.scoring import Evaluation, SliceScore
from its_platform.settings import STARTER_WEIGHTS, Settings, TrainingSettings, load_settings

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))


def written(folder: Path, **changed: object) -> Path:
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump({**COMMITTED, **changed}), "utf-8")
    return path


def test_the_committed_parameters_are_the_defaults_of_the_settings_on_the_cpu() -> None:
    training = Parameters.model_validate(COMMITTED).training
    assert set(COMMITTED["training"]) == set(TrainingSettings.model_fields)
    assert ROOT / training.weights == STARTER_WEIGHTS
    assert training.model_copy(update={"weights": STARTER_WEIGHTS}) == TrainingSettings(device="cpu")


def test_each_parameter_makes_some_stage_run_again() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"].values()
    named = {name for stage in stages for name in stage.get("params", [])}
    assert named == {"dataset", *(f"training.{name}" for name in COMMITTED["training"])}


def test_what_this_machine_sets_has_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITS_TRAINING__EPOCHS", "99")
    pipeline = open_pipeline(load_settings(), written(tmp_path))
    assert pipeline.stores.settings.training.epochs == COMMITTED["training"]["epochs"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"training": {"epochs": 0}}, "training.epochs"),
        ({"training": {"epoch": 3}}, "training.epoch: Extra"),
        ({"dataset": {"version": ""}}, "dataset.version"),
        ({"dataset": None}, "dataset"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(
    settings: Settings, tmp_path: Path, changed: dict[str, object], told: str
) -> None:
    with pytest.raises(BadInput, match=told):
        open_pipeline(settings, written(tmp_path, **changed))


def test_a_folder_without_parameters_and_a_broken_file_are_one_line(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no .*params\.yaml"):
        open_pipeline(settings, tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [", "utf-8")
    with pytest.raises(BadInput, match="is not YAML") as told:
        open_pipeline(settings, tmp_path / "params.yaml")
    assert "\n" not in told.value.message
    (tmp_path / "params.yaml").write_bytes(b"training: \xff")
    with pytest.raises(BadInput, match="not YAML"):
        open_pipeline(settings, tmp_path / "params.yaml")
    for empty in ("", "- a"):
        (tmp_path / "params.yaml").write_text(empty, "utf-8")
        with pytest.raises(BadInput, match="groups dataset and training"):
            open_pipeline(settings, tmp_path / "params.yaml")


def test_a_version_of_another_content_is_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from its_platform.dataset.manifest import card_bytes
    from its_platform.dataset.manifest import digest_of as digest_of_version

    digest = digest_of_version(b"", ["car"])
    card = {"name": "v1", "digest": digest, "classes": ["car"], "statistics": {"frames": {}, "boxes": {}}}
    files = {"manifest.jsonl": b"", "card.json": card_bytes({**card, "golden": 1, "previous": None, "request": {}})}
    monkeypatch.setattr("its_platform.dataset.versions.remote_bytes", lambda *_: files)

    def asked(wanted: str) -> str:
        parameters = written(tmp_path, dataset={"version": "v1", "digest": wanted})
        return check_out_dataset(open_pipeline(settings, parameters, tmp_path / "pipeline")).name

    assert asked(digest[:8]) == "v1"
    with pytest.raises(BadInput, match="not 000000"):
        asked("000000")


def test_a_class_may_be_called_anything_and_its_file_stays_in_the_folder(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("all", "class=a/../../../x", "golden", "golden/camera=north", "class=..")
    scores = tuple(SliceScore(name, None, 3, 2, 0.5, 0.25, 0.6, 0.7, 0.4, 0.6) for name in names)
    evaluation = Evaluation(scores, ("car",), {"car": 0.3})
    monkeypatch.setattr("its_platform.model.pipeline._dataset", lambda _: (None, None))
    monkeypatch.setattr("its_platform.model.pipeline.judge_export", lambda *_: evaluation)
    monkeypatch.setattr("its_platform.model.pictures.draw_judged", lambda *_: None)
    evaluate_stage(open_pipeline(settings, written(tmp_path), tmp_path / "pipeline"))
    made = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json"))
    assert len(made) == len(names)
    assert all(path.startswith("pipeline/metrics/") for path in made)
    assert "pipeline/metrics/golden/camera=north.json" in made


def test_new_weights_are_exported_anew(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(weights: Path, onnx: Path, *_: object) -> None:
        onnx.write_bytes(b"exported from " + weights.read_bytes())

    parity = ParityResult(share=1.0, extra=0.0, boxes=1, by_batch={1: 1.0}, worst_confidence=0.0)
    trainer = SimpleNamespace(export=export, parity=lambda *_: parity)
    monkeypatch.setattr("its_platform.model.steps.trainer_of", lambda _: trainer)
    monkeypatch.setattr("its_platform.model.steps.parity_pictures", lambda *_: None)
    monkeypatch.setattr("its_platform.model.pipeline._dataset", lambda _: (None, None))
    parameters = {"family": "yolo", "image_size": 160, "export_iou": 0.7, "dataset": "v1"}
    monkeypatch.setattr("its_platform.model.pipeline.training_parameters", lambda *_: parameters)
    pipeline = open_pipeline(settings, written(tmp_path), tmp_path / "pipeline")
    pipeline.model.mkdir(parents=True)
    for weights in (b"first", b"second"):
        (pipeline.model / "model.pt").write_bytes(weights)
        export_stage(pipeline)
        assert (pipeline.model / "model.onnx").read_bytes() == b"exported from " + weights


def test_an_export_of_other_weights_is_not_judged(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = open_pipeline(settings, written(tmp_path), tmp_path / "pipeline")
    pipeline.model.mkdir(parents=True)
    (pipeline.model / "model.pt").write_bytes(b"trained anew")
    monkeypatch.setattr("its_platform.model.pipeline._dataset", lambda _: (None, None))
    monkeypatch.setattr("its_platform.model.pipeline.read_detector", lambda _: SimpleNamespace(digest="of before"))
    with pytest.raises(BadInput, match=r"was not exported from the model\.pt beside it\..*its pipeline export"):
        evaluate_stage(pipeline)


def test_a_slice_without_true_boxes_has_no_figures() -> None:
    empty = Evaluation((SliceScore("light=night", None, 0, 4, 0, 0, 0, 0, 0, 0),), ("car",), {})
    assert metrics_of(empty, "light=night") == {"boxes": 0}


def registered(base_digest: str, weights_digest: str = "") -> SimpleNamespace:
    """Stores that know version 3, begun with weights of this digest, and version 2 with weights of another."""
    told = {"dataset": "v2", "dataset_digest": "ab" * 32, "family": "yolo", "base_weights_digest": base_digest}
    told |= {"epochs": "3", "image_size": "160", "batch": "8", "freeze_layers": "0", "seed": "5"}
    told |= {"learning_rate": "0.0005", "export_iou": "0.7"}
    run = SimpleNamespace(data=SimpleNamespace(params=told, tags={"device": "cpu"}))
    weights = {2: weights_digest, 3: ""}
    versions = {n: SimpleNamespace(version=n, run_id="r", tags={}, weights_digest=weights[n]) for n in weights}
    registry = SimpleNamespace(
        get=lambda _, n: versions[n],
        client=lambda: SimpleNamespace(get_run=lambda _: run),
        list=lambda: list(versions.values()),
    )
    return SimpleNamespace(registry=registry)


def test_a_registered_version_says_what_trains_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from its_platform.model.registered import pipeline_parameters

    found = Parameters.model_validate(pipeline_parameters(registered(digest_of(STARTER_WEIGHTS)), 3))
    assert (found.dataset.version, found.dataset.digest) == ("v2", "ab" * 32)
    assert found.training == TrainingSettings(
        weights=STARTER_WEIGHTS.relative_to(ROOT),
        epochs=3, image_size=160, batch=8, seed=5, learning_rate=0.0005, device="cpu",
    )  # fmt: skip
    monkeypatch.setattr("its_platform.model.registered.base_weights", lambda _, n: Path(f"version-{n}.pt"))
    trained_on = pipeline_parameters(registered("cd" * 32, weights_digest="cd" * 32), 3)
    assert trained_on["training"]["weights"] == "version-2.pt"
    with pytest.raises(NotFound, match="neither the starter's"):
        pipeline_parameters(registered("ef" * 32, weights_digest="cd" * 32), 3)
