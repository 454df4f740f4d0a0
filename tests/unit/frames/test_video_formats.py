"""What cameras, recorders and phones write: codecs in the containers that take them, and times that are not plain."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from its_platform.cameras.registry import make_camera
from its_platform.frames.frame import Frame
from its_platform.frames.sources import read_frames
from its_platform.settings import Settings
from tests.unit.frames.scenes import scene

START = datetime(2026, 5, 1, 8, tzinfo=UTC)
CONTAINERS = {
    "libx264": ("mp4", "avi", "mkv", "mov"),
    "libx265": ("mp4", "mkv", "mov"),
    "libvpx-vp9": ("mp4", "avi", "mkv", "webm"),
    "mpeg4": ("mp4", "avi", "mkv", "mov"),
    "mjpeg": ("mp4", "avi", "mkv", "mov"),
}
MATRIX = [(codec, container) for codec, containers in CONTAINERS.items() for container in containers]


def frames_of(settings: Settings, path: Path, interval: float = 0.0) -> tuple[list[Frame], list[str]]:
    problems: list[str] = []
    camera = make_camera("a", f"file://{path}?start=2026-05-01T08:00:00Z", sample_interval_s=interval)
    return list(read_frames(camera, settings, problems=problems)), problems


def times_ms(frames: list[Frame]) -> list[int]:
    return [round((frame.captured_at - START).total_seconds() * 1000) for frame in frames]


def numbers(frames: list[Frame], count: int = 20) -> list[int]:
    """Which picture of the clip each frame is: the one that it differs from least, by 10 grey levels at most."""
    height, width = frames[0].image.shape[:2]
    pictures = np.stack([scene(number, width, height) for number in range(count)]).astype(int)
    found = []
    for frame in frames:
        away = np.abs(pictures - frame.image).mean(axis=(1, 2, 3))
        assert away.min() < 10
        found.append(int(away.argmin()))
    return found


@pytest.mark.parametrize(("codec", "container"), MATRIX, ids=["-".join(pair) for pair in MATRIX])
def test_each_codec_in_each_container_gives_every_picture_at_its_time(
    codec: str, container: str, settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    path = write_video(tmp_path / f"a.{container}", frames=20, codec=codec)
    frames, problems = frames_of(settings, path)
    assert (numbers(frames), problems) == (list(range(20)), [])
    assert times_ms(frames) == [100 * number for number in range(20)]
    sampled, _ = frames_of(settings, path, interval=0.5)
    assert (times_ms(sampled), numbers(sampled)) == ([0, 500, 1000, 1500], [0, 5, 10, 15])


@pytest.mark.parametrize(
    ("codec", "container"),
    [
        ("libx264", "mp4"),
        ("libx264", "mkv"),
        ("libx264", "avi"),
        ("libx265", "mp4"),
        ("mpeg4", "avi"),
        ("mpeg4", "mp4"),
    ],
)
def test_pictures_that_are_stored_in_another_order_than_shown_keep_their_times(
    codec: str, container: str, settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    path = write_video(tmp_path / f"a.{container}", frames=20, codec=codec, b_frames=3)
    frames, problems = frames_of(settings, path)
    assert (numbers(frames), problems) == (list(range(20)), [])
    assert times_ms(frames) == [100 * number for number in range(20)]


@pytest.mark.parametrize(("codec", "container"), [("libx264", "mp4"), ("libx265", "mkv"), ("libvpx-vp9", "mkv")])
def test_a_variable_frame_rate_keeps_its_times(
    codec: str, container: str, settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    shown = [0, 100, 150, 400, 900, 950, 1000, 2500, 2600, 3000]
    path = write_video(tmp_path / f"a.{container}", frames=10, codec=codec, times_ms=shown)
    frames, _ = frames_of(settings, path)
    assert (times_ms(frames), numbers(frames)) == (shown, list(range(10)))
    assert times_ms(frames_of(settings, path, interval=1.0)[0]) == [0, 1000, 2500, 3000]


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_a_clip_that_starts_late_is_counted_from_its_first_picture(
    container: str, settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    shown = [5000 + 100 * number for number in range(20)]
    frames, problems = frames_of(settings, write_video(tmp_path / f"a.{container}", times_ms=shown))
    assert (times_ms(frames), problems) == ([100 * number for number in range(20)], [])


def test_pictures_that_an_edit_list_cuts_off_are_not_taken(
    settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    shown = [100 * number - 300 for number in range(20)]
    frames, problems = frames_of(settings, write_video(tmp_path / "a.mp4", times_ms=shown))
    assert (numbers(frames), problems) == (list(range(3, 20)), [])
    assert times_ms(frames) == [100 * number for number in range(17)]
    # Matroska has no edit list: there they are part of the clip.
    assert len(frames_of(settings, write_video(tmp_path / "a.mkv", times_ms=shown))[0]) == 20


def box(data: bytes, *names: bytes) -> int:
    """Where the content of the first MP4 box of this path begins, after its version and flags."""
    at = 0
    for name in names:
        at = data.index(name, at) + 4
    return at + 4


# Rows a, b, u, c, d, v, x, y, w of the matrix that a phone writes when it is held upright: a quarter clockwise.
UPRIGHT = (0, 1 << 16, 0, -(1 << 16), 0, 0, 96 << 16, 0, 1 << 30)
UPSIDE_DOWN = (-(1 << 16), 0, 0, 0, -(1 << 16), 0, 160 << 16, 96 << 16, 1 << 30)


@pytest.mark.parametrize(("matrix", "turns"), [(UPRIGHT, 3), (UPSIDE_DOWN, 2)])
def test_a_phones_pictures_stand_upright(
    matrix: tuple[int, ...], turns: int, settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    path = write_video(tmp_path / "a.mp4", frames=3)
    plain, _ = frames_of(settings, path)
    data = bytearray(path.read_bytes())
    struct.pack_into(">9i", data, box(data, b"moov", b"trak", b"tkhd") + 36, *matrix)
    path.write_bytes(data)
    turned, _ = frames_of(settings, path)
    wanted = np.rot90(plain[0].image, turns).astype(int)
    assert turned[0].image.shape == wanted.shape
    assert np.abs(turned[0].image - wanted).mean() < 3, "JPEG of the turned picture differs by noise alone"


@pytest.mark.parametrize(("codec", "name"), [("libvpx-vp9", "a.mkv"), ("libx264", "a.mp4")])
def test_odd_sizes_are_kept(
    codec: str, name: str, settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    frames, problems = frames_of(settings, write_video(tmp_path / name, codec=codec, frames=4, size=(161, 97)))
    assert ({frame.image.shape for frame in frames}, problems) == ({(97, 161, 3)}, [])
    assert numbers(frames) == [0, 1, 2, 3]


@pytest.mark.parametrize(("claimed_s", "told"), [(20.0, ["a.mkv: the video ends at 1.9 s of 20.0 s."]), (0.2, [])])
def test_a_length_that_the_container_claims_costs_no_frame(
    claimed_s: float, told: list[str], settings: Settings, tmp_path: Path, write_video: Callable[..., Path]
) -> None:
    path = write_video(tmp_path / "a.mkv", frames=20)
    data = bytearray(path.read_bytes())
    struct.pack_into(">d", data, data.index(b"\x44\x89\x88") + 3, claimed_s * 1000)
    path.write_bytes(data)
    frames, problems = frames_of(settings, path)
    assert (numbers(frames), times_ms(frames)) == (list(range(20)), [100 * number for number in range(20)])
    assert problems == told
