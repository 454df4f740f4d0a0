"""A drift report on real stores: what is judged, what is not, and that it is made once."""

from __future__ import annotations

import json
import sys
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from its_platform.errors import BadInput
from its_platform.monitoring import drift, pages, pictures, predictions
from its_platform.monitoring.reports import get_report, list_reports
from its_platform.monitoring.windows import drift_state, next_window
from its_platform.stores import Stores
from its_platform.telemetry import correlated

sys.path.insert(0, str(Path(__file__).parent))
import synthetic_log as synthetic

WINDOW = synthetic.START + timedelta(hours=2)


def log_rows(stores: Stores, rows: pd.DataFrame, stage: str = "production") -> None:
    """Put rows into the table by the way that the front's rows take."""
    spool = stores.settings.spool
    spool.mkdir(parents=True, exist_ok=True)
    lines = []
    for row in rows.to_dict("records"):
        row["at"] = row["at"].isoformat()
        row["logged_at"], row["model"], row["stage"] = row["at"], "detector-yolo-onnx-320", stage
        lines.append(json.dumps(row))
    (spool / f"predictions-{uuid.uuid4().hex}.jsonl").write_text("\n".join(lines) + "\n")
    predictions.collect(stores)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def test_an_unchanged_window_is_stable_and_night_is_drifted_and_named_as_unseen(
    stores: Stores, rng: np.random.Generator
) -> None:
    log_rows(stores, synthetic.held_out(rng))
    log_rows(stores, synthetic.live(rng))
    night = synthetic.live(rng, light="night", shift=-6.0, missed=0.5)
    night["at"] += timedelta(seconds=60)
    log_rows(stores, night)

    day = drift.report(stores, WINDOW, WINDOW + timedelta(seconds=60), version=1)
    assert (day.verdict, day.unseen_strata, day.rows) == ("stable", [], 90)
    assert day.score is not None
    assert day.score < 1

    with correlated(run="r-1"):
        dark = drift.report(stores, WINDOW + timedelta(seconds=60), WINDOW + timedelta(seconds=120), version=1)
    assert get_report(stores, dark.id).details["dagster_run"] == "r-1"
    assert "dagster_run" not in get_report(stores, day.id).details
    assert dark.verdict == "drifted"
    assert dark.score is not None
    assert dark.score > 3
    assert dark.unseen_strata == [f"camera={camera} light=night" for camera in "abc"]
    assert dark.columns["sharpness"]["drifted"]
    assert pictures.effects(dark).startswith(b"\x89PNG")
    assert pictures.history([day, dark]).startswith(b"\x89PNG")

    page = dark.html.read_text("utf-8") if dark.html else ""
    assert "PSI by camera and light" in page
    assert f"{round(dark.columns['sharpness']['effect'], 3)}" in page


def test_after_retraining_the_same_night_is_stable_against_a_reference_that_has_it(
    stores: Stores, rng: np.random.Generator
) -> None:
    log_rows(stores, synthetic.held_out(rng, version=2))
    log_rows(stores, synthetic.held_out(rng, version=2, light="night", shift=-6.0))
    log_rows(stores, synthetic.live(rng, version=2, light="night", shift=-6.0))
    report = drift.report(stores, WINDOW, WINDOW + timedelta(seconds=60), version=2)
    assert report.verdict == "stable"
    assert report.unseen_strata == []


def test_the_same_window_again_gives_the_same_report_and_no_second_run(
    stores: Stores, rng: np.random.Generator
) -> None:
    log_rows(stores, synthetic.held_out(rng))
    log_rows(stores, synthetic.live(rng))
    first = drift.report(stores, WINDOW, WINDOW + timedelta(seconds=60), version=1)
    again = drift.report(stores, WINDOW, WINDOW + timedelta(seconds=60), version=1)
    assert again == get_report(stores, first.id)
    assert again.id == first.id
    assert len(list_reports(stores)) == 1

    from evidently.ui.workspace import Workspace

    workspace = Workspace.create(str(stores.settings.evidently_workspace))
    projects = workspace.search_project(pages.PROJECT)
    assert len(projects) == 1
    assert workspace.list_runs(projects[0].id) == [pages.snapshot_id(first.id)]


def test_a_report_without_its_page_any_more_keeps_its_figures(stores: Stores, rng: np.random.Generator) -> None:
    log_rows(stores, synthetic.held_out(rng))
    log_rows(stores, synthetic.live(rng))
    made = drift.report(stores, WINDOW, WINDOW + timedelta(seconds=60), version=1)
    assert made.html is not None
    made.html.unlink()
    assert get_report(stores, made.id) == replace(made, html=None)


def test_too_few_rows_are_not_judged_with_the_number_that_is_missing(stores: Stores, rng: np.random.Generator) -> None:
    log_rows(stores, synthetic.held_out(rng))
    log_rows(stores, synthetic.live(rng, frames=5))
    report = drift.report(stores, WINDOW, WINDOW + timedelta(seconds=60), version=1)
    assert (report.verdict, report.score, report.html) == ("not_judged", None, None)
    assert report.reason == "The window has 15 live rows of version 1; 60 are needed."


def test_a_version_without_reference_is_not_judged(stores: Stores, rng: np.random.Generator) -> None:
    log_rows(stores, synthetic.live(rng))
    report = drift.report(stores, WINDOW, WINDOW + timedelta(seconds=60), version=1)
    assert report.verdict == "not_judged"
    assert "0 reference rows" in report.reason


def test_a_table_that_cannot_be_read_is_an_error_and_no_report(stores: Stores, rng: np.random.Generator) -> None:
    log_rows(stores, synthetic.live(rng))
    for commit in (predictions.table_path(stores) / "_delta_log").iterdir():
        commit.write_text("not json")
    with pytest.raises(predictions.LogUnreadable):
        drift.report(stores, WINDOW, WINDOW + timedelta(seconds=60), version=1)
    assert list_reports(stores) == []


def test_embeddings_of_different_embedders_are_never_compared(rng: np.random.Generator) -> None:
    live, reference = synthetic.live(rng), synthetic.held_out(rng)
    live["embedder"] = "sha256:bbbb"
    vectors, remark = drift.comparable_embeddings(live, reference)
    assert vectors is None
    assert "different embedders" in remark


def test_a_window_that_ends_before_it_begins_is_refused(stores: Stores) -> None:
    with pytest.raises(BadInput):
        drift.report(stores, WINDOW, WINDOW, version=1)


def test_windows_follow_each_other_and_are_due_when_they_have_ended(stores: Stores, rng: np.random.Generator) -> None:
    stores = type(stores)(
        stores.settings.model_copy(
            update={"drift": stores.settings.drift.model_copy(update={"window_s": 60.0, "windows": 2})}
        ),
        stores.objects,
        stores.database,
    )
    log_rows(stores, synthetic.held_out(rng))
    assert next_window(stores, 1) is None
    on_trial = synthetic.live(rng, frames=60)
    on_trial["at"] -= timedelta(seconds=300)
    log_rows(stores, on_trial, "canary")
    assert next_window(stores, 1) is None, "what a version answered as a canary begins no window"
    log_rows(stores, synthetic.live(rng, frames=45))
    window = next_window(stores, 1)
    assert window == (WINDOW, WINDOW + timedelta(seconds=60))
    drift.report(stores, *window, version=1)
    assert next_window(stores, 1) is None
    state = drift_state(stores, 1)
    assert (len(state.windows), state.drifted, state.is_drifted) == (1, 0, False)
