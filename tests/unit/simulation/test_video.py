"""Video of simulated cameras: H.264 with each frame, or no file."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from its_platform.errors import BadInput, NotFound
from its_platform.simulation import render, write_video


def test_a_video_holds_the_rendered_frames(tmp_path: Path) -> None:
    path = tmp_path / "film" / "motorway.mp4"
    assert write_video("motorway", 7, 60.0, 60.5, 12.0, path) == 6
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(images) == 6
    expected = render("motorway", 7, 60.0).image.astype(float)
    assert np.abs(images[0].astype(float) - expected).mean() < 6
    assert [p.name for p in path.parent.iterdir()] == ["motorway.mp4"]


def test_a_video_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        write_video("nowhere", 7, 0.0, 1.0, 5.0, tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("from_s", "to_s", "fps"), [(1.0, 1.0, 5.0), (2.0, 1.0, 5.0), (0.0, 1.0, 0.0)])
def test_an_empty_span_or_rate_is_refused(tmp_path: Path, from_s: float, to_s: float, fps: float) -> None:
    with pytest.raises(BadInput, match="Nothing to film"):
        write_video("junction", 7, from_s, to_s, fps, tmp_path / "film.mp4")
