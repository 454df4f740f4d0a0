"""Dataset versions on the real stores: PostgreSQL, Delta tables, git and DVC."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from sqlalchemy.engine import make_url

from its_platform.dataset import (
    DatasetRequest,
    NoReviewedLabels,
    build_dataset,
    current_golden,
    golden_manifest,
    latest,
    list_versions,
    load_manifest,
    materialise_yolo,
    record_use,
    sample_window,
)
from its_platform.dataset.build import TooFewBlocks
from its_platform.dataset.golden import golden_sets
from its_platform.dataset.pull import Pulled, pull_versions
from its_platform.dataset.selection import place_of
from its_platform.dataset.splits import JUDGES, Spacing, guard_breaches
from its_platform.dataset.versions import DatasetDamaged, FramesErased, prove_frames, version_bytes
from its_platform.errors import BadInput, NotFound
from its_platform.frames.erasure import erase
from its_platform.stores import Stores, open_stores
from its_platform.stores import versions as repository
from its_platform.stores.data_remote import open_remote
from its_platform.stores.database import create_database, dispose_engines
from its_platform.stores.keys import Owner
from its_platform.stores.objects import open_keys
from tests.integration.trail import said
from tests.unit.dataset import footage

pytestmark = pytest.mark.services
DAY = tuple(range(0, 600, 5))


CLASSES = footage.CLASSES


@pytest.fixture(autouse=True)
def folder_for_dvc(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Versions in a plain folder, but for tests marked `slow`: DVC takes seconds a call and has tests of its own."""
    if request.node.get_closest_marker("slow"):
        return
    held: dict[str, dict[str, bytes]] = {}

    def commit_version(_: object, name: str, files: dict[str, bytes], message: str) -> str:
        if held.setdefault(name, dict(files)) != dict(files):
            raise BadInput(f"{name} is taken")
        return message

    def checkout(_: object, name: str, folder: Path) -> Path:
        folder.mkdir(parents=True)
        for path, data in held[name].items():
            (folder / path).write_bytes(data)
        return folder

    monkeypatch.setattr(repository, "commit_version", commit_version)
    monkeypatch.setattr(repository, "push", lambda *_: 0)
    monkeypatch.setattr(repository, "list_versions", lambda _: list(held))
    monkeypatch.setattr(repository, "checkout", checkout)


@pytest.fixture
def day(stores: Stores) -> Stores:
    for camera in ("bridge", "junction"):
        footage.label(stores, footage.add_frames(stores, camera, DAY))
    return stores


def splits(stores: Stores, name: str) -> dict[str, str]:
    table = load_manifest(stores, name)
    return dict(zip(table["frame_hash"], table["split"], strict=True))


def test_a_version_has_every_split_of_every_camera_and_leaks_nothing(day: Stores) -> None:
    made = build_dataset(day, DatasetRequest(CLASSES))
    table = load_manifest(day, made.name)
    assert (made.name, made.golden, made.previous) == ("v1", 1, None)
    assert {(row.camera_id, row.split) for row in table.itertuples()} == {
        (camera, split) for camera in ("bridge", "junction") for split in ("train", "val", "test", "golden")
    }
    assert table["frame_hash"].is_unique
    assert table.groupby("block")["split"].nunique().max() == 1
    rows = table.to_dict("records")
    spacing = Spacing(60, 2, 10, 1)
    assert guard_breaches([place_of(row) for row in rows], splits(day, "v1"), spacing) == []
    assert made.counts == table["split"].value_counts().to_dict()
    assert set(made.boxes.values()) == {2 * number for number in made.counts.values()}


@pytest.mark.slow
def test_the_same_request_and_content_give_the_same_version(day: Stores) -> None:
    first = build_dataset(day, DatasetRequest(CLASSES))
    again = build_dataset(day, DatasetRequest(CLASSES))
    assert first.is_new
    assert not again.is_new
    assert again == first
    assert latest(day) == first
    assert [one for one in said(day) if one[0].startswith("dataset.")] == [("dataset.built", "v1", "done")]


