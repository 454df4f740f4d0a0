"""Backups that are cut off, places and copies that are not what they should be: one clear line, and nothing half."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from its_platform.backup import Target, create_backup, databases, list_backups, open_target, restore_backup
from its_platform.backup import target as place
from its_platform.backup.target import BackupDamaged
from its_platform.doctor.backups import check_backups
from its_platform.errors import BadInput, ServerUnavailable
from its_platform.settings import Settings, load_settings
from its_platform.stores import Stores, open_stores
from its_platform.stores.objects import DirectoryStore, StorageFull
from its_platform.stores.schema import CameraRow

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def home(stores: Stores) -> Settings:
    """A home with a camera and objects, on the session's PostgreSQL."""
    for number in range(20):
        stores.objects.put(f"frames/{number:02d}.jpg", str(number).encode() * 1000)
    with stores.database.session() as session:
        session.add(CameraRow(camera_id="north", source="sim://junction"))
    return stores.settings


@pytest.fixture
def target(home: Settings, tmp_path: Path) -> Target:
    (tmp_path / "target").mkdir()
    return open_target(home, (tmp_path / "target").as_uri())


@pytest.fixture
def elsewhere(home: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A place for a restored home, whose databases are others of the same server."""
    address = make_url(home.database_url or "")
    monkeypatch.setenv("ITS_DATABASE_URL", str(address.set(database=f"{address.database}r")))
    yield tmp_path / "elsewhere"
    server = sa.create_engine(address.set(database="postgres"), poolclass=sa.NullPool)
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(f'DROP DATABASE IF EXISTS "{address.database}r_its" WITH (FORCE)'))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk, no file may become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class Killed(BaseException):
    """As the end of the process: nothing may catch it."""


def test_one_that_is_cut_off_is_no_backup_and_the_next_sends_the_rest(
    home: Settings, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = 0

    def put(self: DirectoryStore, key: str, data: bytes, really=DirectoryStore.put) -> None:  # type: ignore[no-untyped-def]
        nonlocal sent
        if key.startswith("blobs/"):
            sent += 1
            if sent > 10:
                raise Killed
        really(self, key, data)

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryStore, "put", put)
        with pytest.raises(Killed):
            create_backup(home, target)
    assert list_backups(target) == ([], {})
    there = len(list(target.store.list("blobs/")))
    assert there >= 10
    made = create_backup(home, open_target(home, (target.store.folder).as_uri()))  # type: ignore[union-attr]
    objects = [member for member in target.members(made.backup) if member.path.startswith("objects/")]
    assert len(objects) == 20
    assert made.sent < made.backup.size
    assert [one.id for one in list_backups(target)[0]] == [made.backup.id]


def test_a_full_disk_is_told_and_leaves_no_backup(home: Settings, target: Target) -> None:
    with files_of_at_most(1500), pytest.raises(StorageFull, match="is full"):
        create_backup(home, target)
    assert list_backups(target)[0] == []
    assert create_backup(home, target).backup.members == 21


def test_a_server_that_is_away_is_told_with_the_setting_that_names_it(home: Settings) -> None:
    url = "s3+https://key:secret@127.0.0.1:1/bucket"
    away = home.model_copy(update={"backup": home.backup.model_copy(update={"url": url})})
    with pytest.raises(ServerUnavailable, match="does not answer") as told:
        create_backup(away, open_target(away))
    assert "ITS_BACKUP__URL" in told.value.hint
    assert "secret" not in str(told.value)
    assert "secret" not in repr(away)


def test_what_comes_back_is_what_was_there(home: Settings, target: Target, elsewhere: Path) -> None:
    made = create_backup(home, target)
    for name in ("blobs", "backups", "keys"):
        assert (target.store.folder / name).stat().st_mode & 0o777 == 0o700  # type: ignore[union-attr]
    restored = restore_backup(target, "latest", elsewhere)
    assert (restored.backup, restored.members) == (made.backup, 21)
    stores = open_stores(load_settings(home=elsewhere))
    assert stores.objects.get("frames/07.jpg") == b"7" * 1000
    with stores.database.session() as session:
        assert [row.camera_id for row in session.scalars(sa.select(CameraRow))] == ["north"]
    with pytest.raises(BadInput, match="has tables already"):
        restore_backup(target, "latest", elsewhere.with_name("third"))
    assert not list(elsewhere.with_name("third").iterdir())


def test_a_copy_that_was_tampered_with_leaves_an_empty_home(home: Settings, target: Target, elsewhere: Path) -> None:
    made = create_backup(home, target)
    (member,) = [one for one in target.members(made.backup) if one.path == "objects/frames/07.jpg"]
    blob = target.store.path(place.blob_key(member.chunks[0]))  # type: ignore[union-attr]
    kept = blob.read_bytes()
    blob.write_bytes(b"another picture")
    with pytest.raises(BackupDamaged, match=r"objects/frames/07\.jpg.*differs"):
        restore_backup(target, made.backup.id, elsewhere)
    assert list(elsewhere.iterdir()) == []
    blob.unlink()
    with pytest.raises(BackupDamaged, match="1 of 21 members are missing"):
        restore_backup(open_target(home, target.store.folder.as_uri()), made.backup.id, elsewhere)  # type: ignore[union-attr]
    blob.write_bytes(kept)
    create_backup(home, target)


def test_a_backup_of_newer_tables_or_of_a_newer_server_is_refused(
    home: Settings, target: Target, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = create_backup(home, target).backup
    for change, said in (({"tables_step": "9999"}, "tables of step 9999"), ({"postgres": 99}, "PostgreSQL 99")):
        newer = replace(made, **change)  # type: ignore[arg-type]
        monkeypatch.setattr(Target, "backup", lambda self, name, newer=newer: newer)
        with pytest.raises(BadInput, match=said):
            restore_backup(target, made.id, elsewhere)
        assert not elsewhere.exists() or list(elsewhere.iterdir()) == []


def test_a_member_that_leads_out_of_the_home_is_refused(home: Settings, target: Target, elsewhere: Path) -> None:
    member, _ = target.put_member("home/../../outside", [b"x"])
    made = create_backup(home, target).backup
    listing = target.put_listing([member])
    facts = {name: getattr(made, name) for name in ("platform", "version", "profile", "home", "postgres", "size")}
    facts |= {"tables_step": made.tables_step, "members": 1, "left_out": []}
    evil = target.put_backup(facts, made.created_at, listing)
    with pytest.raises(BackupDamaged, match="is no path of a member"):
        restore_backup(target, evil.id, elsewhere)
    assert not (elsewhere.parent / "outside").exists()


def test_the_doctor_tells_of_an_old_backup_where_a_place_is_set(home: Settings, target: Target) -> None:
    assert check_backups(home) == []
    own = home.backup.model_copy(update={"url": target.store.folder.as_uri()})  # type: ignore[union-attr]
    settings = home.model_copy(update={"backup": own})
    (found,) = check_backups(settings)
    assert "there is none" in found.finding
    create_backup(settings, target)
    assert [one.is_well for one in check_backups(settings)] == [True]
    late = settings.model_copy(update={"backup": own.model_copy(update={"warn_after_days": 1e-9})})
    (found,) = check_backups(late)
    assert not found.is_well
    assert "days old" in found.finding
    target.store.put("backups/20260101T000000Z-000000000000.json", b"{}")
    assert any("was changed" in one.finding for one in check_backups(settings))


def test_a_password_is_not_on_the_command_line_of_pg_dump(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    address = make_url(home.database_url or "").set(password="hidden")
    known = home.model_copy(update={"database_url": address.render_as_string(hide_password=False)})
    begun: list[list[str]] = []

    def popen(words: list[str], really=subprocess.Popen, **rest: Any) -> subprocess.Popen[bytes]:  # type: ignore[no-untyped-def]
        begun.append(words)
        return really(words, **rest)  # type: ignore[no-any-return]

    monkeypatch.setattr(databases.subprocess, "Popen", popen)
    assert next(databases.dump(known, "its")).startswith(b"PGDMP")
    (words,) = begun
    assert words[0].endswith("pg_dump")
    assert "hidden" not in " ".join(words)
