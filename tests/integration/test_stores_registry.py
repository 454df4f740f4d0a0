"""The model registry on MLflow's own database: versions appear whole, aliases are read, failures are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from its_platform.errors import BadInput, NotFound, ServerUnavailable
from its_platform.settings import load_settings
from its_platform.stores import Registry
from its_platform.stores.registry import MODEL_NAME, ModelVersion, VersionFacts, folder_digest

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(900)]

FACTS = VersionFacts("v1", "yolo", 320, ["car", "bus"], {"car": 0.3}, {"git_commit": "abc"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "artefacts"
    (made / "plots").mkdir(parents=True)
    (made / "model.onnx").write_bytes(b"onnx")
    (made / "plots" / "curve.png").write_bytes(b"png")
    return made


def register(registry: Registry, folder: Path) -> ModelVersion:
    run = registry.client().create_run(registry.experiment())
    return registry.create_version(run.info.run_id, folder, FACTS)


def test_a_version_comes_back_with_all_its_facts(registry: Registry, folder: Path) -> None:
    made = register(registry, folder)
    read = registry.get(MODEL_NAME, made.version)
    assert read == made
    assert (read.version, read.dataset_version, read.family, read.image_size) == (1, "v1", "yolo", 320)
    assert (read.classes, read.thresholds) == (["car", "bus"], {"car": 0.3})
    assert read.tags == {"git_commit": "abc", "stage": "development"}
    assert read.digest == folder_digest(folder)
    assert read.registered_at is not None
    assert abs(datetime.now(UTC) - read.registered_at) < timedelta(minutes=10)


def test_the_same_run_asked_twice_has_one_version(registry: Registry, folder: Path) -> None:
    made = register(registry, folder)
    assert registry.create_version(made.run_id, folder, FACTS) == made
    assert registry.list() == [made]


def test_a_training_killed_before_its_version_leaves_none(
    registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = registry.client()

    def die(*words: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "create_model_version", die)
    with pytest.raises(KeyboardInterrupt):
        register(registry, folder)
    monkeypatch.undo()
    assert registry.list() == []
    assert register(registry, folder).version == 1


def test_a_version_that_was_never_completed_is_nobodys_and_is_swept(registry: Registry, folder: Path) -> None:
    whole = register(registry, folder)
    registry.client().create_model_version(MODEL_NAME, source=str(folder))
    assert registry.list() == [whole]
    with pytest.raises(NotFound):
        registry.get(MODEL_NAME, 2)
    with pytest.raises(NotFound):
        registry.set_alias(MODEL_NAME, "staging", 2)
    assert registry.sweep() == 1
    assert registry.sweep() == 0
    assert registry.list() == [whole]


def test_an_alias_names_one_version_and_can_be_taken_away(registry: Registry, folder: Path) -> None:
    first, second = register(registry, folder), register(registry, folder)
    assert registry.by_alias(MODEL_NAME, "production") is None
    registry.set_alias(MODEL_NAME, "production", first.version)
    registry.set_alias(MODEL_NAME, "production", second.version)
    assert registry.by_alias(MODEL_NAME, "production") == second
    registry.delete_alias(MODEL_NAME, "production")
    registry.delete_alias(MODEL_NAME, "production")
    assert registry.by_alias(MODEL_NAME, "production") is None


def test_the_facts_of_a_version_cannot_be_retagged(registry: Registry, folder: Path) -> None:
    made = register(registry, folder)
    registry.set_tag(MODEL_NAME, made.version, "rejected", "worse by night")
    assert registry.get(MODEL_NAME, made.version).tags["rejected"] == "worse by night"
    with pytest.raises(BadInput):
        registry.set_tag(MODEL_NAME, made.version, "digest", "other")


def test_a_download_is_bit_for_bit_what_was_registered(registry: Registry, folder: Path, tmp_path: Path) -> None:
    made = register(registry, folder)
    got = registry.download(MODEL_NAME, made.version, tmp_path / "got")
    assert folder_digest(got) == folder_digest(folder)
    assert (got / "plots" / "curve.png").read_bytes() == b"png"


def test_artefacts_that_were_changed_are_refused(registry: Registry, folder: Path, tmp_path: Path) -> None:
    made = register(registry, folder)
    stored = next(registry.artefacts.rglob("model.onnx"))
    stored.write_bytes(b"other")
    with pytest.raises(BadInput, match="not those"):
        registry.download(MODEL_NAME, made.version, tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_a_failed_read_is_an_error_and_never_nothing(tmp_path: Path) -> None:
    away = load_settings(home=tmp_path, database_url="postgresql+psycopg2://nobody@127.0.0.1:9/")
    with pytest.raises(ServerUnavailable):
        Registry(away).by_alias(MODEL_NAME, "production")
    with pytest.raises(ServerUnavailable):
        Registry(away).list()