def test_an_extension_moves_no_frame_and_keeps_the_golden_set(day: Stores) -> None:
    build_dataset(day, DatasetRequest(CLASSES))
    before = splits(day, "v1")
    more = footage.add_frames(day, "bridge", range(600, 1200, 5))
    footage.label(day, more)
    second = build_dataset(day, DatasetRequest(CLASSES, previous="v1"))
    after = splits(day, "v2")
    assert {frame: after[frame] for frame in before} == before
    assert second.golden == 1
    assert set(after) & set(more)
    assert {frame for frame, split in after.items() if split == "golden"} == {
        frame for frame, split in before.items() if split == "golden"
    }


def test_a_drifted_window_grows_the_golden_set_by_its_slice(day: Stores) -> None:
    build_dataset(day, DatasetRequest(CLASSES))
    before = splits(day, "v1")
    since, until = footage.START + timedelta(hours=12), footage.START + timedelta(hours=13)
    night = [
        frame
        for camera in ("bridge", "junction")
        for frame in footage.add_frames(day, camera, range(0, 900, 5), light="night", weather="fog", start=since)
    ]
    drawn = sample_window(day, since, until, n=120)
    assert len(drawn) == 120
    assert drawn == sample_window(day, since, until, n=120)
    request = DatasetRequest(CLASSES, previous="v1", window=(since, until), sample=tuple(drawn))
    with pytest.raises(NoReviewedLabels):
        build_dataset(day, request)
    footage.label(day, drawn)
    made = build_dataset(day, request)
    after = splits(day, made.name)
    assert {frame: after[frame] for frame in before} == before
    assert made.golden == 2
    golden = current_golden(day, CLASSES)
    assert golden is not None
    assert golden.slice_names == ("day", "night+fog")
    grown = golden_manifest(day, 2)
    assert set(golden_manifest(day, 1)["frame_hash"]) < set(grown["frame_hash"])
    new = {frame: split for frame, split in after.items() if frame not in before}
    assert set(new) <= set(drawn) <= set(night)
    judging = sum(split in ("golden", "test") for split in new.values()) / len(new)
    assert 0.25 <= judging <= 0.55
    assert "val" in new.values()


def test_the_latest_blocks_of_a_window_judge_and_all_earlier_ones_teach_where_the_policy_says_so(day: Stores) -> None:
    build_dataset(day, DatasetRequest(CLASSES))
    since = footage.START + timedelta(hours=12)
    night = footage.add_frames(day, "bridge", [*range(0, 180, 5), *range(600, 840, 5)], light="night", start=since)
    footage.label(day, night)
    window = (since, since + timedelta(hours=1))
    stores = replace(
        day,
        settings=day.settings.model_copy(
            update={"retraining": day.settings.retraining.model_copy(update={"judge_share": 48 / 84})}
        ),
    )
    made = build_dataset(stores, DatasetRequest(CLASSES, previous="v1", window=window, judge_blocks="latest"))
    given = splits(day, made.name)
    assert {given[frame] for frame in night[:36]} == {"train"}
    assert {given[frame] for frame in night[36:]} == {"golden"}


def test_a_models_boxes_never_judge_and_teach_only_when_asked(day: Stores) -> None:
    build_dataset(day, DatasetRequest(CLASSES))
    guessed = footage.add_frames(day, "bridge", range(600, 1200, 5))
    footage.label(day, guessed, origin="model", review="unreviewed")
    assert not set(splits(day, build_dataset(day, DatasetRequest(CLASSES, previous="v1")).name)) & set(guessed)
    accepted = footage.add_frames(day, "junction", range(600, 1200, 5))
    footage.label(day, accepted, origin="model", review="reviewed")
    made = build_dataset(day, DatasetRequest(CLASSES, previous="v1", include_model_labels=True))
    table = load_manifest(day, made.name)
    origins = {(row.split in JUDGES, box["origin"]) for row in table.itertuples() for box in row.boxes}
    assert origins == {(True, "human"), (False, "human"), (False, "model")}
    assert set(guessed) <= set(table["frame_hash"])


def test_a_frame_in_which_a_class_was_never_looked_for_is_left_out(day: Stores) -> None:
    partial = footage.add_frames(day, "bridge", range(600, 700, 5))
    footage.label(day, partial, classes=("car",))
    made = build_dataset(day, DatasetRequest(CLASSES))
    assert not set(load_manifest(day, made.name)["frame_hash"]) & set(partial)


