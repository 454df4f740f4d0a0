"""The restore drill: a machine that serves a version is backed up, emptied, and brought back at another place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from its_platform import processes
from its_platform.backup import (
    Created,
    Restored,
    Target,
    create_backup,
    list_backups,
    open_target,
    prune_backups,
    restore_backup,
    verify_backup,
)
from its_platform.backup.creating import alone
from its_platform.errors import BadInput, LeaseHeld
from its_platform.frames.index import FrameIndex, FrameRow
from its_platform.release import real_outside, served
from its_platform.serving.client import detect_once
from its_platform.settings import Ports, Settings, load_settings
from its_platform.stack import start_stack, stop_stack
from its_platform.stores import open_stores, versions
from its_platform.stores.keys import Owner
from its_platform.stores.object_server import INNER_PORTS
from its_platform.stores.objects import open_keys, open_plain
from its_platform.stores.registry import MODEL_NAME, folder_digest
from needs import need, need_stores
from ports import free_port_range
from tests.fakes import card_of, tiny_onnx
from tests.integration.site import PICTURE, Site, even_answers

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(900)]

FILES = {"manifest.jsonl": bytes(range(256)), "card.json": b"{}"}
PIXELS = b"what a camera saw"
KEY = "frames/ab/ab.jpg"
MOMENT = datetime(2026, 5, 1, 8, tzinfo=UTC)
FRAME = FrameRow(
    "north", MOMENT, "ab", KEY, 64, 48, 1, "test", "day", "clear", 0.5, 0.2, 6.0, 1.0, 0.0, 0.0, False, MOMENT
)


@dataclass
class Drill:
    """What was there before the machine was emptied, and what came back."""

    first: Settings
    target: Target
    made: Created
    version: int
    digest: str
    restored: Restored
    second: Settings


@pytest.fixture(scope="module", params=["embedded", "services"])
def drill(request: pytest.FixtureRequest) -> Iterator[Drill]:
    # Its path is short enough for the sockets of the servers.
    folder = Path(tempfile.mkdtemp(prefix="its-drill-"))
    with pytest.MonkeyPatch.context() as patched:
        _set_environment(patched, request.param, folder / "first")
        first = load_settings()
        need((first.environments / "tritonserver" / "pytriton").is_dir(), "the bundled Triton")
        need((first.environments / "dvc" / "bin" / "dvc").is_file(), "DVC's environment")
        if request.param == "services":
            need_stores(first)
        second = first
        try:
            (folder / "target").mkdir()
            target = open_target(first, (folder / "target").as_uri())
            start_stack(first, ["triton"])
            version = _fill(first, folder)
            digest = open_stores(first).registry.get(MODEL_NAME, version).digest
            made = create_backup(first, target)
            stop_stack(first)
            # The master key is what a person keeps elsewhere.
            shutil.copytree(first.home / "keys" / "master", folder / "second" / "keys" / "master")
            shutil.rmtree(first.home)
            restored = restore_backup(target, made.backup.id, folder / "second")
            patched.setenv("ITS_HOME", str(folder / "second"))
            second = load_settings()
            start_stack(second, ["triton"])
            yield Drill(first, target, made, version, digest, restored, second)
        finally:
            for settings in (first, second):
                stop_stack(settings)
                assert processes.left_behind(settings) == []
            shutil.rmtree(folder, ignore_errors=True)


def _set_environment(patched: pytest.MonkeyPatch, profile: str, home: Path) -> None:
    names = [name for name in Ports.model_fields if name != "objects_inner"]
    first = free_port_range(len(names) + INNER_PORTS)
    patched.setenv("ITS_HOME", str(home))
    for number, name in enumerate([*names, "objects_inner"]):
        patched.setenv(f"ITS_PORTS__{name.upper()}", str(first + number))
    patched.setenv("ITS_GATES__LATENCY_SPREAD", "50")
    patched.setenv("ITS_GATES__LATENCY_RATIO", "20")
    if profile == "services":
        home.mkdir(parents=True)
        (home / "profile.yaml").write_text("profile: services\n")


def _fill(settings: Settings, folder: Path) -> int:
    """A served version, a dataset version, a frame, keys, and settings with a secret."""
    stores = open_stores(settings)
    outside = replace(real_outside(stores), evaluate=even_answers, card=card_of)
    site = Site(stores, stores.registry, outside, folder)
    version = site.train(tiny_onnx(note="drill"))
    site.release(version)
    site.assert_served(version)
    versions.commit_version(settings, "v1", FILES, "the first")
    versions.push(settings)
    FrameIndex(stores).add([FRAME])
    stores.objects.put(KEY, PIXELS, Owner("north", MOMENT.date()))
    open_keys(settings).for_sealing(Owner("north", date(2026, 5, 2)))
    (settings.home / "settings.yaml").write_text(
        "training: {epochs: 7}\nnotifications: {webhook: 'http://user:hidden@example.org'}\n"
    )
    return version


def test_the_restored_machine_serves_the_same_version(drill: Drill) -> None:
    row = served(open_stores(drill.second))
    assert row is not None
    assert row.version == drill.version
    assert detect_once(drill.second, PICTURE, purpose="probe").model_version == drill.version


def test_its_artefacts_are_found_at_the_new_place_with_the_registered_digest(drill: Drill, tmp_path: Path) -> None:
    registry = open_stores(drill.second).registry
    source = registry.client().get_model_version(MODEL_NAME, str(drill.version)).source
    assert str(source).startswith(drill.second.home.as_uri())
    assert drill.restored.moved_paths >= 3
    assert folder_digest(registry.download(MODEL_NAME, drill.version, tmp_path / "files")) == drill.digest


def test_frames_rows_and_dataset_versions_are_there(drill: Drill, tmp_path: Path) -> None:
    stores = open_stores(drill.second)
    rows = FrameIndex(stores).query()
    assert list(rows["object_key"]) == [KEY]
    assert stores.objects.get(KEY) == PIXELS
    assert versions.list_versions(drill.second) == ["v1"]
    got = versions.checkout(drill.second, "v1", tmp_path / "v1")
    assert {path.name: path.read_bytes() for path in got.iterdir()} == FILES


def test_the_profile_comes_back_and_secrets_do_not(drill: Drill) -> None:
    assert drill.second.profile == drill.first.profile
    assert drill.second.training.epochs == 7
    assert drill.second.notifications.webhook is None
    assert drill.restored.left_out == ("notifications.webhook",)


def test_neither_the_master_key_nor_a_password_is_at_the_target(drill: Drill) -> None:
    stored = [path.read_bytes() for path in drill.target.store.folder.rglob("*") if path.is_file()]  # type: ignore[union-attr]
    names = [member.path for member in drill.target.members(drill.made.backup)]
    (master,) = (drill.second.home / "keys" / "master").glob("*.key")
    secrets = (master.read_bytes(), bytes.fromhex(master.read_text()), b"hidden", PIXELS)
    assert not any(secret in content for content in stored for secret in secrets)
    assert not any("keys" in name or "passwords" in name or name.endswith(".key") for name in names)
    assert sorted(path.name for path in (drill.second.home / "keys" / "data" / "north").iterdir()) == [
        "2026-05-01.json",
        "2026-05-02.json",
    ]


def test_the_next_backup_sends_only_what_is_new_and_goes_on_at_the_same_target(drill: Drill) -> None:
    # The first of a new home reads everything; what it reads is there.
    create_backup(drill.second, drill.target)
    open_plain(drill.second).put("frames/cd/cd.jpg", b"new" * 1000)
    made = create_backup(drill.second, drill.target)
    paths = {member.path: member for member in drill.target.members(made.backup)}
    dumps = sum(paths[f"database/{name}.dump"].size for name in ("its", "mlflow", "dagster"))
    assert "objects/frames/cd/cd.jpg" in paths
    assert made.sent < dumps + 200_000 < made.backup.size
    assert verify_backup(drill.target, made.backup.id).is_whole


def test_a_home_with_data_is_refused(drill: Drill) -> None:
    with pytest.raises(BadInput, match="has data in it"):
        restore_backup(drill.target, drill.made.backup.id, drill.second.home)


def test_a_part_that_a_killed_restore_may_have_moved_is_told_and_left_alone(drill: Drill) -> None:
    space = drill.second.home / ".restoring"
    space.mkdir()
    try:
        with pytest.raises(BadInput, match="a restore that was killed"):
            restore_backup(drill.target, drill.made.backup.id, drill.second.home)
        assert space.is_dir()
    finally:
        space.rmdir()


def test_two_backups_of_one_home_at_once_are_refused(drill: Drill) -> None:
    with alone(drill.second), pytest.raises(LeaseHeld):
        create_backup(drill.second, drill.target)


def test_pruning_keeps_the_newest_whole(drill: Drill) -> None:
    made = create_backup(drill.second, drill.target)
    removed = prune_backups(drill.second, drill.target, keep=1)
    assert drill.made.backup.id in removed
    assert [one.id for one in list_backups(drill.target)[0]] == [made.backup.id]
    assert verify_backup(drill.target).is_whole
