"""What a folder of labelled cameras is taken for, and how live footage gets its times."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from its_platform.cameras import parse_address
from its_platform.errors import BadInput, NotFound
from its_platform.frames.folder import image_names, time_in_name
from its_platform.frames.index import FrameIndex
from its_platform.labels.labelling import FrameLabels, LabelResult, Refusal
from its_platform.loop.footage import LIVE_SINCE, lay_out_live, read_world
from its_platform.loop.run import import_labels

CAMERAS = ("bridge", "tunnel")


def camera(folder: Path, name: str, numbers: list[int], grey: int) -> None:
    images = folder / name / "images"
    images.mkdir(parents=True)
    (folder / name / "labels").mkdir()
    noise = np.random.default_rng(0).integers(-8, 8, (48, 64, 3))
    picture = Image.fromarray(np.clip(grey + noise, 0, 255).astype(np.uint8))
    for number in numbers:
        picture.save(images / f"{name}_{number}.jpg")


def store_in(taken: list[FrameLabels], refused: Sequence[Refusal] = ()) -> Callable[..., LabelResult]:
    """A label store that takes what it is given."""

    def add_labels(_: object, labels: list[FrameLabels], is_rehearsal: bool = False) -> LabelResult:
        if not is_rehearsal:
            taken.extend(labels)
        return LabelResult(len(labels), refused=tuple(refused))

    return add_labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data.yaml").write_text("names: [car, truck]\n")
    camera(tmp_path, "bridge", list(range(50)), 150)
    camera(tmp_path, "tunnel", [*range(22), *range(60, 90)], 12)
    return tmp_path


def test_the_only_camera_of_the_night_comes_live_and_the_others_come_first(folder: Path):
    world = read_world(folder)
    assert (world.live, world.first, world.classes) == ("tunnel", ("bridge",), ("car", "truck"))


def test_the_widest_jump_of_the_numbering_parts_what_teaches_from_what_judges(folder: Path):
    world = read_world(folder)
    assert world.names[world.judged_from] == "tunnel_60.jpg"
    assert world.judge_share == pytest.approx(30 / 52)


def test_footage_numbered_without_a_gap_is_parted_in_the_middle(folder: Path):
    assert read_world(folder, live="bridge").judged_from == 25


def test_a_picture_that_is_named_begins_the_judging_part(folder: Path):
    assert read_world(folder, live="bridge", judged_from="bridge_28.jpg").judged_from == 28
    with pytest.raises(BadInput, match="too few"):
        read_world(folder, live="bridge", judged_from="bridge_3.jpg")
    with pytest.raises(BadInput, match="no picture"):
        read_world(folder, live="bridge", judged_from="other.jpg")


def test_two_cameras_of_the_night_have_to_be_told_apart_by_a_person(folder: Path):
    camera(folder, "garage", list(range(50)), 10)
    with pytest.raises(BadInput, match="garage, tunnel are mostly of the night"):
        read_world(folder)


def test_a_folder_without_labelled_cameras_is_refused(tmp_path: Path):
    with pytest.raises(NotFound):
        read_world(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="0 labelled cameras"):
        read_world(tmp_path)


def test_a_folder_whose_name_no_camera_may_have_is_refused_before_anything_starts(folder: Path):
    (folder / "bridge").rename(folder / "Bridge North")
    with pytest.raises(BadInput, match=r"Bridge North: .*Rename the folder"):
        read_world(folder)


def test_a_live_picture_that_lies_elsewhere_is_refused_and_not_copied(folder: Path, tmp_path: Path):
    images = folder / "tunnel" / "images"
    (images / "tunnel_6.jpg").unlink()
    (images / "tunnel_6.jpg").symlink_to(folder / "bridge" / "images" / "bridge_5.jpg")
    with pytest.raises(BadInput, match=r"tunnel_6.jpg: the link leads out of the folder"):
        read_world(folder)
    (images / "tunnel_6.jpg").unlink()
    os.mkfifo(images / "tunnel_6.jpg")
    with pytest.raises(BadInput, match=r"tunnel_6\.jpg is not a file"):
        read_world(folder)
    (images / "tunnel_6.jpg").unlink()
    (images / "tunnel_6.jpg").symlink_to(images / "tunnel_7.jpg")
    lay_out_live(read_world(folder), tmp_path / "live")


def test_each_cameras_labels_are_read_by_its_own_class_list(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "bridge" / "data.yaml").write_text("names: [truck, car]\n")
    for name in ("bridge", "tunnel"):
        (folder / name / "labels" / f"{name}_1.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    taken: list[FrameLabels] = []
    rows = [{"camera_id": n, "frame_hash": n, "source": f"{n}_1.jpg", "width": 64, "height": 48} for n in CAMERAS]
    monkeypatch.setattr(FrameIndex, "query", lambda *_, **__: pd.DataFrame(rows))
    monkeypatch.setattr("its_platform.labels.store.add_labels", store_in(taken))
    world = read_world(folder)
    play = SimpleNamespace(world=world, stores=SimpleNamespace(tables="tables"), progress=lambda *_: None)
    import_labels(play, CAMERAS)
    assert world.classes == ("car", "truck")
    assert {entry.frame_hash: entry.boxes[0].class_name for entry in taken} == {"bridge": "truck", "tunnel": "car"}


@pytest.mark.parametrize(
    ("text", "refused", "told"),
    [
        ("320 240 16 16\n", (), r"tunnel: not one .*: tunnel_1.txt box 0: '320 240 16 16' is no YOLO line"),
        (
            "0 320 240 16 16\n",
            (Refusal("tunnel", 0, "lies outside"),),
            "tunnel: not one .*: tunnel box 0: lies outside",
        ),
    ],
)
def test_a_camera_without_one_label_that_can_be_used_ends_the_loop_and_stores_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, refused: tuple[Refusal, ...], told: str
):
    (folder / "bridge" / "labels" / "bridge_1.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    (folder / "tunnel" / "labels" / "tunnel_1.txt").write_text(text)
    rows = [{"camera_id": n, "frame_hash": n, "source": f"{n}_1.jpg", "width": 64, "height": 48} for n in CAMERAS]
    monkeypatch.setattr(FrameIndex, "query", lambda *_, **__: pd.DataFrame(rows))
    taken: list[FrameLabels] = []
    monkeypatch.setattr("its_platform.labels.store.add_labels", store_in(taken, refused))
    play = SimpleNamespace(world=read_world(folder), stores=SimpleNamespace(tables="tables"), progress=lambda *_: None)
    with pytest.raises(BadInput, match=told):
        import_labels(play, CAMERAS)
    assert taken == []


def test_labels_of_a_live_picture_that_was_stored_anew_are_found_by_its_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A PNG is stored as a JPEG, so that its content says nothing; and its copy's name begins with a time."""
    images = folder / "tunnel" / "images"
    for picture in sorted(images.iterdir()):
        Image.open(picture).save(picture.with_suffix(".png"))
        picture.unlink()
    (folder / "tunnel" / "labels" / "tunnel_60.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    world = read_world(folder)
    address = parse_address(lay_out_live(world, tmp_path / "live"))
    copies = image_names(address.path)
    rows = [{"camera_id": "tunnel", "frame_hash": c, "source": c, "width": 64, "height": 48} for c in copies]
    monkeypatch.setattr(FrameIndex, "query", lambda *_, **__: pd.DataFrame(rows))
    taken: list[FrameLabels] = []
    monkeypatch.setattr("its_platform.labels.store.add_labels", store_in(taken))
    play = SimpleNamespace(world=world, stores=SimpleNamespace(tables="tables"), progress=lambda *_: None)
    import_labels(play, ["tunnel"])
    assert [entry.frame_hash for entry in taken] == [copies[world.judged_from]]


def test_cameras_of_other_classes_are_refused(folder: Path):
    (folder / "bridge" / "data.yaml").write_text("names: [car, bus]\n")
    with pytest.raises(BadInput, match="bridge has the classes car, bus, and tunnel has car, truck"):
        read_world(folder)


def test_live_pictures_are_a_second_apart_in_two_stretches_an_hour_apart(folder: Path, tmp_path: Path):
    world = read_world(folder)
    address = parse_address(lay_out_live(world, tmp_path / "home with space" / "tunnel"))
    names = image_names(address.path)
    times = [time_in_name(address, name) for name in names]
    assert times[0] == LIVE_SINCE
    assert times[21] == LIVE_SINCE + timedelta(seconds=21)
    assert times[22] == LIVE_SINCE + timedelta(hours=1)
    assert times[-1] == LIVE_SINCE + timedelta(hours=1, seconds=29)
    assert [name.split("_", 1)[1] for name in names] == list(world.names)


def test_laying_footage_out_again_touches_nothing(folder: Path, tmp_path: Path):
    world = read_world(folder)
    lay_out_live(world, tmp_path / "live")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "live").iterdir()}
    lay_out_live(world, tmp_path / "live")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "live").iterdir()} == before
