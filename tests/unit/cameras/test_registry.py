"""The registry of cameras."""

from __future__ import annotations

from pathlib import Path

import pytest

from its_platform.cameras import Camera, add_camera, get_camera, list_cameras, remove_camera
from its_platform.cameras.registry import make_camera
from its_platform.errors import BadInput, NotFound
from its_platform.stores import Stores


def test_a_camera_comes_back_as_it_was_entered(stores: Stores) -> None:
    camera = make_camera(
        "fork.day", "sim://junction", site="A 7", privacy="faces_and_plates", sample_interval_s=0.5, enabled=False
    )
    assert add_camera(stores, camera)
    assert get_camera(stores, "fork.day") == camera
    assert list_cameras(stores) == [camera]
    assert list_cameras(stores, enabled_only=True) == []


def test_the_same_camera_again_changes_nothing_and_another_under_its_name_is_refused(stores: Stores) -> None:
    camera = make_camera("a", "sim://junction")
    assert add_camera(stores, camera)
    assert not add_camera(stores, camera)
    other = make_camera("a", "sim://motorway")
    with pytest.raises(BadInput, match="another camera 'a'"):
        add_camera(stores, other)
    add_camera(stores, other, replace=True)
    assert get_camera(stores, "a").source == "sim://motorway"


def test_an_unknown_camera_is_told_with_the_known_ones(stores: Stores) -> None:
    add_camera(stores, make_camera("known", "sim://junction"))
    with pytest.raises(NotFound, match="known"):
        get_camera(stores, "unknown")
    with pytest.raises(NotFound):
        remove_camera(stores, "unknown")


def test_a_removed_camera_is_gone(stores: Stores) -> None:
    add_camera(stores, make_camera("a", "sim://junction"))
    remove_camera(stores, "a")
    assert list_cameras(stores) == []


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "a..b", "ä", "a" * 64, "a/b"])
def test_a_name_that_could_not_be_a_path_or_a_key_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="camera_id"):
        make_camera(name, "sim://junction")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("file:///footage/a.mp4?strat=2026-05-01T08:00:00Z", "no option 'strat'.*start, weather"),
        ("folder:///footage/a?pattern=x&start=2026-05-01T08:00:00Z", "no option 'pattern'.*time, format"),
        ("folder:///footage/a?time=(x", "not a regular expression"),
    ],
)
def test_an_option_that_no_reader_asks_for_is_refused(source: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        make_camera("a", source)


def test_a_video_has_no_names_to_find_times_in(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"footage")
    with pytest.raises(BadInput, match="no option 'time'"):
        make_camera("a", f"file://{tmp_path}/a.mp4?time=x")
    assert make_camera("a", f"file://{tmp_path}/later?time=x").address.options == {"time": "x"}


@pytest.mark.parametrize(
    "policy", [{"sample_interval_s": -1}, {"sample_interval_s": float("nan")}, {"privacy": "some"}]
)
def test_a_policy_that_means_nothing_is_refused_by_name(policy: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=next(iter(policy))):
        make_camera("a", "sim://junction", **policy)


def test_a_camera_cannot_be_changed_in_place() -> None:
    camera = Camera(camera_id="a", source="sim://junction")
    with pytest.raises(ValueError):
        camera.source = "sim://motorway"  # type: ignore[misc]