def test_relabelled_frames_supersede_for_teaching_and_stay_as_they_were_in_the_golden_set(day: Stores) -> None:
    build_dataset(day, DatasetRequest(CLASSES))
    old = load_manifest(day, "v1")
    footage.label(day, list(old["frame_hash"]), x=9)
    made = build_dataset(day, DatasetRequest(CLASSES, previous="v1"))
    assert made.name == "v2"
    left = {(row.split == "golden", row.boxes[0]["x1"]) for row in load_manifest(day, "v2").itertuples()}
    assert left == {(True, 4.0), (False, 9.0)}
    assert {row.boxes[0]["x1"] for row in load_manifest(day, "v1").itertuples()} == {4.0}


def test_a_fresh_version_never_teaches_what_is_golden(day: Stores) -> None:
    build_dataset(day, DatasetRequest(CLASSES))
    golden = set(golden_manifest(day, 1)["frame_hash"])
    footage.label(day, footage.add_frames(day, "tunnel", DAY))
    fresh = splits(day, build_dataset(day, DatasetRequest(CLASSES)).name)
    assert {fresh[frame] for frame in golden} == {"golden"}
    other = splits(day, build_dataset(day, DatasetRequest(("truck", "car"))).name)
    assert not golden & set(other)


def test_nothing_reviewed_is_waiting_for_labels_and_too_little_footage_says_so(stores: Stores) -> None:
    frames = footage.add_frames(stores, "bridge", range(0, 50, 5))
    with pytest.raises(NoReviewedLabels, match="no labels"):
        build_dataset(stores, DatasetRequest(CLASSES))
    footage.label(stores, frames)
    with pytest.raises(TooFewBlocks, match="val and golden"):
        build_dataset(stores, DatasetRequest(CLASSES))
    assert latest(stores) is None


