"""Source addresses."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from its_platform.cameras.address import (
    has_password,
    normal_source,
    parse_address,
    public_source,
    with_password,
)
from its_platform.errors import BadInput


@pytest.mark.parametrize(
    ("source", "kind", "location"),
    [
        ("sim://junction?seed=7", "sim", "junction"),
        ("rtsp://user:secret@host:554/a?b=c", "rtsp", "rtsp://user:secret@host:554/a?b=c"),
        ("file:///footage/a%20b.mp4?start=2026-05-01T08:00:00Z", "file", "/footage/a b.mp4"),
        ("folder:///footage/a", "folder", "/footage/a"),
        ("footage/a.mp4", "file", "footage/a.mp4"),
    ],
)
def test_an_address_is_taken_apart(source: str, kind: str, location: str) -> None:
    address = parse_address(source)
    assert (address.kind, address.location) == (kind, location)


def test_a_plain_path_of_a_folder_is_a_folder(tmp_path: Path) -> None:
    assert parse_address(str(tmp_path)).kind == "folder"


@pytest.mark.parametrize("source", ["", "  ", "http://host/a.mp4", "sim://", "file://", "a\x00b"])
def test_an_address_that_no_reader_understands_is_refused(source: str) -> None:
    with pytest.raises(BadInput):
        parse_address(source)


@pytest.mark.parametrize(
    ("text", "hour"), [("2026-05-01T08:00:00Z", 8), ("2026-05-01T08:00:00", 8), ("2026-05-01T08:00:00+02:00", 6)]
)
def test_a_start_is_utc(text: str, hour: int) -> None:
    address = parse_address(f"file:///a.mp4?start={text}")
    assert address.time("start") == datetime(2026, 5, 1, hour, tzinfo=UTC)


def test_a_start_that_is_no_time_is_refused() -> None:
    with pytest.raises(BadInput, match="yesterday"):
        parse_address("file:///a.mp4?start=yesterday").time("start")


def test_a_stored_path_is_absolute_and_keeps_its_bytes(tmp_path: Path) -> None:
    odd = str(tmp_path / "caf\udce9 #1.mp4")
    stored = normal_source(odd)
    assert stored.isascii()
    assert parse_address(stored).location == odd


def test_a_password_is_not_shown() -> None:
    shown = public_source("rtsp://user:sec@ret@host:554/stream")
    assert "ret" not in shown.replace("stream", "")
    assert shown.endswith("host:554/stream")


def test_a_password_in_an_option_is_not_shown_either() -> None:
    shown = public_source("rtsp://host/live?user=admin&Password=secret&channel=1")
    assert shown == "rtsp://host/live?user=admin&Password=***&channel=1"


@pytest.mark.parametrize("source", ["rtsp://user:se/cret@host/a", "rtsp://user:cret@host:abc/a", "rtsp:///a"])
def test_an_address_whose_password_no_reader_would_find_is_refused_without_telling_it(source: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_address(source)
    assert "cret" not in str(caught.value)


def test_a_password_from_elsewhere_is_put_in_so_that_any_character_arrives() -> None:
    source = with_password("rtsp://user@host:8554/a@b", "s/e@c:r%t")
    assert source == "rtsp://user:s%2Fe%40c%3Ar%25t@host:8554/a@b"
    assert public_source(source) == "rtsp://***@host:8554/a@b"


@pytest.mark.parametrize("source", ["rtsp://host/a", "rtsp://user:known@host/a", "/footage/a.mp4", "rtsp://host/a@b"])
def test_a_password_goes_only_with_an_address_that_names_the_user_alone(source: str) -> None:
    with pytest.raises(BadInput, match="names the user alone"):
        with_password(source, "secret")


def test_whether_an_address_holds_a_password_is_known() -> None:
    held = ["rtsp://u:p@host/a", "rtsp://host/a?password=p"]
    free = ["rtsp://u@host/a", "rtsp://host/a", "/footage/a.mp4", "sim://junction"]
    assert [has_password(source) for source in [*held, *free]] == [True, True, False, False, False, False]
