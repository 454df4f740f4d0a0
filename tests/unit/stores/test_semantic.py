"""Semantic versions follow from what changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from its_platform.stores.semantic import Contract, next_version, versions_of

FIRST = Contract(("car", "bus"), 320, "yolo", "v1", "aaaa")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"classes": ("car", "bus", "truck"), "weights": "bbbb"}, "3.0.0"),
        ({"classes": ("bus", "car"), "weights": "bbbb"}, "3.0.0"),
        ({"image_size": 640}, "3.0.0"),
        ({"dataset_version": "v2", "weights": "bbbb"}, "2.4.0"),
        ({"family": "rtdetr", "weights": "bbbb"}, "2.4.0"),
        ({"weights": "bbbb"}, "2.4.0"),
        ({"weights": ""}, "2.4.0"),
        ({}, "2.3.5"),
    ],
)
def test_each_change_has_its_place(changed: dict[str, object], expected: str) -> None:
    assert next_version([("2.3.4", FIRST)], replace(FIRST, **changed)) == expected  # type: ignore[arg-type]


def test_the_first_is_one() -> None:
    assert next_version([], FIRST) == "1.0.0"


def test_weights_exported_anew_after_others_came_are_a_patch_of_their_own_version() -> None:
    trained = [replace(FIRST, weights=name) for name in ("aaaa", "bbbb")]
    anew, another = replace(FIRST, weights="aaaa"), replace(FIRST, weights="cccc")
    assert versions_of([*trained, anew, anew, another]) == ["1.0.0", "1.1.0", "1.0.1", "1.0.2", "1.2.0"]


def test_a_history_is_numbered_from_the_first() -> None:
    again, other = replace(FIRST, weights="aaaa"), replace(FIRST, weights="bbbb")
    assert versions_of([FIRST, again, other, replace(other, image_size=640)]) == ["1.0.0", "1.0.1", "1.1.0", "2.0.0"]
