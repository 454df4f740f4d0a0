"""Backups on a second S3 server: what remains when the first machine is gone."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from minio.commonconfig import ENABLED
from minio.versioningconfig import VersioningConfig

from its_platform import processes
from its_platform.backup import create_backup, forget_key, open_target, prune_backups, restore_backup, verify_backup
from its_platform.backup.keys import keys_folder
from its_platform.doctor.backups import check_backups
from its_platform.errors import ItsError, ServerUnavailable
from its_platform.parts import part_named
from its_platform.settings import REPOSITORY, Ports, Settings, load_settings
from its_platform.stack import start_stores, stop_stack
from its_platform.stores import open_stores
from its_platform.stores.keys import Owner
from its_platform.stores.object_server import INNER_PORTS, is_object_server_well, object_server_command
from its_platform.stores.objects import S3Store, objects_key, open_keys, open_plain
from ports import free_port_range

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]

FRAME = b"sealed bytes " * 500


def free_ports() -> Ports:
    names = [name for name in Ports.model_fields if name != "objects_inner"]
    first = free_port_range(len(names) + INNER_PORTS)
    return Ports(**{name: first + n for n, name in enumerate(names)}, objects_inner=first + len(names))


@pytest.fixture(scope="module")
def second_server(servers: Settings) -> Iterator[Settings]:
    """A SeaweedFS of another home, with an authority and a key of its own."""
    home = Path(tempfile.mkdtemp(prefix="its-copies-"))
    settings = load_settings(home=home, profile="services", ports=free_ports())
    argv, environment = object_server_command(settings)
    address = part_named("objects").address(settings)
    processes.spawn(settings, "objects", argv, environment, address, REPOSITORY)
    try:
        _wait(settings)
        yield settings
    finally:
        processes.stop(settings, "objects", 30)
        left = processes.left_behind(settings)
        shutil.rmtree(home, ignore_errors=True)
    assert left == []


def _wait(settings: Settings) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            if is_object_server_well(settings):
                return
        except ItsError:
            if time.monotonic() > end:
                raise
        time.sleep(0.3)


@pytest.fixture(scope="module")
def machine(servers: Settings, second_server: Settings) -> Iterator[Settings]:
    """The first machine, whose backups go to the second server."""
    key, secret = objects_key(second_server)
    url = f"s3+https://{key}:{secret}@{second_server.host}:{second_server.ports.objects}/copies/city"
    backup = servers.backup.model_copy(update={"url": url, "authority": second_server.certificates / "ca.pem"})
    for number in range(12):
        open_plain(servers).put(f"frames/copied-{number:02d}.jpg", FRAME + bytes([number]))
    for day in (1, 2):
        open_keys(servers).for_sealing(Owner("north", date(2026, 5, day)))
    yield servers.model_copy(update={"backup": backup})
    # They open nothing, and other tests seal with keys of these servers.
    for camera in ("data/north", "data/south", "destroyed/south"):
        shutil.rmtree(keys_folder(servers.home) / camera, ignore_errors=True)


def test_the_second_server_gets_everything_once(machine: Settings) -> None:
    target = open_target(machine)
    first = create_backup(machine, target)
    again = create_backup(machine, open_target(machine))
    assert first.sent > 12 * len(FRAME)
    # None of the twelve frames again; the database has grown by the record of the first backup.
    assert again.sent < first.sent - 11 * len(FRAME)
    assert verify_backup(open_target(machine)).is_whole
    assert [one.is_well for one in check_backups(machine)] == [True]


def test_what_remains_on_the_second_server_is_enough(machine: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    target = open_target(machine)
    made = create_backup(machine, target)
    folder = Path(tempfile.mkdtemp(prefix="its-back-"))
    for name, port in free_ports():
        monkeypatch.setenv(f"ITS_PORTS__{name.upper()}", str(port))
    monkeypatch.setenv("ITS_PROFILE", "services")
    try:
        done = restore_backup(target, made.backup.id, folder / "home")
        assert done.keys == 2
        monkeypatch.setenv("ITS_HOME", str(folder / "home"))
        back = load_settings()
        start_stores(back)
        assert open_plain(back).get("frames/copied-07.jpg") == FRAME + bytes([7])
        with open_stores(back).database.session() as session:
            assert session.connection().exec_driver_sql("SELECT count(*) FROM cameras").scalar() == 0
        stop_stack(back)
    finally:
        stop_stack(load_settings(home=folder / "home"))
        shutil.rmtree(folder, ignore_errors=True)


def test_a_forgotten_key_is_in_no_version_of_a_bucket_that_keeps_them(machine: Settings) -> None:
    target = open_target(machine)
    store = target.store
    assert isinstance(store, S3Store)
    target.prepare()
    store.client.set_bucket_versioning(store.bucket, VersioningConfig(ENABLED))
    keys = keys_folder(machine.home)
    (keys / "data" / "south").mkdir()
    for content in ("wrapped", "wrapped anew"):
        for day in ("2026-05-01", "2026-05-02"):
            (keys / "data" / "south" / f"{day}.json").write_text(content)
        create_backup(machine, target)
    forget_key(machine, target, "south", "2026-05-01")
    (keys / "destroyed" / "south").mkdir(parents=True)
    for day in ("2026-05-01", "2026-05-02"):
        (keys / "destroyed" / "south" / f"{day}.json").write_text(day)
        (keys / "data" / "south" / f"{day}.json").unlink()
    create_backup(machine, target)
    data = f"{store.prefix}keys/data/south/"
    assert list(store.client.list_objects(store.bucket, data, recursive=True, include_version=True)) == []


def test_pruned_copies_are_gone_and_the_rest_is_whole(machine: Settings) -> None:
    target = open_target(machine)
    create_backup(machine, target)
    open_plain(machine).delete("frames/copied-00.jpg")
    made = create_backup(machine, target)
    before = len(target.blobs())
    assert prune_backups(machine, target, keep=1)
    fresh = open_target(machine)
    assert len(fresh.blobs()) < before
    assert fresh.backup("latest").id == made.backup.id
    assert verify_backup(fresh).is_whole


def test_a_second_server_that_is_away_is_one_clear_line(machine: Settings, second_server: Settings) -> None:
    processes.stop(second_server, "objects", 30)
    with pytest.raises(ServerUnavailable, match="does not answer") as told:
        create_backup(machine, open_target(machine))
    assert "ITS_BACKUP__URL" in told.value.hint
