"""Backups that are cut off, places and copies that are not what they should be: one clear line, and nothing half."""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from its_platform import cli
from its_platform.backup import Created, Target, create_backup, databases, list_backups, open_target, restore_backup
from its_platform.backup import target as place
from its_platform.backup.target import Backup, BackupDamaged
from its_platform.doctor.backups import check_backups
from its_platform.errors import BadInput, ServerUnavailable
from its_platform.frames.index import FrameIndex, FrameRow
from its_platform.settings import Settings, load_settings
from its_platform.stores import Stores, open_stores
from its_platform.stores.audit import record
from its_platform.stores.key_export import export_keys, import_keys
from its_platform.stores.keys import MasterKeyMissing
from its_platform.stores.objects import StorageFull, open_keys
from its_platform.stores.schema import CameraRow
from tests.integration.trail import chain, rows

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(300)]

TAMPERED = r"objects/frames/07\.jpg.*differs"
MOMENT = datetime(2026, 5, 1, tzinfo=UTC)
FRAME = FrameRow(
    "north", MOMENT, "", "", 64, 48, None, "test", "day", "clear", 0.5, 0.2, 6.0, 1.0, 0.0, 0.0, False, MOMENT
)

# Twenty objects, the mark of who sealed them, and a database.
MEMBERS = 22


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


