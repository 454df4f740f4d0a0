"""Video files."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from its_platform.cameras.registry import make_camera
from its_platform.errors import BadInput, NotFound
from its_platform.frames.frame import UNTIMED_EPOCH, Frame
from its_platform.frames.images import decode
from its_platform.frames.sources import available_until, read_frames
from its_platform.settings import Settings

START = datetime(2026, 5, 1, 8, tzinfo=UTC)


def frames_of(settings: Settings, source: object, interval: float = 0.5, **limits: object) -> list[Frame]:
    return list(read_frames(make_camera("a", str(source), sample_interval_s=interval), settings, **limits))


def test_a_picture_is_the_decoding_of_what_is_stored(
    settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    frame = frames_of(settings, write_video(tmp_path / "a.mp4"))[0]
    assert frame.jpeg is not None
    assert np.array_equal(decode(frame.jpeg), frame.image)


def test_footage_of_unknown_time_is_numbered(
    settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    frames = frames_of(settings, write_video(tmp_path / "a.mp4"))
    assert [f.sequence for f in frames] == [0, 1, 2, 3]
    assert frames[0].captured_at == UNTIMED_EPOCH
    assert not frames[0].is_timed


def test_the_creation_time_of_the_file_is_taken_and_a_given_start_goes_before_it(
    settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    path = write_video(tmp_path / "a.mp4", metadata={"creation_time": "2024-02-03T04:05:06.000000Z"})
    assert frames_of(settings, path)[0].captured_at == datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert frames_of(settings, f"file://{path}?start=2026-05-01T08:00:00Z")[0].captured_at == START


def test_a_part_of_the_footage_gives_the_same_frames_as_the_whole(
    settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    source = f"file://{write_video(tmp_path / 'a.mp4', frames=60)}?start=2026-05-01T08:00:00Z"
    whole = frames_of(settings, source, 0.3)
    since, until = START + timedelta(seconds=2), START + timedelta(seconds=4)
    part = frames_of(settings, source, 0.3, since=since, until=until)
    assert [f.jpeg for f in part] == [f.jpeg for f in whole if since <= f.captured_at < until]
    assert len(part) > 4


def test_an_interval_of_zero_takes_every_frame(
    settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    assert len(frames_of(settings, write_video(tmp_path / "a.mp4", frames=20), 0)) == 20


def test_a_cut_file_gives_what_can_be_read_and_says_so(
    settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    path = write_video(tmp_path / "a.mp4", frames=200)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    problems: list[str] = []
    frames = frames_of(settings, path, problems=problems)
    assert 5 < len(frames) < 40
    assert "of 20.0 s" in " ".join(problems)


def test_a_whole_file_has_no_problems(settings: Settings, tmp_path: Path, write_video: Callable[..., Path]) -> None:
    problems: list[str] = []
    frames_of(settings, write_video(tmp_path / "a.mp4", frames=33), problems=problems)
    assert problems == []


def test_a_file_without_one_frame_is_refused_in_one_line(
    settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    whole = write_video(tmp_path / "whole.mp4").read_bytes()
    broken = {
        "empty.mp4": b"",
        "text.mp4": b"this is not a video at all\n" * 50,
        "header.mp4": whole[:200],
        "noise.avi": os.urandom(4096),
        "zeros.mkv": bytes(4096),
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadInput) as caught:
            frames_of(settings, tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_sound_without_pictures_is_refused(settings: Settings, tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(BadInput, match="no picture stream"):
        frames_of(settings, path)


def test_a_missing_file_and_a_pipe_are_told_at_once(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        frames_of(settings, tmp_path / "missing.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(BadInput, match="not a file"):
        frames_of(settings, tmp_path / "pipe.mp4")


def test_new_footage_shows_in_how_far_it_reaches(
    settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    camera = make_camera("a", str(write_video(tmp_path / "a.mp4", frames=10)))
    before = available_until(camera, settings)
    assert available_until(camera, settings) == before
    write_video(tmp_path / "a.mp4", frames=30)
    assert available_until(camera, settings) != before
