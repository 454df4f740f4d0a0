"""What people are shown says what was recorded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from its_platform.release.gates import GateResult
from its_platform.release.pictures import gates_markdown, timeline_markdown
from its_platform.release.truth import Release

PASSED = GateResult("accuracy_floor", "ap50", "golden", 0.81234, 0.5, 200, "passed", "fine")
FAILED = GateResult("slice_regression", "ap50_drop", "golden/light=night", 0.2, 0.03, 90, "failed", "worse | much")


def test_what_is_in_the_way_comes_first_with_its_numbers() -> None:
    lines = gates_markdown([PASSED, FAILED]).splitlines()
    assert lines[0] == "**Not passed**: 1 of 2 gates passed."
    assert lines[4].startswith("| ❌ failed | slice_regression | golden/light=night | 0.2 | 0.03 | 90 |")
    assert "| 0.8123 | 0.5 | 200 |" in lines[5]


def test_a_waived_gate_is_shown_as_waived_and_not_as_passed() -> None:
    text = gates_markdown([PASSED, FAILED], {FAILED.key})
    assert text.startswith("**Passed**: 1 of 2 gates passed.")
    assert "waived | slice_regression" in text


def test_a_bar_in_a_text_does_not_break_the_table() -> None:
    assert "worse \\| much" in gates_markdown([FAILED])


def test_nothing_judged_is_said() -> None:
    assert gates_markdown([]) == "*Not judged.*\n"


def test_the_timeline_tells_how_long_each_was_served() -> None:
    start = datetime(2024, 5, 1, 12, tzinfo=UTC)
    facts = {
        "stage": "production",
        "model_name": "m",
        "model": "d",
        "digest": "",
        "endpoint": "",
        "by": "ada",
        "why": "first",
        "fencing": 1,
        "evidence": {},
    }
    first = Release(id=1, version=1, since=start, until=start + timedelta(hours=3, minutes=5), **facts)
    second = Release(id=2, version=2, since=start + timedelta(hours=3, minutes=5), until=None, **facts)
    text = timeline_markdown([second, first], now=start + timedelta(days=2))
    assert "| production | 2 | 2024-05-01 15:05:00 | 1 d 20 h (now) | ada | first |" in text
    assert "| production | 1 | 2024-05-01 12:00:00 | 3 h 5 min | ada | first |" in text
