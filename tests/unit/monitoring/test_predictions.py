"""The log of predictions: each row once, nothing lost, and an unreadable table is never an empty one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from its_platform.monitoring import predictions
from its_platform.stores import Stores

AT = datetime(2026, 5, 1, 23, 59, 30, tzinfo=UTC)


def line(at: datetime = AT, **changed: Any) -> str:
    row = {
        "at": at.isoformat(),
        "logged_at": (at + timedelta(seconds=1)).isoformat(),
        "camera_id": "junction",
        "model": "detector-yolo-onnx-320",
        "version": 1,
        "stage": "production",
        "purpose": "live",
        "counts": {"car": 2, "bus": 0},
        "n": 2,
        "mean_confidence": None,
        "confidences": [0.9, 0.4, 0.02],
        "box_areas": [0.1, 0.2],
        "brightness": 0.5,
        "embedding": None,
        **changed,
    }
    return json.dumps(row)


def spool(stores: Stores, name: str, *lines: str) -> Path:
    folder = stores.settings.spool
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text("".join(text + "\n" for text in lines))
    return file


def test_rows_enter_the_table_and_the_file_goes(stores: Stores) -> None:
    file = spool(stores, "predictions-a.jsonl", line(), line(AT + timedelta(minutes=1), purpose="reference"))
    assert predictions.waiting_rows(stores.settings) == 2
    assert predictions.collect(stores) == 2
    assert not file.exists()
    assert predictions.waiting_rows(stores.settings) == 0
    rows = predictions.query(stores)
    assert list(rows["day"]) == ["2026-05-01", "2026-05-02"]
    assert rows["counts"][0] == {"car": 2, "bus": 0}
    assert list(rows["confidences"][0]) == pytest.approx([0.9, 0.4, 0.02])
    assert len(rows["embedding"][0]) == 0


def test_a_crash_between_the_commit_and_the_removal_adds_nothing_twice(stores: Stores) -> None:
    file = spool(stores, "predictions-a.jsonl", line())
    content = file.read_text()
    assert predictions.collect(stores) == 1
    file.write_text(content)
    spool(stores, "predictions-b.jsonl", line(AT + timedelta(seconds=2)))
    assert predictions.collect(stores) == 1
    assert not file.exists()
    assert predictions.query(stores)["row_key"].tolist() == ["predictions-a.jsonl:1", "predictions-b.jsonl:1"]


def test_a_request_that_was_sent_again_is_one_row_wherever_the_second_one_was_logged(stores: Stores) -> None:
    spool(stores, "predictions-a.jsonl", line(request="r1/0"), line(request="r1/1"), line(request="r2/0"), line())
    spool(stores, "predictions-b.jsonl", line(request="r1/0"), line(request="r1/1"))
    assert predictions.collect(stores) == 4
    late = spool(stores, "predictions-c.jsonl", line(request="r2/0"), line(request="r3/0"), line())
    assert predictions.collect(stores) == 2
    assert not late.exists()
    assert len(predictions.query(stores)) == 6


def test_a_file_that_is_still_written_is_left_alone(stores: Stores) -> None:
    file = spool(stores, "predictions-a.jsonl.part", line())
    assert predictions.collect(stores) == 0
    assert file.exists()


def test_a_broken_line_is_set_aside_with_its_reason_and_the_others_enter(
    stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    spool(stores, "predictions-a.jsonl", line(), '{"at": "2026-', line(version="two"), line(AT + timedelta(seconds=2)))
    assert predictions.collect(stores) == 2
    assert predictions.refused_lines(stores) == 2
    aside = (stores.settings.spool / "refused" / "predictions-a.jsonl").read_text().splitlines()
    assert [json.loads(text)["line"] for text in aside] == [2, 3]
    assert json.loads(aside[0])["text"] == '{"at": "2026-'
    (told,) = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert (told["file"], told["lines"], told["first_line"]) == ("predictions-a.jsonl", 2, 2)


def test_rows_are_found_by_half_open_time_camera_purpose_and_version(stores: Stores) -> None:
    spool(
        stores,
        "predictions-a.jsonl",
        line(),
        line(AT + timedelta(seconds=10), camera_id="motorway"),
        line(AT + timedelta(seconds=20), version=2),
        line(AT + timedelta(seconds=60), purpose="reference"),
    )
    predictions.collect(stores)
    assert len(predictions.query(stores, AT, AT + timedelta(seconds=20))) == 2
    assert len(predictions.query(stores, AT, AT + timedelta(seconds=20, microseconds=1))) == 3
    assert predictions.query(stores, cameras=["motorway"], columns=["camera_id"])["camera_id"].tolist() == ["motorway"]
    assert len(predictions.query(stores, purpose="reference", version=1)) == 1
    assert len(predictions.query(stores, purpose="live", version=2)) == 1


def test_a_table_that_does_not_exist_yet_is_empty_and_has_its_columns(stores: Stores) -> None:
    rows = predictions.query(stores, columns=["at", "n"])
    assert rows.empty
    assert list(rows.columns) == ["at", "n"]
    assert predictions.collect(stores) == 0


def test_a_table_whose_log_is_gone_is_an_error(stores: Stores) -> None:
    folder = predictions.table_path(stores)
    folder.mkdir(parents=True)
    (folder / "part-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(predictions.LogUnreadable):
        predictions.query(stores)
    file = spool(stores, "predictions-a.jsonl", line())
    with pytest.raises(predictions.LogUnreadable):
        predictions.collect(stores)
    assert file.exists()


def test_rows_that_the_front_lost_are_counted_as_it_counted_them(stores: Stores) -> None:
    assert predictions.lost_rows(stores) == 0
    stores.settings.spool.mkdir(parents=True)
    (stores.settings.spool / "lost.json").write_text('{"lost": 4, "reasons": {"spool is full": 3, "OSError": 1}}')
    assert predictions.lost_rows(stores) == 4
