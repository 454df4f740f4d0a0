"""`its labels import` as a person gives it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from its_platform import cli
from its_platform.cameras import add_camera
from its_platform.cameras.registry import make_camera
from its_platform.frames.index import FrameIndex
from its_platform.frames.ingest import load_jpeg
from its_platform.labels.store import current_labels
from its_platform.stores import Stores
from tests.unit.dataset.footage import add_frames, label


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main([*map(str, words)])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_a_dry_run_says_what_would_be_taken_and_takes_nothing(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ITS_DATABASE_URL", str(stores.settings.database_url))
    add_camera(stores, make_camera("bridge", "sim://junction"))
    first, second, _ = add_frames(stores, "bridge", [0, 1, 2])
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / f"{first}.txt").write_text("0 .5 .5 .2 .2\n1 .7 .7 .2 .2\n2 .3 .3 .2 .2\n")
    (tmp_path / "labels" / f"{second}.txt").write_text("2 .5 .5 .2 .2\n")
    words = ["labels", "import", "yolo", tmp_path, "--camera", "bridge", "--classes", "bike,bicycle,pedestrian"]
    words += ["--map", "bike=bicycle", "--drop", "pedestrian", "--json"]

    code, out, _ = run(capsys, *words, "--dry-run")
    said = json.loads(out)
    assert code == 0
    assert said.pop("dry_run")
    counted = {"boxes": {"bicycle": 2}, "empty_frames": 1, "frames_without_labels": 1}
    assert said == {"added": 2, "unchanged": 0, "refused": [], **counted}
    assert current_labels(stores) == {}

    code, out, _ = run(capsys, *words)
    assert (code, json.loads(out)) == (0, said)
    taken = current_labels(stores)
    assert {name: len(entry.boxes) for name, entry in taken.items()} == {first: 2, second: 0}
    assert taken[first].classes == ("bicycle",)

    words[words.index("pedestrian")] = "pedestrians"
    code, _, err = run(capsys, *words)
    assert code == 1
    assert "no class 'pedestrians'" in err


def test_labels_of_another_cameras_pictures_are_refused_though_names_agree(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ITS_DATABASE_URL", str(stores.settings.database_url))
    for camera in ("north", "south"):
        add_camera(stores, make_camera(camera, "sim://junction"))
        add_frames(stores, camera, [0])
    rows = FrameIndex(stores).query().to_dict("records")
    name = Path(rows[0]["source"]).stem
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "images" / f"{name}.jpg").write_bytes(load_jpeg(stores, rows[1]["object_key"]))
    (tmp_path / "labels" / f"{name}.txt").write_text("0 .5 .5 .2 .2\n")
    words = ["labels", "import", "yolo", tmp_path, "--classes", "car"]

    code, _, err = run(capsys, *words, "--camera", "north")
    assert code == 1
    assert f"{name}.txt: its picture is a frame of another camera" in err
    assert current_labels(stores) == {}

    code, _, _ = run(capsys, *words, "--camera", "south")
    assert code == 0
    assert list(current_labels(stores)) == [rows[1]["frame_hash"]]


@pytest.mark.parametrize("form", ["yolo", "coco"])
def test_an_export_never_says_that_a_class_is_absent_which_nobody_looked_for(
    stores: Stores, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("ITS_DATABASE_URL", str(stores.settings.database_url))
    for camera, classes in (("bridge", ("car", "truck")), ("gate", ("car",))):
        add_camera(stores, make_camera(camera, "sim://junction"))
        label(stores, add_frames(stores, camera, [0, 1]), classes=classes)
    words = ["labels", "export", form, tmp_path / "out.json"]

    code, _, err = run(capsys, *words)
    assert code == 1
    assert "In 2 of these frames nobody looked for truck" in err
    assert not (tmp_path / "out.json").exists()

    code, out, _ = run(capsys, *words, "--camera", "gate", "--json")
    assert (code, json.loads(out)["classes"]) == (0, ["car"])
    words[-1] = tmp_path / "both.json"
    code, out, _ = run(capsys, *words, "--classes", "car", "--json")
    assert (code, json.loads(out)["frames"]) == (0, 4)
