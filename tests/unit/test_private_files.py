"""Passwords and keys: made once, whole, and their owner's alone."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from its_platform.private_files import password, write_file


def test_a_password_is_drawn_once_however_many_ask_at_once(tmp_path: Path) -> None:
    path = tmp_path / "passwords" / "postgres"
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: password(path), range(40)))
    assert len(found) == 1
    assert len(found.pop()) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert password(tmp_path / "passwords" / "redis") != password(path)


def test_a_file_is_replaced_in_one_go_and_keeps_no_wider_rights(tmp_path: Path) -> None:
    path = tmp_path / "server.key"
    path.write_text("old")
    path.chmod(0o644)
    (tmp_path / ".server.key.part").write_text("what a killed writer left")
    write_file(path, b"new", is_secret=True)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["server.key"]


def test_a_file_that_was_written_is_under_its_name_after_the_power_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "key", []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    write_file(path, b"wrapped", is_secret=True)
    assert synced == [(False, False), (True, True)]
