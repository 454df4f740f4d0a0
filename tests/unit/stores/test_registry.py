"""What a version says of itself on MLflow's page from the moment it is registered."""

from __future__ import annotations

from pathlib import Path

from its_platform.release import truth
from its_platform.stores import Stores
from its_platform.stores.registry import STAGE_TAG, Registry, VersionFacts


def test_a_new_version_says_that_it_is_in_development(stores: Stores, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "version").mkdir()
    (tmp_path / "version" / "model.onnx").write_bytes(b"onnx")
    run = registry.client().create_run(registry.experiment()).info.run_id
    made = registry.create_version(run, tmp_path / "version", VersionFacts("v1", "yolo", 320, ["car"]))
    assert made.tags[STAGE_TAG] == truth.stage_now(stores, made.version)