@pytest.mark.slow
def test_a_build_killed_before_it_was_recorded_is_taken_over(day: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("its_platform.dataset.build.write_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            build_dataset(day, DatasetRequest(CLASSES))
    assert latest(day) is None
    made = build_dataset(day, DatasetRequest(CLASSES))
    assert made.name == "v1"
    assert repository.list_versions(day.settings) == ["v1"]
    footage.label(day, footage.add_frames(day, "tunnel", DAY))
    assert build_dataset(day, DatasetRequest(CLASSES)).name == "v2"


@pytest.mark.slow
def test_the_manifest_comes_from_the_data_repository_and_damage_is_seen(day: Stores) -> None:
    made = build_dataset(day, DatasetRequest(CLASSES))
    cache = day.settings.home / "cache"
    whole = load_manifest(day, made.name)
    manifest = next(cache.rglob("manifest.jsonl"))
    manifest.write_bytes(manifest.read_bytes()[:-100])
    assert load_manifest(day, made.name).equals(whole)
    shutil.rmtree(cache)
    assert load_manifest(day, made.name).equals(whole)
    with day.database.session() as session:
        from its_platform.stores.schema import DatasetVersionRow

        row = session.get(DatasetVersionRow, made.name)
        assert row is not None
        row.digest = "0" * 64
    with pytest.raises(DatasetDamaged):
        load_manifest(day, made.name)


def test_a_trainer_gets_train_val_and_test_and_never_the_golden_set(day: Stores, tmp_path: Path) -> None:
    made = build_dataset(day, DatasetRequest(CLASSES))
    folder = materialise_yolo(day, made, load_manifest(day, made.name), tmp_path / "yolo")
    described = yaml.safe_load((folder / "data.yaml").read_text())
    assert described["names"] == {0: "car", 1: "truck"}
    assert described["path"] == str(folder)
    found = {path.stem: path.parent.name for path in folder.glob("images/*/*.jpg")}
    assert found == {frame: split for frame, split in splits(day, made.name).items() if split != "golden"}
    lines = next(folder.glob("labels/train/*.txt")).read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1"]
    assert float(lines[0].split()[1]) * footage.WIDTH == pytest.approx(14, abs=0.01)
    assert materialise_yolo(day, made, load_manifest(day, made.name), tmp_path / "yolo") == folder
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "data.yaml").write_text("names: [mine]")
    with pytest.raises(BadInput, match="something else"):
        materialise_yolo(day, made, load_manifest(day, made.name), tmp_path / "taken")
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["data.yaml"]


def test_each_use_of_a_golden_set_is_counted(day: Stores) -> None:
    build_dataset(day, DatasetRequest(CLASSES))
    assert record_use(day, 1, 1, "gate") == 1
    assert record_use(day, 1, 2, "gate") == 2


@pytest.fixture
def new_machine(day: Stores) -> Iterator[Stores]:
    """An empty home and database that know the first machine's remote and its object store, and nothing else of it."""
    first = day.settings
    own = first.model_copy(
        update={
            "home": first.home.with_name("new-home"),
            "database_url": make_url(f"{first.database_url}")
            .set(database=f"t{uuid4().hex[:10]}")
            .render_as_string(False),
            "data_remote": open_remote(first).name,
            "objects_url": f"file://{first.home / 'objects'}",
            "objects": first.objects.model_copy(update={"keys": first.home / "keys"}),
        }
    )
    create_database(own, "its", template="template_its")
    yield open_stores(own)
    dispose_engines()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_new_machine_gets_every_version_and_frame_bit_for_bit(day: Stores, new_machine: Stores) -> None:
    build_dataset(day, DatasetRequest(CLASSES))
    footage.label(day, footage.add_frames(day, "tunnel", DAY))
    build_dataset(day, DatasetRequest(CLASSES, previous="v1"))
    frames = sum(len(load_manifest(day, name)) for name in ("v1", "v2"))
    assert pull_versions(new_machine) == Pulled(("v1", "v2"), frames)
    assert list_versions(new_machine) == [
        replace(one, created_at=there.created_at)
        for one, there in zip(list_versions(day), list_versions(new_machine), strict=True)
    ]
    for made in list_versions(day):
        here, there = version_bytes(day, made), version_bytes(new_machine, made)
        assert {n: sha256(d).hexdigest() for n, d in there.items()} == {
            n: sha256(d).hexdigest() for n, d in here.items()
        }
    assert golden_manifest(new_machine, 2).equals(golden_manifest(day, 2))
    assert [one.digest for one in golden_sets(new_machine)] == [one.digest for one in golden_sets(day)]
    assert pull_versions(new_machine) == Pulled((), frames)
    assert said(new_machine) == [("dataset.pulled", "v1", "done"), ("dataset.pulled", "v2", "done")]
    # What is built here goes on where the other machine stopped.
    for stores in (new_machine, day):
        footage.label(stores, footage.add_frames(stores, "harbour", DAY))
    assert build_dataset(new_machine, DatasetRequest(CLASSES, previous="v2")).name == "v3"
    assert pull_versions(day).new == ("v3",)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_frame_that_the_object_store_lost_or_changed_stops_a_pull(day: Stores, new_machine: Stores) -> None:
    build_dataset(day, DatasetRequest(CLASSES))
    key = load_manifest(day, "v1")["object_key"][3]
    whole = day.objects.get(key)
    day.objects.put(key, whole[:-1])
    with pytest.raises(DatasetDamaged, match=key):
        pull_versions(new_machine)
    day.objects.delete(key)
    with pytest.raises(NotFound, match=key):
        pull_versions(new_machine)
    assert list_versions(new_machine) == []
    day.objects.put(key, whole)
    assert pull_versions(new_machine).new == ("v1",)


def test_frames_that_were_erased_are_left_out_of_what_is_built_and_of_what_was(
    day: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    made = build_dataset(day, DatasetRequest(CLASSES))
    whole = load_manifest(day, made.name)
    owner = Owner("junction", footage.START.date())
    lost = int((whole["camera_id"] == owner.camera_id).sum())
    assert 0 < lost < len(whole)
    erase(day, open_keys(day.settings), owner, "a person")
    rest = load_manifest(day, made.name)
    assert len(rest) == len(whole) - lost
    (line,) = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert line["dataset"] == "v1"
    assert line["erased"] == f"{lost} of junction on 2026-05-01"
    with pytest.raises(FramesErased, match=f"{lost} of junction on 2026-05-01"):
        prove_frames(day, whole)
    assert prove_frames(day, rest) == len(rest)
    again = build_dataset(day, DatasetRequest(CLASSES, previous="v1"))
    assert again.name == "v2"
    assert owner.camera_id not in set(load_manifest(day, "v2")["camera_id"])
    assert set(golden_manifest(day, again.golden or 0)["camera_id"]) == set(rest["camera_id"])
