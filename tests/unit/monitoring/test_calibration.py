"""False alarms and power on made-up rows: the promise of one false alarm in a hundred windows, and what is found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest

from its_platform.monitoring import calibration, strata
from its_platform.monitoring.calibration import Calibrated

sys.path.insert(0, str(Path(__file__).parent))
import synthetic_log as synthetic

BLOCK_S = 20.0


def compare(reference: pd.DataFrame, window: pd.DataFrame, method: Literal["psi", "wasserstein"] = "psi") -> Calibrated:
    classes = strata.common_classes(reference)
    ours, theirs = strata.embeddings(window), strata.embeddings(reference)
    assert ours is not None
    assert theirs is not None
    return calibration.calibrate(
        strata.cells(window, reference, BLOCK_S),
        strata.figures(window, classes),
        strata.figures(reference, classes),
        (ours, theirs),
        method,
        splits=120,
    )


def score(found: Calibrated) -> float:
    return max(column.ratio for column in found.columns.values())


@pytest.mark.parametrize("method", ["psi", "wasserstein"])
def test_windows_under_unchanged_conditions_hardly_ever_alarm(method: Literal["psi", "wasserstein"]) -> None:
    alarms = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        alarms += score(compare(synthetic.held_out(rng), synthetic.live(rng, frames=20), method)) >= 1
    # One in a hundred is promised. benchmarks/drift_false_alarms.py counts over many more.
    assert alarms <= 1


@pytest.mark.parametrize(
    "change", [{"light": "night", "shift": -6.0, "missed": 0.5}, {"shift": 2.0}, {"traffic": 5.0}], ids=str
)
def test_a_clear_change_is_always_found(change: dict[str, object]) -> None:
    for seed in range(6):
        rng = np.random.default_rng(100 + seed)
        assert score(compare(synthetic.held_out(rng), synthetic.live(rng, **change))) >= 1


def test_a_cell_is_compared_with_its_own_camera_and_light_alone() -> None:
    rng = np.random.default_rng(1)
    reference = pd.concat(
        [synthetic.held_out(rng), synthetic.held_out(rng, light="night", shift=-6.0)], ignore_index=True
    )
    # Three quarters of the reference are day; a window that is all night is still no drift.
    found = strata.cells(synthetic.live(rng, light="night", shift=-6.0), reference, BLOCK_S)
    assert [cell.seen for cell in found] == ["matched"] * 3
    assert strata.unseen(found) == []
    for cell in found:
        rows = reference.iloc[cell.reference]
        assert set(rows["light"]) == {"night"}
        assert {f"camera={rows['camera_id'].iloc[0]} light=night"} == {cell.name}


def test_strata_and_cameras_without_reference_are_named() -> None:
    rng = np.random.default_rng(2)
    reference = synthetic.held_out(rng, cameras=("a", "b"))
    window = pd.concat(
        [synthetic.live(rng, cameras=("a",), light="dusk"), synthetic.live(rng, cameras=("new",))], ignore_index=True
    )
    found = strata.cells(window, reference, BLOCK_S)
    assert [(cell.name, cell.seen) for cell in found] == [
        ("camera=a light=dusk", "unseen"),
        ("camera=new light=day", "new_camera"),
    ]
    assert strata.unseen(found) == ["camera=a light=dusk", "camera=new light=day"]


def test_neighbouring_frames_stay_in_one_block() -> None:
    rng = np.random.default_rng(3)
    cell = strata.cells(synthetic.live(rng), synthetic.held_out(rng, blocks=8), BLOCK_S)[0]
    assert cell.units == 8
    assert np.bincount(cell.blocks).tolist() == [8] * 8


def test_fewer_blocks_make_wider_thresholds() -> None:
    rng = np.random.default_rng(4)
    few = compare(synthetic.held_out(rng, blocks=2), synthetic.live(rng))
    many = compare(synthetic.held_out(rng, blocks=12), synthetic.live(rng))
    assert few.allowance > many.allowance > 1
    assert few.columns["sharpness"].threshold > many.columns["sharpness"].threshold


def test_a_difference_below_the_resolution_is_no_drift_even_on_a_picture_that_never_changes() -> None:
    rng = np.random.default_rng(5)
    reference, window = synthetic.held_out(rng), synthetic.live(rng)
    reference["brightness"], window["brightness"] = 0.5, 0.505
    assert not compare(reference, window).columns["brightness"].is_drifted
    window["brightness"] = 0.6
    assert compare(reference, window).columns["brightness"].is_drifted


def test_a_rare_class_is_not_watched_by_itself() -> None:
    rng = np.random.default_rng(6)
    reference = synthetic.held_out(rng)
    reference["counts"] = [{**counts, "tram": int(i % 20 == 0)} for i, counts in enumerate(reference["counts"])]
    classes = strata.common_classes(reference)
    assert "tram" not in classes
    assert strata.figures(reference, classes)["count_rare"].sum() == sum(
        counts["tram"] for counts in reference["counts"]
    )


def test_pictures_that_were_not_embedded_are_left_out_of_the_comparison_of_embeddings() -> None:
    rng = np.random.default_rng(7)
    reference, window = synthetic.held_out(rng), synthetic.live(rng, shift=2.0)
    window["embedding"] = [vector if i % 3 else [] for i, vector in enumerate(window["embedding"])]
    found = compare(reference, window).columns["embedding"]
    assert np.isfinite(found.effect)
    assert found.is_drifted