@pytest.fixture
def variables(home: Settings, target: Target, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What points the `its` command at this home and this target."""
    monkeypatch.setenv("ITS_DATABASE_URL", home.database_url or "")
    monkeypatch.setenv("ITS_BACKUP__URL", target.store.folder.as_uri())  # type: ignore[union-attr]
    return dict(os.environ)


def test_one_that_is_killed_is_no_backup_and_the_next_sends_the_rest(
    stores: Stores, home: Settings, target: Target, variables: dict[str, str]
) -> None:
    for number in range(600):
        stores.objects.put(f"frames/many/{number:03d}.jpg", f"{number:09d}".encode() * 3000)
    process = subprocess.Popen(
        [sys.executable, "-m", "its_platform.cli", "backup", "create"], env=variables, stderr=subprocess.DEVNULL
    )
    while len(list(target.store.list("blobs/"))) < 50:
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = len(list(target.store.list("blobs/")))
    assert 50 <= there < 600
    assert list_backups(target) == ([], {})
    made = create_backup(home, open_target(load_settings()))
    assert made.backup.members == MEMBERS + 600
    assert made.sent < made.backup.size - (there - 25) * 27_000
    assert [one.id for one in list_backups(target)[0]] == [made.backup.id]


def test_no_row_of_a_backup_that_was_made_beside_writers_names_an_object_that_it_lacks(
    stores: Stores, home: Settings, target: Target, elsewhere: Path
) -> None:
    is_over = threading.Event()

    def write() -> None:
        for number in itertools.count():
            if is_over.is_set():
                return
            name = f"{number:06d}"
            key = f"frames/{name}.jpg"
            stores.objects.put(key, name.encode())
            captured_at = MOMENT + timedelta(seconds=number)
            FrameIndex(stores).add([replace(FRAME, captured_at=captured_at, frame_hash=name, object_key=key)])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while FrameIndex(stores).count() < 5:
            time.sleep(0.05)
        create_backup(home, target)
        while FrameIndex(stores).count() < 10:
            time.sleep(0.05)
        create_backup(home, target)
    finally:
        is_over.set()
        writer.join()
    restore_backup(target, "latest", elsewhere)
    back = open_stores(load_settings(home=elsewhere))
    rows = FrameIndex(back).query()
    assert len(rows) >= 10
    assert [key for key in rows["object_key"] if not back.objects.exists(key)] == []


def test_the_commands_go_from_create_to_prune_and_tell_of_damage(
    target: Target, variables: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    def its(*words: str) -> tuple[int, Any, str]:
        with pytest.raises(SystemExit) as end:
            cli.main(["backup", *words])
        said = capsys.readouterr()
        return int(end.value.code or 0), json.loads(said.out) if said.out else None, said.err

    first, second = (its("create", "--json")[1]["id"] for _ in range(2))
    assert [row["id"] for row in its("list", "--json")[1]] == [first, second]
    assert its("verify", first, "--json")[0] == 0
    lost = next(one for one in target.members(target.backup(second)) if one.path == "objects/frames/07.jpg")
    target.store.delete(place.blob_key(lost.chunks[0]))
    code, told, _ = its("verify", "--json")
    assert code == 1
    assert list(told["problems"]) == ["objects/frames/07.jpg"]
    assert "is missing" in told["problems"]["objects/frames/07.jpg"]
    code, _, said = its("verify", "20200101T000000Z-000000000000")
    (line,) = [line for line in said.splitlines() if line.strip()]
    assert code == 1
    assert line.startswith("Error: There is no backup 20200101T000000Z-000000000000 at ")
    assert its("create", "--keep", "1", "--json")[1]["removed"] == [first, second]
    assert its("prune", "--keep", "1", "--json")[1] == {"removed": []}
    assert its("verify", "--json")[0] == 0


def test_a_backup_whose_list_was_lost_does_not_keep_the_next_from_being_made(
    home: Settings, target: Target, elsewhere: Path
) -> None:
    def made() -> tuple[Created, Path]:
        # What lies there is read once by each.
        done = create_backup(home, Target(target.store, target.name))
        return done, target.store.path(place.blob_key(done.backup.listing.chunks[0]))  # type: ignore[union-attr]

    lists = [made()[1] for _ in range(2)]
    lists[1].write_bytes(b"another list")
    lists.append(made()[1])
    for path in lists:
        path.unlink()
    last, _ = made()
    assert restore_backup(Target(target.store, target.name), "latest", elsewhere).backup == last.backup


def test_a_full_disk_is_told_and_leaves_no_backup(home: Settings, target: Target) -> None:
    with files_of_at_most(1500), pytest.raises(StorageFull, match="is full"):
        create_backup(home, target)
    assert list_backups(target)[0] == []
    assert create_backup(home, target).backup.members == MEMBERS


def test_a_place_within_the_object_store_is_refused(home: Settings) -> None:
    within = home.home / "objects" / "copies"
    within.mkdir()
    with pytest.raises(BadInput, match="lies in the object store"):
        create_backup(home, open_target(home, within.as_uri()))
    bucket = "s3+https://key:secret@127.0.0.1:1/bucket"
    url = f"{bucket}/copies"
    same = home.model_copy(update={"objects_url": bucket, "backup": home.backup.model_copy(update={"url": url})})
    with pytest.raises(BadInput, match="lies in the object store"):
        create_backup(same, open_target(same))
    assert list(within.iterdir()) == []


def test_a_server_that_is_away_is_told_with_the_setting_that_names_it(home: Settings) -> None:
    url = "s3+https://key:secret@127.0.0.1:1/bucket"
    away = home.model_copy(update={"backup": home.backup.model_copy(update={"url": url})})
    with pytest.raises(ServerUnavailable, match="does not answer") as told:
        create_backup(away, open_target(away))
    assert "ITS_BACKUP__URL" in told.value.hint
    assert "secret" not in str(told.value)
    assert "secret" not in repr(away)


def test_what_comes_back_is_what_was_there_and_opens_with_the_master_key(
    home: Settings, target: Target, elsewhere: Path, tmp_path: Path
) -> None:
    made = create_backup(home, target)
    export_keys(open_keys(home), tmp_path / "safe.json", "a passphrase of mine")
    for name in ("blobs", "backups", "keys"):
        assert (target.store.folder / name).stat().st_mode & 0o777 == 0o700  # type: ignore[union-attr]
    restored = restore_backup(target, "latest", elsewhere)
    assert (restored.backup, restored.members) == (made.backup, MEMBERS)
    stores = open_stores(load_settings(home=elsewhere))
    with pytest.raises(MasterKeyMissing, match="its keys import"):
        stores.objects.get("frames/07.jpg")
    import_keys(open_keys(stores.settings), tmp_path / "safe.json", "a passphrase of mine")
    assert stores.objects.get("frames/07.jpg") == b"7" * 1000
    with stores.database.session() as session:
        assert [row.camera_id for row in session.scalars(sa.select(CameraRow))] == ["north"]
    with pytest.raises(BadInput, match="has tables already"):
        restore_backup(target, "latest", elsewhere.with_name("third"))
    assert not list(elsewhere.with_name("third").iterdir())


def test_settings_that_are_known_no_more_are_put_aside_and_told(
    home: Settings, target: Target, elsewhere: Path
) -> None:
    (home.home / "settings.yaml").write_text("training: {epochs: 7}\nof_an_older_platform: 1\n")
    made = create_backup(home, target)
    restored = restore_backup(target, "latest", elsewhere)
    assert restored.left_out == (f"what {made.backup.id}-settings.yaml says",)
    assert "epochs: 7" in (elsewhere / f"{made.backup.id}-settings.yaml").read_text()
    assert not (elsewhere / "settings.yaml").exists()


@contextmanager
def tampered(target: Target, backup: Backup) -> Iterator[Path]:
    """The blob of one frame, which holds another picture until the block ends."""
    (member,) = [one for one in target.members(backup) if one.path == "objects/frames/07.jpg"]
    blob = target.store.path(place.blob_key(member.chunks[0]))  # type: ignore[union-attr]
    kept = blob.read_bytes()
    blob.write_bytes(b"another picture")
    try:
        yield blob
    finally:
        blob.write_bytes(kept)


def test_a_copy_that_was_tampered_with_leaves_an_empty_home(home: Settings, target: Target, elsewhere: Path) -> None:
    made = create_backup(home, target)
    with tampered(target, made.backup) as blob:
        with pytest.raises(BackupDamaged, match=TAMPERED):
            restore_backup(target, made.backup.id, elsewhere)
        assert list(elsewhere.iterdir()) == []
        blob.unlink()
        with pytest.raises(BackupDamaged, match=f"1 of {MEMBERS} members are missing"):
            restore_backup(open_target(home, target.store.folder.as_uri()), made.backup.id, elsewhere)  # type: ignore[union-attr]
    create_backup(home, target)


def test_a_restore_that_failed_at_an_object_is_done_again_on_the_same_server(
    home: Settings, target: Target, elsewhere: Path
) -> None:
    made = create_backup(home, target)
    with tampered(target, made.backup), pytest.raises(BackupDamaged, match=TAMPERED):
        restore_backup(target, made.backup.id, elsewhere)
    assert restore_backup(target, made.backup.id, elsewhere).members == MEMBERS


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


def test_the_audit_trail_goes_on_in_a_restored_home(
    stores: Stores, home: Settings, target: Target, elsewhere: Path
) -> None:
    with stores.database.session() as session:
        # A path of the old home, which stays what it was.
        record(session, "certificate.made", f"{home.home.absolute()}/certificates")
    before = chain(stores)
    made = create_backup(home, target).backup
    restore_backup(target, "latest", elsewhere)
    back = open_stores(load_settings(home=elsewhere))
    assert chain(back, known=(before.newest, before.digest)) == chain(back)
    assert chain(back).broken is None
    assert rows(back)[before.newest - 1].subject == f"{home.home.absolute()}/certificates"
    assert (rows(back)[-1].action, rows(back)[-1].subject) == ("backup.restored", made.id)
    with pytest.raises(sa.exc.IntegrityError, match="only added"), back.database.session() as session:
        session.execute(sa.text("DELETE FROM audit"))
