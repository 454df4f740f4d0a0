"""The two accidents that `its demo release` stages do what they are meant to, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from its_platform.demo.accidents import blind_elsewhere, permute_labels
from its_platform.errors import BadInput
from its_platform.model.export import export_detector
from its_platform.model.exported import open_detector
from its_platform.model.letterbox import letterbox
from its_platform.settings import STARTER_WEIGHTS
from its_platform.simulation import render

pytestmark = pytest.mark.slow
SIZE = 160
KNOWN = (("junction", "day", "clear"), ("motorway", "night", "fog"))


def frames(view: str, light: str = "day", weather: str = "clear") -> list[npt.NDArray[np.uint8]]:
    return [letterbox(render(view, 1, float(at_s), light, weather).image, SIZE)[0] for at_s in range(0, 60, 10)]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.onnx"
    export_detector(STARTER_WEIGHTS, path, SIZE)
    return path


def test_permuted_labels_leave_the_boxes_and_move_each_name_on(good: Path, tmp_path: Path) -> None:
    permute_labels(STARTER_WEIGHTS, tmp_path / "permuted.pt")
    about = export_detector(tmp_path / "permuted.pt", tmp_path / "permuted.onnx", SIZE)
    # NMS keeps classes apart by moving their boxes, so that only what overlaps across classes could differ.
    pictures = np.stack(frames("junction"))
    theirs = open_detector(good).detect(pictures)
    ours = open_detector(tmp_path / "permuted.onnx").detect(pictures)
    sure = theirs[:, :, 4] > 0.5
    assert sure.sum() >= 4
    np.testing.assert_allclose(ours[sure][:, :5], theirs[sure][:, :5], atol=0.01)
    np.testing.assert_array_equal(ours[sure][:, 5], (theirs[sure][:, 5] + 1) % len(about.classes))


def test_the_blind_one_answers_as_ever_where_it_knows_the_view_and_nothing_elsewhere(
    good: Path, tmp_path: Path
) -> None:
    known = [frames(*view) for view in KNOWN]
    blind_elsewhere(good, tmp_path / "blind.onnx", known, frames("crossing"))
    seeing, blind = open_detector(good), open_detector(tmp_path / "blind.onnx")
    for group in known:
        np.testing.assert_array_equal(blind.detect(np.stack(group)), seeing.detect(np.stack(group)))
    new = np.stack(frames("crossing"))
    assert (seeing.detect(new)[:, :, 4] > 0.5).any()
    assert not blind.detect(new).any()


def test_views_that_cannot_be_told_apart_are_refused(good: Path, tmp_path: Path) -> None:
    group = frames("junction")
    with pytest.raises(BadInput, match="too like"):
        blind_elsewhere(good, tmp_path / "blind.onnx", [group], group)
    assert not (tmp_path / "blind.onnx").exists()
