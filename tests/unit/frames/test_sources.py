"""What is asked of a source before and beside its frames."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from its_platform.cameras.registry import make_camera
from its_platform.frames.sources import expected_frames, read_frames, watched_until
from its_platform.settings import Settings

LIVE = make_camera("gate", "rtsp://host/live")
RECORDED = make_camera("tape", "/footage/a.mp4")


def test_only_a_live_camera_is_given_an_end() -> None:
    now, end = datetime.now(UTC), datetime(2026, 5, 1, tzinfo=UTC)
    watched = watched_until(LIVE, None, 30)
    assert watched is not None
    assert timedelta(seconds=29) < watched - now < timedelta(seconds=90)
    assert watched_until(RECORDED, None, 30) is None
    assert watched_until(LIVE, end, 30) == watched_until(RECORDED, end, 30) == end
    assert watched_until(LIVE, None, None) is None


def test_how_many_frames_a_bar_waits_for_is_how_many_come(
    settings: Settings, tmp_path: Path, write_video: Callable[..., Path], write_folder: Callable[..., Path]
) -> None:
    write_video(tmp_path / "a.mp4", frames=33)
    write_folder(tmp_path / "pictures", ["a.jpg", "b.jpg", "c.jpg"])
    for source, interval in (("a.mp4", 0.0), ("a.mp4", 0.5), ("a.mp4", 1.0), ("pictures", 1.0)):
        camera = make_camera("a", str(tmp_path / source), sample_interval_s=interval)
        assert expected_frames(camera, settings) == len(list(read_frames(camera, settings)))
    assert expected_frames(LIVE, settings) is None
