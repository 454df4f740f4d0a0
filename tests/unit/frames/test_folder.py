"""Folders of images."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from its_platform.cameras.registry import make_camera
from its_platform.errors import BadInput, NotFound
from its_platform.frames.frame import Frame
from its_platform.frames.sources import available_until, read_frames
from its_platform.settings import Settings

Write = Callable[..., Path]


def frames_of(settings: Settings, source: object, **limits: object) -> list[Frame]:
    return list(read_frames(make_camera("a", str(source)), settings, **limits))


def test_images_come_in_natural_order_and_numbered(settings: Settings, tmp_path: Path, write_folder: Write) -> None:
    write_folder(tmp_path / "f", ["x_10.jpg", "x_9.png", "x_2.jpeg", "x_100.bmp"])
    frames = frames_of(settings, tmp_path / "f")
    assert [f.source for f in frames] == ["x_2.jpeg", "x_9.png", "x_10.jpg", "x_100.bmp"]
    assert [f.sequence for f in frames] == [0, 1, 2, 3]


def test_a_jpeg_is_delivered_untouched(settings: Settings, tmp_path: Path, write_folder: Write) -> None:
    folder = write_folder(tmp_path / "f", ["a.jpg"])
    assert frames_of(settings, folder)[0].jpeg == (folder / "a.jpg").read_bytes()


def test_the_time_is_read_out_of_the_name(settings: Settings, tmp_path: Path, write_folder: Write) -> None:
    folder = write_folder(tmp_path / "f", ["c_20260501_080010.jpg", "c_20260501_075950.jpg", "notime.jpg"])
    source = f"folder://{folder}?time=(\\d{{8}}_\\d{{6}})&format=%25Y%25m%25d_%25H%25M%25S&weather=rain"
    problems: list[str] = []
    frames = frames_of(settings, source, problems=problems)
    assert [f.captured_at for f in frames] == [
        datetime(2026, 5, 1, 7, 59, 50, tzinfo=UTC),
        datetime(2026, 5, 1, 8, 0, 10, tzinfo=UTC),
    ]
    assert {f.weather for f in frames} == {"rain"}
    assert problems == ["notime.jpg: no time in the name."]
    later = frames_of(settings, source, since=datetime(2026, 5, 1, 8, tzinfo=UTC))
    assert [f.source for f in later] == ["c_20260501_080010.jpg"]


def test_pictures_that_cannot_be_read_are_told_one_by_one(
    settings: Settings, tmp_path: Path, write_folder: Write
) -> None:
    folder = write_folder(tmp_path / "f", ["good.jpg", "cut.jpg", "tiny.png"])
    cut = folder / "cut.jpg"
    cut.write_bytes(cut.read_bytes()[:600])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no picture")
    (folder / "link.jpg").symlink_to(folder / "nowhere.jpg")
    problems: list[str] = []
    frames = frames_of(settings, folder, problems=problems)
    assert [f.source for f in frames] == ["good.jpg", "tiny.png"]
    told = " ".join(problems)
    assert len(problems) == 4
    assert all(name in told for name in ("cut.jpg", "empty.jpg", "text.png", "link.jpg"))


def test_a_link_that_leads_out_of_the_folder_is_refused(
    settings: Settings, tmp_path: Path, write_folder: Write
) -> None:
    secret = write_folder(tmp_path / "elsewhere", ["secret.jpg"]) / "secret.jpg"
    folder = write_folder(tmp_path / "f", ["a.jpg"], start=3)
    (folder / "b.jpg").symlink_to(secret)
    (folder / "c.jpg").symlink_to(folder / "a.jpg")
    problems: list[str] = []
    assert [f.source for f in frames_of(settings, folder, problems=problems)] == ["a.jpg", "c.jpg"]
    assert problems == ["b.jpg: the link leads out of the folder."]


def test_a_name_that_is_not_utf8_is_read_and_told_in_ascii(
    settings: Settings, tmp_path: Path, write_folder: Write
) -> None:
    folder = write_folder(tmp_path / "f", ["a.jpg"])
    os.rename(folder / "a.jpg", os.fsencode(folder) + b"/caf\xe9.jpg")
    assert [f.source for f in frames_of(settings, folder)] == ["caf\\xe9.jpg"]


def test_a_header_that_claims_a_huge_picture_is_refused_before_decoding(settings: Settings, tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    )
    with pytest.raises(BadInput, match="more pixels than"):
        frames_of(settings, tmp_path)


def test_a_folder_without_a_usable_image_is_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no image"):
        frames_of(settings, tmp_path)
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(BadInput, match="not one image"):
        frames_of(settings, tmp_path)
    with pytest.raises(NotFound):
        frames_of(settings, f"folder://{tmp_path}/missing")


def test_a_new_image_shows_in_how_far_the_folder_reaches(
    settings: Settings, tmp_path: Path, write_folder: Write
) -> None:
    camera = make_camera("a", str(write_folder(tmp_path / "f", ["a.jpg"])))
    before = available_until(camera, settings)
    write_folder(tmp_path / "f", ["b.jpg"])
    assert available_until(camera, settings) != before


def test_a_folder_whose_pictures_lie_one_deeper_is_told_where(
    settings: Settings, tmp_path: Path, write_folder: Callable[..., Path]
) -> None:
    write_folder(tmp_path / "export" / "images", ["a.jpg"])
    (tmp_path / "export" / "labels").mkdir()
    with pytest.raises(BadInput, match="no image") as caught:
        list(read_frames(make_camera("a", str(tmp_path / "export")), settings))
    assert "in images:" in caught.value.hint


def test_a_folder_of_videos_is_told_that_each_is_a_camera(settings: Settings, tmp_path: Path) -> None:
    for name in ("b10.MP4", "b2.mkv", "notes.txt"):
        (tmp_path / name).write_bytes(b"footage")
    with pytest.raises(BadInput, match="no image") as caught:
        frames_of(settings, tmp_path)
    assert "There are videos, b2.mkv, b10.MP4: each is a camera of its own" in caught.value.hint


def test_a_folder_below_that_may_not_be_read_says_nothing_and_stops_nothing(
    settings: Settings, tmp_path: Path, write_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The root of a disk has such a folder, `lost+found`."""
    write_folder(tmp_path / "images", ["a.jpg"])
    (tmp_path / "lost+found").mkdir()
    listed = os.listdir

    def refused(path: str) -> list[str]:
        if path.endswith("lost+found"):
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr("os.listdir", refused)
    with pytest.raises(BadInput, match="no image") as caught:
        frames_of(settings, tmp_path)
    assert "in images:" in caught.value.hint
