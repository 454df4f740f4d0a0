from __future__ import annotations

import contextlib
import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from its_platform.dataset.expectations import check_manifest
from its_platform.dataset.manifest import (
    COLUMNS,
    digest_of,
    manifest_bytes,
    read_manifest,
    read_rows,
    readme_bytes,
    statistics,
)
from its_platform.dataset.pictures import draw_summary
from its_platform.dataset.request import DatasetRequest
from its_platform.dataset.selection import slice_name
from its_platform.dataset.versions import DatasetVersion
from its_platform.errors import BadInput
from its_platform.settings import DatasetSettings

CLASSES = ("car", "bus")
json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(COLUMNS), inner, max_size=15),
    max_leaves=8,
)
MADE = DatasetVersion(
    "v1",
    "d",
    CLASSES,
    {},
    {},
    1,
    None,
    request={"spacing": {"block_s": 60, "guard_s": 2, "block_frames": 10, "guard_frames": 1}, "seed": 0},
)


def row(number: int, split: str, second: float, **changes: Any) -> dict[str, Any]:
    box = {"x1": 4.0, "y1": 4.0, "x2": 24.0, "y2": 24.0, "origin": "human", "review": "reviewed", "confidence": 1.0}
    return {
        "frame_hash": f"{number:064x}",
        "object_key": f"frames/{number}",
        "camera_id": "bridge",
        "captured_at": datetime.fromtimestamp(second, UTC).isoformat(),
        "sequence": None,
        "split": split,
        "light": "day",
        "weather": "clear",
        "slice": "day",
        "block": f"bridge/t{int(second // 60)}",
        "width": 64,
        "height": 48,
        "may_judge": True,
        "golden_since": 1 if split == "golden" else None,
        "boxes": [{"class_name": name, **box} for name in CLASSES],
        **changes,
    }


