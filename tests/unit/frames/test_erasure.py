"""What goes on after the frames of a camera and day were erased, and what is told of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from its_platform.cameras import add_camera
from its_platform.cameras.registry import make_camera
from its_platform.cli import main
from its_platform.errors import NotFound
from its_platform.frames import ingest as ingesting
from its_platform.frames.erasure import erase, not_erased, object_keys, without_erased
from its_platform.frames.expectations import _check_objects
from its_platform.frames.index import FrameIndex
from its_platform.frames.ingest import ingest, load_jpeg
from its_platform.stores import Stores
from its_platform.stores.keys import KeyDestroyed, Owner
from its_platform.stores.object_store import ObjectDamaged
from its_platform.stores.objects import open_keys
from tests.unit.dataset import footage

NIGHT = datetime(2026, 5, 1, 23, 59, 57, tzinfo=UTC)
FIRST = Owner("north", NIGHT.date())
SECOND = Owner("north", NIGHT.date() + timedelta(days=1))


@pytest.fixture
def north(stores: Stores) -> Stores:
    """A camera with two frames before midnight and two after it."""
    footage.add_frames(stores, "north", (0, 2, 4, 6), start=NIGHT)
    return stores


def test_only_the_frames_of_that_day_are_erased(north: Stores) -> None:
    done = erase(north, open_keys(north.settings), FIRST, "a person")
    assert (done.frames, not_erased(north, done)) == (2, [])
    rows = FrameIndex(north).query()
    kept, erased = without_erased(north, rows)
    assert dict(erased) == {FIRST: 2}
    assert list(kept["captured_at"]) == list(rows["captured_at"][2:])
    for key in kept["object_key"]:
        load_jpeg(north, key)
    for key in rows["object_key"][:2]:
        with pytest.raises(KeyDestroyed, match="north/2026-05-01"):
            load_jpeg(north, key)


def test_the_same_picture_of_another_camera_stays(north: Stores) -> None:
    row = FrameIndex(north).query().iloc[0]
    picture = load_jpeg(north, row.object_key)
    owner = Owner("south", FIRST.day)
    key = ingesting.object_key(owner, row.frame_hash)
    north.objects.put(key, picture, owner)
    footage.add_frames(north, "south", ())
    erase(north, open_keys(north.settings), FIRST, "a person")
    assert load_jpeg(north, key) == picture


def test_a_picture_is_found_at_the_camera_where_it_can_be_read(north: Stores) -> None:
    hashes = list(FrameIndex(north).query()["frame_hash"])
    assert set(object_keys(north, hashes)) == set(hashes)
    erase(north, open_keys(north.settings), FIRST, "a person")
    assert set(object_keys(north, hashes[2:])) == set(hashes[2:])
    with pytest.raises(NotFound, match="erased are 2 of north on 2026-05-01"):
        object_keys(north, hashes)


def test_frames_that_were_stored_unsealed_are_named(north: Stores) -> None:
    key = FrameIndex(north).query()["object_key"][0]
    picture = load_jpeg(north, key)
    north.objects.inner.put(key, picture)
    assert load_jpeg(north, key) == picture
    assert not_erased(north, erase(north, open_keys(north.settings), FIRST, "a person")) == [key]


def test_frames_that_cannot_be_looked_at_are_named_too(north: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = FrameIndex(north).query()["object_key"][0]
    get = type(north.objects.inner).get

    def checked(self: object, key: str) -> bytes:
        if key == damaged:
            raise ObjectDamaged(f"The object {key} does not have the checksum that it was stored with.")
        return get(self, key)  # type: ignore[arg-type]

    monkeypatch.setattr(type(north.objects.inner), "get", checked)
    assert not_erased(north, erase(north, open_keys(north.settings), FIRST, "a person")) == [damaged]


def test_the_check_of_frames_tells_erased_ones_and_does_not_fail_for_them(north: Stores) -> None:
    erase(north, open_keys(north.settings), FIRST, "a person")
    result = _check_objects(north, FrameIndex(north).query())
    assert result.passed
    assert result.statistics == {"objects_checked": 2, "objects_wrong": 0, "erased": "2 of north on 2026-05-01"}


def test_an_object_that_is_another_picture_is_damaged(north: Stores) -> None:
    keys = list(FrameIndex(north).query()["object_key"])
    north.objects.put(keys[0], load_jpeg(north, keys[1]), FIRST)
    with pytest.raises(ObjectDamaged, match="does not hold what its name says"):
        load_jpeg(north, keys[0])


def test_footage_of_a_time_that_was_erased_is_not_taken_in_again(
    stores: Stores, tmp_path: Path, write_video: object
) -> None:
    path = write_video(tmp_path / "a.mp4", frames=60)  # type: ignore[operator]
    source = f"file://{path}?start=2026-05-01T23:59:57Z"
    add_camera(stores, make_camera("north", source, sample_interval_s=0.5))
    until = datetime(2026, 5, 1, 23, 59, 58, tzinfo=UTC)
    assert ingest(stores, "north", until=until).added == 2
    erase(stores, open_keys(stores.settings), FIRST, "a person")
    result = ingest(stores, "north")
    assert (result.added, result.erased, result.known) == (6, 6, 0)
    assert "6 of north on 2026-05-01" in result.warnings[-1]
    assert all(Owner.of("north", at) == SECOND for at in FrameIndex(stores).query()["captured_at"][2:])


def its(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


def test_the_command_asks_first_and_says_what_it_erased(
    north: Stores, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ITS_DATABASE_URL", str(north.settings.database_url))
    words = ("keys", "destroy", "--camera", "north", "--day", "2026-05-01", "--json")
    assert its(*words) == 1
    assert without_erased(north, FrameIndex(north).query())[1].total() == 0
    capsys.readouterr()
    assert its(*words, "--yes", "--why", "asked for") == 0
    assert json.loads(capsys.readouterr().out) == {"erased": "north/2026-05-01", "frames": 2, "unsealed": []}
    assert [one.why for one in open_keys(north.settings).facts() if one.state == "destroyed"] == ["asked for"]
    assert its(*words[:3], "nobody", *words[4:], "--yes") == 1
    assert "There is no key nobody/2026-05-01" in capsys.readouterr().err
