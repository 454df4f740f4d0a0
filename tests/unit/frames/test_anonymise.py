"""Faces and plates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from its_platform.errors import BadInput
from its_platform.frames.anonymise import PolicyCannotBeKept, hide, open_anonymiser
from its_platform.settings import FrameSettings


def noise_picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)


def test_what_is_hidden_is_a_few_flat_cells_and_the_rest_is_untouched() -> None:
    picture = noise_picture()
    hidden = hide(picture, np.array([[100, 50, 160, 110]]))
    inside = hidden[50:110, 100:160].reshape(-1, 3)
    assert len(np.unique(inside, axis=0)) <= 16
    outside = np.ones(picture.shape[:2], bool)
    outside[50 - 13 : 110 + 13, 100 - 13 : 160 + 13] = False
    assert np.array_equal(hidden[outside], picture[outside])
    assert not np.shares_memory(hidden, picture)


def test_boxes_at_and_over_the_edge_are_hidden() -> None:
    picture = noise_picture()
    hidden = hide(picture, np.array([[-20, -20, 10, 10], [290, 190, 400, 400], [500, 500, 600, 600]]))
    assert len(np.unique(hidden[:10, :10].reshape(-1, 3), axis=0)) <= 16
    assert len(np.unique(hidden[192:, 292:].reshape(-1, 3), axis=0)) <= 16


def test_the_settings_that_are_missing_are_named() -> None:
    with pytest.raises(PolicyCannotBeKept, match="ITS_FRAMES__FACE_MODEL and ITS_FRAMES__PLATE_MODEL"):
        open_anonymiser(FrameSettings())
    with pytest.raises(PolicyCannotBeKept, match=r"frames\.plate_model is not set"):
        open_anonymiser(FrameSettings(face_model=Path("there.onnx")))


def test_a_model_that_is_not_one_is_told_in_one_line(tmp_path: Path, data_folder: Path) -> None:
    broken = tmp_path / "broken.onnx"
    with pytest.raises(BadInput, match="no file"):
        open_anonymiser(FrameSettings(face_model=broken, plate_model=broken))
    broken.write_bytes(b"no model")
    faces = data_folder / "models" / "yunet_n_640_640.onnx"
    for models in ((broken, broken), (faces, broken)):
        with pytest.raises(BadInput) as caught:
            open_anonymiser(FrameSettings(face_model=models[0], plate_model=models[1]))
        assert "\n" not in str(caught.value)
        assert "broken.onnx" in str(caught.value)