def rows() -> list[dict[str, Any]]:
    order = ("train", "val", "test", "golden")
    return [row(i, order[i // 12], 5.0 * i + 2.5) for i in range(48)]


def failures(changed: list[dict[str, Any]]) -> list[str]:
    result = check_manifest(read_manifest(manifest_bytes(changed)), MADE, DatasetSettings())
    assert result.passed == (not result.failures)
    return result.failures


def test_the_same_rows_in_any_order_give_the_same_bytes() -> None:
    shuffled = rows()
    random.Random(1).shuffle(shuffled)
    assert manifest_bytes(shuffled) == manifest_bytes(rows())
    assert digest_of(manifest_bytes(rows()), CLASSES) != digest_of(manifest_bytes(rows()), CLASSES[::-1])


def test_a_manifest_reads_back_with_times_numbers_and_boxes() -> None:
    table = read_manifest(manifest_bytes([row(1, "train", 0, sequence=7), row(2, "golden", 1.25)]))
    assert str(table["captured_at"].dt.tz) == "UTC"
    assert table["captured_at"][1].microsecond == 250000
    assert table["sequence"].notna().tolist() == [True, False]
    assert table["sequence"][0] == 7
    assert table["boxes"][0][0]["class_name"] == "car"
    with pytest.raises(BadInput, match="manifest"):
        read_manifest(b"{broken\n")


@st.composite
def any_rows(draw: Any) -> list[dict[str, Any]]:
    made = []
    for number in range(draw(st.integers(0, 6))):
        second = draw(st.floats(0, 4e9, allow_nan=False))
        sequence = draw(st.none() | st.integers(0, 2**40))
        name = draw(st.text(min_size=1, max_size=8))
        split = draw(st.sampled_from(["train", "val", "test", "golden"]))
        boxes = [{"class_name": name, "x1": draw(st.floats(allow_nan=False, allow_infinity=False))}]
        made.append(row(number, split, second, sequence=sequence, camera_id=name, boxes=boxes))
    return made


@given(any_rows(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_any_rows_come_back_as_they_were_and_their_order_does_not_change_the_digest(
    some: list[dict[str, Any]], order: random.Random
) -> None:
    data = manifest_bytes(some)
    back = read_rows(data)
    assert sorted(back, key=lambda one: one["frame_hash"]) == some
    order.shuffle(some)
    assert digest_of(manifest_bytes(some), CLASSES) == digest_of(data, CLASSES)
    assert manifest_bytes(back) == data


@given(st.integers(0), st.integers(1, 255))
@settings(max_examples=80, deadline=None)
def test_a_changed_byte_is_detected_and_reads_as_a_manifest_or_as_bad_input(place: int, change: int) -> None:
    whole = manifest_bytes(rows()[:6])
    data = bytearray(whole)
    data[place % len(data)] ^= change
    assert digest_of(bytes(data), CLASSES) != digest_of(whole, CLASSES)
    with contextlib.suppress(BadInput):
        read_manifest(bytes(data))


@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=80, deadline=None)
def test_any_bytes_are_a_manifest_or_bad_input(data: bytes) -> None:
    with contextlib.suppress(BadInput):
        read_manifest(data)


def test_a_sound_manifest_passes() -> None:
    assert failures(rows()) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda some: some.append(row(0, "golden", 700.0)), "frame_hash"),
        (lambda some: some[0].update(split="val"), "splits_of_block"),
        (lambda some: some.append(row(99, "golden", 59.0, block="bridge/other")), "is_guarded"),
        (lambda some: some[20].update(may_judge=False), "is_fit_for_split"),
        (lambda some: some[20]["boxes"][0].update(origin="model"), "is_fit_for_split"),
        (lambda some: some[0]["boxes"][0].update(class_name="tram"), "class_name"),
        (lambda some: some[0]["boxes"][0].update(x2=90.0), "outside_px"),
        (lambda some: some.__delitem__(slice(0, 5)), "train_frames"),
        (lambda some: some.__delitem__(slice(36, 48)), "golden_frames"),
        (lambda some: [one.update(boxes=one["boxes"][:1]) for one in some[:12]], "no box of class bus"),
    ],
)
def test_each_broken_rule_is_named(change: Any, told: str) -> None:
    some = rows()
    change(some)
    found = failures(some)
    assert any(told in failure for failure in found), found


def test_the_card_for_people_lists_splits_and_classes() -> None:
    card = {
        "name": "v1", "digest": "d", "classes": CLASSES, "previous": None, "golden": 1, "seed": 0,
        "spacing": MADE.request["spacing"], "statistics": statistics(rows()), "left_out": {"no labels": 3},
        "cameras": {"bridge": {"world": "real", "privacy": "faces_and_plates"}}, "licence": "CC BY 4.0",
    }  # fmt: skip
    text = readme_bytes(card).decode()
    assert "| train | 12 | 24 | day 12 | bridge 12 |" in text
    assert "| bus | 12 | 12 | 12 | 12 |" in text
    assert "3 frames: no labels" in text
    assert "- cameras: bridge (real, faces and plates hidden)" in text
    assert "- licence: CC BY 4.0" in text
    assert "(golden: " in text
    assert json.dumps(statistics(rows()))


def test_the_summary_is_a_picture() -> None:
    assert draw_summary(read_manifest(manifest_bytes(rows())), CLASSES, "v1").startswith(b"\x89PNG")


def test_a_slice_is_named_by_light_and_by_weather_that_is_not_clear() -> None:
    assert [slice_name("day", "clear"), slice_name("dusk", "unknown"), slice_name("night", "fog")] == [
        "day",
        "dusk",
        "night+fog",
    ]


def test_a_request_that_makes_no_sense_is_refused() -> None:
    noon, one = datetime(2026, 5, 1, 12, tzinfo=UTC), datetime(2026, 5, 1, 13, tzinfo=UTC)
    for wrong in (
        {"classes": ()},
        {"classes": ("car", "car")},
        {"classes": CLASSES, "window": (noon, one)},
        {"classes": CLASSES, "window": (one, noon), "previous": "v1"},
        {"classes": CLASSES, "since": datetime(2026, 5, 1)},  # noqa: DTZ001
    ):
        with pytest.raises(BadInput):
            DatasetRequest(**wrong)  # type: ignore[arg-type]
    assert DatasetRequest(CLASSES, cameras=()).cameras is None
