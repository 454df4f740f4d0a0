"""The repository changes whole or not at all, and never under what is served."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from its_platform.contract import files_digest
from its_platform.errors import BadInput, NotFound
from its_platform.serving.repository import (
    RepositoryError,
    Route,
    broken_versions,
    place_version,
    placed_versions,
    prepare_repository,
    read_routes,
    remove_version,
    route_of,
    routes_path,
    served_models,
    state_folder,
    write_routes,
)
from its_platform.settings import Settings

DETECTOR = "detector-yolo-onnx-320"


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    path = tmp_path / "export.onnx"
    path.write_bytes(b"a graph")
    return path


def version_of(number: int, onnx: Path, **changed: Any) -> Any:
    facts = {
        "name": "traffic-detector",
        "version": number,
        "run_id": "r",
        "dataset_version": "v1",
        "family": "yolo",
        "image_size": 320,
        "classes": ["car", "bus"],
        "thresholds": {"car": 0.4},
        "onnx_digest": hashlib.sha256(onnx.read_bytes()).hexdigest(),
        "format": "onnx",
    }
    return SimpleNamespace(**{**facts, **changed})


def test_a_placed_version_is_what_triton_reads(settings: Settings, onnx: Path) -> None:
    folder = place_version(settings, version_of(3, onnx), onnx)
    assert folder == state_folder(settings) / "models" / DETECTOR / "3"
    assert (folder / "model.onnx").read_bytes() == b"a graph"
    assert "onnxruntime_onnx" in (folder.parent / "config.pbtxt").read_text()
    assert json.loads((folder / "version.json").read_text())["classes"] == ["car", "bus"]
    assert placed_versions(settings, DETECTOR) == [3]
    assert served_models(settings) == [DETECTOR]


def test_placing_twice_changes_nothing(settings: Settings, onnx: Path) -> None:
    folder = place_version(settings, version_of(3, onnx), onnx)
    before = (folder / "model.onnx").stat().st_mtime_ns, (folder.parent / "config.pbtxt").stat().st_mtime_ns
    assert place_version(settings, version_of(3, onnx), onnx) == folder
    assert before == ((folder / "model.onnx").stat().st_mtime_ns, (folder.parent / "config.pbtxt").stat().st_mtime_ns)


def test_a_file_that_is_not_the_registered_one_is_kept_out(settings: Settings, onnx: Path) -> None:
    with pytest.raises(RepositoryError, match="registered is"):
        place_version(settings, version_of(3, onnx, onnx_digest="0" * 64), onnx)
    assert placed_versions(settings, DETECTOR) == []


def test_a_version_is_never_replaced_by_another_content(settings: Settings, onnx: Path) -> None:
    place_version(settings, version_of(3, onnx), onnx)
    onnx.write_bytes(b"another graph")
    with pytest.raises(RepositoryError, match="another content"):
        place_version(settings, version_of(3, onnx), onnx)
    assert (settings.model_repository / DETECTOR / "3" / "model.onnx").read_bytes() == b"a graph"


def test_nothing_half_written_is_left_beside_the_models(settings: Settings, onnx: Path) -> None:
    place_version(settings, version_of(3, onnx), onnx)
    assert list((state_folder(settings) / "incoming").iterdir()) == []
    assert sorted(path.name for path in (settings.model_repository / DETECTOR).iterdir()) == ["3", "config.pbtxt"]


def test_a_served_version_cannot_be_removed(settings: Settings, onnx: Path) -> None:
    place_version(settings, version_of(3, onnx), onnx)
    write_routes(settings, {"production": route_of(version_of(3, onnx))})
    with pytest.raises(RepositoryError, match="served at production"):
        remove_version(settings, DETECTOR, 3)
    write_routes(settings, {})
    assert remove_version(settings, DETECTOR, 3)
    assert not remove_version(settings, DETECTOR, 3)
    assert placed_versions(settings, DETECTOR) == []


def test_routes_are_read_back_as_they_were_written(settings: Settings, onnx: Path) -> None:
    place_version(settings, version_of(3, onnx), onnx)
    route = route_of(version_of(3, onnx))
    assert route == Route(DETECTOR, 3, 320, ("car", "bus"), {"car": 0.4})
    write_routes(settings, {"production": route, "staging": route})
    assert read_routes(settings) == {"production": route, "staging": route}


def test_a_route_to_a_version_that_is_not_there_is_refused_and_the_old_routes_stay(
    settings: Settings, onnx: Path
) -> None:
    place_version(settings, version_of(3, onnx), onnx)
    old = {"production": route_of(version_of(3, onnx))}
    write_routes(settings, old)
    with pytest.raises(NotFound, match="version 4"):
        write_routes(settings, {"production": route_of(version_of(4, onnx))})
    assert read_routes(settings) == old


def test_routes_that_cannot_be_read_are_an_error_and_not_an_empty_table(settings: Settings) -> None:
    assert read_routes(settings) == {}
    routes_path(settings).parent.mkdir(parents=True)
    routes_path(settings).write_text("{half")
    with pytest.raises(BadInput, match="cannot be read"):
        read_routes(settings)


def test_preparing_writes_the_front_once_and_leaves_detectors_alone(settings: Settings, onnx: Path) -> None:
    placed = place_version(settings, version_of(3, onnx), onnx)
    prepare_repository(settings)
    front = settings.model_repository / "traffic_detector"
    names = {path.name for path in (front / "1").iterdir()}
    assert {"model.py", "picture.py", "letterbox.py", "routing.py", "spool.py", "prediction_log.py"} <= names
    (front / "1" / "removed_since.py").write_text("")
    times = {path: path.stat().st_mtime_ns for path in (front / "1").iterdir()}
    prepare_repository(settings)
    assert not (front / "1" / "removed_since.py").exists()
    assert all(path.stat().st_mtime_ns == time for path, time in times.items() if path.exists())
    assert (placed / "model.onnx").read_bytes() == b"a graph"


def test_what_the_front_is_given_needs_nothing_of_the_platform(settings: Settings) -> None:
    prepare_repository(settings)
    for source in (settings.model_repository / "traffic_detector" / "1").glob("*.py"):
        assert "its_platform" not in {
            word for line in source.read_text().splitlines() if "import" in line for word in line.split(".")[0].split()
        }, source.name


def test_a_format_of_two_files_is_placed_and_watched_with_both(settings: Settings, tmp_path: Path) -> None:
    for name in ("model.xml", "model.bin"):
        (tmp_path / name).write_text(name)
    xml = tmp_path / "model.xml"
    digest = files_digest([xml, tmp_path / "model.bin"])
    wide = version_of(3, xml, format="openvino", image_size=(192, 320), onnx_digest=digest)
    folder = place_version(settings, wide, xml)
    assert folder.parent.name == "detector-yolo-openvino-320x192"
    assert (folder / "model.bin").read_text() == "model.bin"
    write_routes(settings, {"production": route_of(wide)})
    assert read_routes(settings) == {"production": route_of(wide)}
    prepare_repository(settings)
    assert "dims: [ 192, 320, 3 ]" in (folder.parent / "config.pbtxt").read_text()
    assert broken_versions(settings) == {}
    (folder / "model.bin").write_text("other weights")
    assert "holds another model.xml" in broken_versions(settings)[folder.parent.name, 3]
    (folder / "model.bin").unlink()
    assert "it has no model.bin" in broken_versions(settings)[folder.parent.name, 3]
    (tmp_path / "model.bin").write_text("other weights")
    with pytest.raises(RepositoryError, match="registered is"):
        place_version(settings, version_of(4, xml, format="openvino", onnx_digest=digest), xml)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"another"), "holds another model.onnx"),
        (lambda folder: (folder / "model.onnx").unlink(), "is half written: it has no model.onnx"),
        (lambda folder: (folder / "version.json").unlink(), "is half written: it has no version.json"),
        (lambda folder: (folder / "version.json").write_text("{"), "cannot be read"),
    ],
)
def test_a_version_whose_files_are_not_whole_is_named_and_may_be_removed_although_it_is_routed(
    settings: Settings, onnx: Path, spoil: Any, said: str
) -> None:
    for number in (3, 4):
        place_version(settings, version_of(number, onnx), onnx)
    write_routes(settings, {"production": route_of(version_of(3, onnx))})
    assert broken_versions(settings) == {}
    spoil(settings.model_repository / DETECTOR / "3")
    assert list(broken_versions(settings)) == [(DETECTOR, 3)]
    assert said in broken_versions(settings)[DETECTOR, 3]
    assert remove_version(settings, DETECTOR, 3)
