"""K of N windows, and pictures played for a reference."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from its_platform.monitoring.reference import held_out
from its_platform.monitoring.reports import DriftReport, Verdict
from its_platform.monitoring.windows import judge_windows

START = datetime(2026, 5, 1, tzinfo=UTC)


def report(number: int, verdict: Verdict, length: int = 1) -> DriftReport:
    since = START + timedelta(minutes=number)
    return DriftReport(
        id=f"r{number}-{length}",
        run_key=f"k{number}-{length}",
        model_version=1,
        since=since,
        until=since + timedelta(minutes=length),
        rows=100,
        score=None if verdict == "not_judged" else 2.0 if verdict == "drifted" else 0.5,
        threshold=1.0,
        is_drifted=verdict == "drifted",
        columns={},
        unseen_strata=[],
        verdict=verdict,
        reason="",
        html=None,
        created_at=since,
    )


@pytest.mark.parametrize(
    ("verdicts", "drifted", "is_drifted"),
    [
        ([], 0, False),
        (["drifted"], 1, False),
        (["drifted", "drifted"], 2, True),
        (["drifted", "drifted", "stable"], 2, True),
        (["drifted", "drifted", "stable", "stable"], 1, False),
        (["drifted", "not_judged", "drifted"], 2, True),
    ],
)
def test_k_of_the_last_n_judged_windows_are_needed(verdicts: list[Verdict], drifted: int, is_drifted: bool) -> None:
    state = judge_windows(1, [report(i, verdict) for i, verdict in enumerate(verdicts)], looked_at=3, needed=2)
    assert (state.drifted, state.is_drifted) == (drifted, is_drifted)


def test_a_window_that_overlaps_a_later_one_does_not_count_beside_it() -> None:
    known = [report(0, "drifted"), report(1, "drifted"), report(0, "drifted", length=3)]
    state = judge_windows(1, known, looked_at=3, needed=2)
    assert [window.id for window in state.windows] == ["r0-3"]
    assert not state.is_drifted


def test_the_drifted_windows_give_the_time_to_learn_from() -> None:
    state = judge_windows(1, [report(0, "drifted"), report(1, "stable"), report(2, "drifted")], 3, 2)
    assert (state.since, state.until) == (START, START + timedelta(minutes=3))


def manifest(rows: list[tuple[str, str, int | None]]) -> pd.DataFrame:
    times = [START + timedelta(seconds=i) if sequence is None else None for i, (_, _, sequence) in enumerate(rows)]
    return pd.DataFrame(
        {
            "split": [split for split, _, _ in rows],
            "camera_id": [camera for _, camera, _ in rows],
            "frame_hash": [f"h{i}" for i in range(len(rows))],
            "object_key": [f"frames/h{i}.jpg" for i in range(len(rows))],
            "light": "day",
            "weather": "clear",
            "captured_at": pd.to_datetime(times, utc=True),
            "sequence": pd.array([s for _, _, s in rows], dtype="Int64"),
        }
    )


def test_every_held_out_frame_is_played_and_none_that_was_learnt_from() -> None:
    rows = manifest([("train", "a", None), ("val", "b", None), ("test", "a", None), ("golden", "a", None)])
    assert [(f.camera_id, f.object_key) for f in held_out(rows)] == [
        ("a", "frames/h2.jpg"),
        ("a", "frames/h3.jpg"),
        ("b", "frames/h1.jpg"),
    ]
    assert held_out(rows)[0].captured_at == START + timedelta(seconds=2)


def test_frames_without_a_time_keep_their_order() -> None:
    found = held_out(manifest([("val", "a", 7), ("val", "a", 3)]))
    assert [f.object_key for f in found] == ["frames/h1.jpg", "frames/h0.jpg"]
    assert found[0].captured_at < found[1].captured_at


def test_a_large_held_out_set_is_thinned_evenly() -> None:
    found = held_out(manifest([("test", "a", None)] * 50), most=5)
    assert [f.object_key for f in found] == [f"frames/h{i}.jpg" for i in (0, 12, 24, 36, 49)]
