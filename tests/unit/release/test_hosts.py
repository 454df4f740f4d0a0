"""What a host trusts of a store that others may write to, and how it follows; the store is a folder, Triton a fake."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from its_platform import cli
from its_platform.doctor.hosts import check_followed, check_published
from its_platform.errors import BadInput, ServerUnavailable
from its_platform.release import truth, verdicts
from its_platform.release.asking import promote, rollback
from its_platform.release.gates import GateResult
from its_platform.release.hosts import fetching, publishing, signing
from its_platform.release.hosts.documents import (
    WISH_KEY,
    Manifest,
    PublishedFile,
    read_manifest,
    read_wish,
    signed_wish,
)
from its_platform.release.hosts.passes import SyncPass, last_pass
from its_platform.release.hosts.place import host_shelf, write_host_home
from its_platform.release.hosts.signing import PublicationRefused, public_pem, sign, signing_key, verified
from its_platform.release.hosts.syncing import sync
from its_platform.release.outside import Image, Outside, Placing, Rows
from its_platform.serving import repository
from its_platform.settings import HostSettings, Settings, load_settings
from its_platform.stores import Stores
from its_platform.stores.objects import DirectoryStore
from its_platform.supervisor import HostsWatch
from tests.fakes import CORRUPT, Crash, FakeRegistry, FakeTriton, Steps, answer, fake_outside

MODEL = "detector-yolo-onnx-64"
PASSED = GateResult("accuracy_floor", "ap50", "golden", 0.8, 0.5, 200, "passed", "")


@dataclass
class Publisher:
    """A home that releases, with real rows, and publishes into a folder."""

    stores: Stores
    outside: Outside
    folder: Path

    @property
    def store(self) -> DirectoryStore:
        return DirectoryStore(self.folder)

    def release(self, content: bytes | None = None, stage: str = "production") -> int:
        registry = self.outside.registry
        assert isinstance(registry, FakeRegistry)
        version = registry.add(content).version
        now = truth.served(self.stores)
        verdicts.record_judgement(self.stores, version, "test", now.version if now else None, (PASSED,))
        promote(self.stores, version, stage, "tester", "a test", outside=self.outside)
        return version

    def published(self) -> set[str]:
        return set(self.store.list("triton/"))


@dataclass
class Host:
    """A home of its own that knows the folder and the public key."""

    settings: Settings
    placing: Placing

    @property
    def triton(self) -> FakeTriton:
        assert isinstance(self.placing.server, FakeTriton)
        return self.placing.server

    def sync(self) -> SyncPass:
        return sync(self.settings, self.placing)

    def answering(self, stage: str = "production") -> int:
        return self.triton.served_version(np.zeros((48, 64, 3), np.uint8), stage)


@pytest.fixture
def publisher(stores: Stores, tmp_path: Path) -> Publisher:
    folder = tmp_path / "published"
    folder.mkdir()
    hosts = HostSettings(publish_url=f"file://{folder}")
    own = replace(stores, settings=stores.settings.model_copy(update={"hosts": hosts}))
    return Publisher(own, fake_outside(own.settings), folder)


@pytest.fixture
def make_host(publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Host]:
    def made(name: str) -> Host:
        home = tmp_path / name
        write_host_home(publisher.stores.settings, home)
        monkeypatch.setenv("ITS_HOME", str(home))
        settings = load_settings(home=home)
        assert settings.is_host
        return Host(settings, fake_placing(settings))

    return made


@pytest.fixture
def host(make_host: Callable[[str], Host]) -> Host:
    return make_host("host")


def fake_placing(settings: Settings) -> Placing:
    def run_onnx(onnx: Path, images: Image) -> Rows:
        return answer(onnx.read_bytes(), len(images))

    return Placing(
        server=FakeTriton(settings, Steps()),
        run_onnx=run_onnx,
        picture=lambda version: np.full((48, 64, 3), 90, np.uint8),
        patience_s=0.0,
        steady_s=0.0,
    )


def test_a_host_serves_what_was_released_with_the_same_digest(publisher: Publisher, host: Host) -> None:
    version = publisher.release()
    done = host.sync()
    assert (dict(done.serves), done.fetched, done.refused) == ({"production": version}, (f"version 1 of {MODEL}",), ())
    assert host.answering() == version
    row = truth.served(publisher.stores)
    assert row is not None
    assert host.triton.signature(MODEL, version).digest == row.digest
    again = host.sync()
    assert (again.fetched, again.removed, again.refused) == ((), (), ())
    assert host.triton.loads == [MODEL]


def test_releases_and_rollbacks_reach_a_host_and_what_is_spent_leaves_it(publisher: Publisher, host: Host) -> None:
    first, second = publisher.release(), publisher.release()
    host.sync()
    assert host.answering() == second
    rollback(publisher.stores, "tester", "it misses buses", outside=publisher.outside)
    done = host.sync()
    assert host.answering() == first
    assert done.removed == (f"version {second} of {MODEL}",)
    assert host.triton.placed() == {MODEL: {first}}


def test_a_stage_that_ended_ends_at_a_host_and_its_neighbour_goes_on(publisher: Publisher, host: Host) -> None:
    first = publisher.release()
    publisher.release(stage="canary")
    assert set(host.sync().serves) == {"production", "canary"}
    publisher.outside.registry.delete_alias("traffic-detector", "canary")
    wish = publishing.last_told(publisher.stores.settings)
    assert wish is not None
    with truth.lease(publisher.stores) as held:
        truth.end_release(held, "canary", "a test", "it is over")
        publishing.publish(held)
    assert dict(host.sync().serves) == {"production": first}


def tamper_bytes(publisher: Publisher) -> str:
    key = f"triton/{MODEL}/2/model.onnx"
    publisher.store.put(key, publisher.store.get(key)[:-1] + b"?")
    return "model.onnx of version 2 of detector-yolo-onnx-64 is not the one that was signed"


def remove_file(publisher: Publisher) -> str:
    publisher.store.delete(f"triton/{MODEL}/2/model.onnx")
    return "has no model.onnx"


def remove_manifest(publisher: Publisher) -> str:
    publisher.store.delete(f"triton/{MODEL}/2/manifest.json")
    return "has no manifest"


def take_another_manifest(publisher: Publisher) -> str:
    publisher.store.put(f"triton/{MODEL}/2/manifest.json", publisher.store.get(f"triton/{MODEL}/1/manifest.json"))
    return "is that of version 1"


def sign_by_another(publisher: Publisher) -> str:
    key = f"triton/{MODEL}/2/manifest.json"
    stored = json.loads(publisher.store.get(key))
    forged = sign(signing.Ed25519PrivateKey.generate(), "manifest", json.loads(stored["document"]))
    publisher.store.put(key, forged)
    return "is not signed by the publisher"


def climb_out(publisher: Publisher) -> str:
    climbing = PublishedFile("../../../routes.json", 2, "0" * 64)
    manifest = Manifest(MODEL, 2, "0" * 64, (climbing,))
    publisher.store.put(f"triton/{MODEL}/2/manifest.json", manifest.signed(signing_key(publisher.stores.settings)))
    return "leads out of the version's folder"


@pytest.mark.parametrize(
    "harm", [tamper_bytes, remove_file, remove_manifest, take_another_manifest, sign_by_another, climb_out]
)
def test_what_is_not_as_it_was_signed_is_refused_and_the_old_version_serves_on(
    publisher: Publisher, host: Host, harm: Callable[[Publisher], str]
) -> None:
    first = publisher.release()
    host.sync()
    second = publisher.release()
    told = harm(publisher)
    done = host.sync()
    assert [told in one for one in done.refused] == [True]
    assert "\n" not in done.refused[0]
    assert (dict(done.serves), host.answering()) == ({"production": first}, first)
    assert host.triton.placed() == {MODEL: {first}}
    with truth.lease(publisher.stores) as held:
        publishing.publish(held, is_anew=True)
    assert host.sync().refused == ()
    assert host.answering() == second


def test_another_content_under_a_number_that_is_served_is_refused(publisher: Publisher, host: Host) -> None:
    version = publisher.release()
    host.sync()
    told = publishing.last_told(publisher.stores.settings)
    assert told is not None
    # As from a registry that began anew: the same number, classes and thresholds, and a signature that holds.
    stages = {stage: replace(wished, digest="0" * 64) for stage, wished in told.wish.stages.items()}
    anew = replace(told.wish, generation=told.wish.generation + 1, stages=stages)
    publisher.store.put(WISH_KEY, signed_wish(signing_key(publisher.stores.settings), anew))
    done = host.sync()
    assert ["empty home" in one for one in done.refused] == [True]
    assert host.answering() == version


def test_an_old_wish_that_somebody_put_back_is_refused(publisher: Publisher, host: Host) -> None:
    publisher.release()
    old = publisher.store.get(WISH_KEY)
    second = publisher.release()
    host.sync()
    publisher.store.put(WISH_KEY, old)
    done = host.sync()
    assert "was followed here already" in done.refused[0]
    assert host.answering() == second


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        (b"", "is no signed document"),
        (b"[]", "is no signed document"),
        (b'{"document": {}, "signature": "?"}', "is no signed document"),
        (b'{"document": "{}", "signature": "AAAA"}', "is not signed by the publisher"),
    ],
)
def test_a_wish_that_nobody_signed_is_refused(publisher: Publisher, host: Host, stored: bytes, told: str) -> None:
    version = publisher.release()
    host.sync()
    publisher.store.put(WISH_KEY, stored)
    done = host.sync()
    assert told in done.refused[0]
    assert host.answering() == version


def test_a_manifest_is_no_wish(publisher: Publisher) -> None:
    publisher.release()
    key = signing_key(publisher.stores.settings)
    manifest = publisher.store.get(f"triton/{MODEL}/1/manifest.json")
    assert read_manifest(key.public_key(), manifest, MODEL, 1).version == 1
    with pytest.raises(PublicationRefused, match="not signed by the publisher"):
        read_wish(key.public_key(), manifest)


def test_a_version_without_its_manifest_is_not_looked_at_until_it_is_wished(publisher: Publisher, host: Host) -> None:
    publisher.release()
    publisher.store.put(f"triton/{MODEL}/9/model.onnx", b"half")
    assert host.sync().refused == ()
    assert host.triton.placed() == {MODEL: {1}}


def test_a_fetch_that_was_cut_off_goes_on_where_it_was(
    publisher: Publisher, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.release()
    asked: list[str] = []
    get = DirectoryStore.get

    def cut(self: DirectoryStore, key: str) -> bytes:
        asked.append(key.rpartition("/")[2])
        if asked[-1] == "model.onnx" and asked.count("model.onnx") == 1:
            raise ServerUnavailable("The object store hung up.")
        return get(self, key)

    monkeypatch.setattr(DirectoryStore, "get", cut)
    done = host.sync()
    assert (done.problem, dict(done.serves)) == ("The object store hung up.", {})
    assert host.triton.placed() == {}
    assert host.sync().serves == {"production": 1}
    assert asked.count("version.json") == 1, "what lay there whole was fetched again"
    assert list((host.settings.home / "triton" / "incoming").iterdir()) == []


@pytest.mark.parametrize("module", [fetching, repository])
def test_a_full_disk_of_a_host_is_told_and_what_was_served_serves_on(
    publisher: Publisher, host: Host, monkeypatch: pytest.MonkeyPatch, module: ModuleType
) -> None:
    first = publisher.release()
    host.sync()
    second = publisher.release()

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_file" if module is fetching else "_write_synced", full)
        done = host.sync()
    assert "is full" in done.problem
    assert (dict(done.serves), host.answering()) == ({"production": first}, first)
    assert last_pass(host.settings) == done
    assert host.sync().problem == ""
    assert host.answering() == second


def test_a_version_that_does_not_run_at_a_host_leaves_nothing_there(publisher: Publisher, host: Host) -> None:
    first = publisher.release()
    host.sync()
    second = publisher.release()
    host.triton.garbled.add(second)
    done = host.sync()
    assert "answers class 25" in done.refused[0]
    assert (host.answering(), host.triton.placed()) == (first, {MODEL: {first}})
    assert [host.sync().refused[0].startswith("production: ") for _ in range(2)] == [True, True]
    loads = len(host.triton.loads)
    assert "failed 3 times" in host.sync().refused[0]
    assert len(host.triton.loads) == loads, "it was tried once more by itself"
    host.triton.garbled.clear()
    assert sync(host.settings, host.placing, is_anew=True).refused == ()
    assert host.answering() == second


def test_a_file_that_was_damaged_at_a_host_is_fetched_anew(publisher: Publisher, host: Host) -> None:
    version = publisher.release()
    host.sync()
    (host.settings.model_repository / MODEL / str(version) / "model.onnx").write_bytes(CORRUPT)
    done = host.sync()
    assert (done.fetched, done.refused) == ((f"version {version} of {MODEL}",), ())
    assert host.triton.broken() == {}
    assert host.answering() == version


def test_a_triton_that_forgot_is_told_again_without_the_store(publisher: Publisher, host: Host) -> None:
    version = publisher.release()
    host.sync()
    host.triton.forget()
    shutil.rmtree(publisher.folder / "triton" / MODEL)
    assert host.sync().refused == ()
    assert host.answering() == version


def test_a_store_that_is_away_changes_nothing(
    publisher: Publisher, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = publisher.release()
    generation = host.sync().generation

    def away(self: DirectoryStore, key: str) -> bytes:
        raise ServerUnavailable("The object store does not answer.")

    monkeypatch.setattr(DirectoryStore, "get", away)
    done = host.sync()
    assert (done.problem, done.generation) == ("The object store does not answer.", generation)
    assert host.answering() == version
    kept = last_pass(host.settings)
    assert kept == done
    assert "does not answer" in kept.words


def test_a_release_stands_though_hosts_cannot_be_told_and_they_are_told_later(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def full(self: DirectoryStore, key: str, data: bytes) -> None:
            raise ServerUnavailable("The object store does not answer.")

        patched.setattr(DirectoryStore, "put", full)
        version = publisher.release()
    assert publishing.is_untold(publisher.stores)
    assert WISH_KEY not in publisher.published()
    (found,) = check_published(publisher.stores.settings)
    assert not found.is_well
    assert "does not have what is served now" in found.finding
    HostsWatch(publisher.stores.settings).look(0.0)
    told = publishing.last_told(publisher.stores.settings)
    assert told is not None
    assert told.wish.stages["production"].route.version == version
    assert [one.is_well for one in check_published(publisher.stores.settings)] == [True]
    assert not publishing.is_untold(publisher.stores)


def test_an_upload_that_was_cut_off_has_no_manifest_and_no_wish(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = DirectoryStore.put

    def cut(self: DirectoryStore, key: str, data: bytes) -> None:
        if key.endswith("model.onnx"):
            raise ServerUnavailable("The object store hung up.")
        put(self, key, data)

    monkeypatch.setattr(DirectoryStore, "put", cut)
    publisher.release()
    assert publisher.published() == {f"triton/{MODEL}/1/version.json"}


def test_generations_grow_though_the_clock_was_set_back(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher.release()
    before = publishing.last_told(publisher.stores.settings)
    monkeypatch.setattr(publishing.time, "time", lambda: 1000.0)
    publisher.release()
    after = publishing.last_told(publisher.stores.settings)
    assert before is not None
    assert after is not None
    assert after.wish.generation == before.wish.generation + 1


def test_a_place_where_another_home_publishes_is_left_alone_until_it_is_taken_over(publisher: Publisher) -> None:
    other = sign(signing.Ed25519PrivateKey.generate(), "wish", {"generation": 1, "at": "2026-01-01", "stages": {}})
    publisher.store.put(WISH_KEY, other)
    publisher.release()
    assert publisher.published() == {WISH_KEY}
    with truth.lease(publisher.stores) as held:
        with pytest.raises(BadInput, match="another one publishes there"):
            publishing.publish(held)
        assert publishing.publish(held, is_anew=True) is not None
    assert publisher.store.get(WISH_KEY) != other


def test_versions_that_no_stage_has_leave_the_store_with_the_repository(publisher: Publisher) -> None:
    for _ in range(3):
        publisher.release()
    # The one in production, and the last good one to go back to.
    assert {key.split("/")[2] for key in publisher.published() if key.count("/") == 3} == {"2", "3"}


def test_the_private_key_is_its_owners_alone_and_no_host_gets_it(publisher: Publisher, host: Host) -> None:
    publisher.release()
    key = publisher.stores.settings.home / "signing" / "hosts.key"
    assert key.stat().st_mode & 0o777 == 0o600
    secret = key.read_bytes()
    assert not any(path.read_bytes() == secret for path in host.settings.home.rglob("*") if path.is_file())
    assert not any(publisher.store.get(name) == secret for name in publisher.published())
    own = signing_key(publisher.stores.settings)
    assert (host.settings.home / "publisher.pem").read_bytes() == public_pem(own)
    document = verified(own.public_key(), "note", sign(own, "note", {"a": 1}), "a note")
    assert document == {"a": 1}


def test_the_home_of_a_host_holds_no_key_that_may_write(publisher: Publisher, tmp_path: Path) -> None:
    hosts = HostSettings(publish_url="s3+https://writer:secret@s3.example.org:9000/models/city")
    settings = publisher.stores.settings.model_copy(update={"hosts": hosts})
    files = write_host_home(settings, tmp_path / "north")
    assert files[-1].read_text() == "hosts:\n  sync_url: s3+https://s3.example.org:9000/models/city\n"
    assert files[-1].stat().st_mode & 0o777 == 0o600
    with pytest.raises(BadInput, match="there already"):
        write_host_home(settings, tmp_path / "north")


def test_a_home_is_publisher_or_host_and_says_so(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="This home is no host"):
        host_shelf(settings)
    with pytest.raises(BadInput, match="publishes no versions"):
        write_host_home(settings, tmp_path / "north")
    with pytest.raises(BadInput, match="not both"):
        load_settings(hosts={"publish_url": "file:///a", "sync_url": "file:///b"})


def test_a_host_has_no_database(host: Host) -> None:
    from its_platform.stores import open_stores

    with pytest.raises(BadInput, match="has no database"):
        truth.served(open_stores(host.settings))


def test_a_state_that_cannot_be_read_is_no_first_pass(publisher: Publisher, host: Host) -> None:
    publisher.release()
    host.sync()
    (host.settings.home / "triton" / "sync.json").write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        host.sync()


def test_a_pass_that_was_killed_counts_as_none_and_no_older_wish_is_followed_after_it(
    publisher: Publisher, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.release()
    old = publisher.store.get(WISH_KEY)
    publisher.release()
    with monkeypatch.context() as patched:

        def killed(*given: object) -> None:
            raise Crash("killed")

        patched.setattr(FakeTriton, "place", killed)
        with pytest.raises(Crash):
            host.sync()
    assert last_pass(host.settings) is None
    publisher.store.put(WISH_KEY, old)
    assert "was followed here already" in host.sync().refused[0]


def test_the_commands_publish_and_hand_out_what_a_host_needs(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = publisher.stores.settings
    monkeypatch.setenv("ITS_HOME", str(settings.home))
    monkeypatch.setenv("ITS_DATABASE_URL", str(settings.database_url))
    monkeypatch.setenv("ITS_HOSTS__PUBLISH_URL", str(settings.hosts.publish_url))
    with pytest.raises(SystemExit) as ended:
        cli.main(["serving", "publish", "--json"])
    assert ended.value.code == 1
    assert "There is nothing to publish" in capsys.readouterr().err
    version = publisher.release()
    publisher.store.delete(f"triton/{MODEL}/{version}/model.onnx")
    with pytest.raises(SystemExit) as ended:
        cli.main(["serving", "publish", "--json"])
    assert ended.value.code in {0, None}
    assert json.loads(capsys.readouterr().out)["production"] == f"{MODEL} version {version}"
    assert f"triton/{MODEL}/{version}/model.onnx" in publisher.published()
    with pytest.raises(SystemExit):
        cli.main(["serving", "host", str(tmp_path / "north"), "--json"])
    assert {path.name for path in (tmp_path / "north").iterdir()} == {"publisher.pem", "settings.yaml"}


def test_what_a_host_refused_is_a_finding_of_its_doctor(publisher: Publisher, host: Host) -> None:
    assert [one.finding for one in check_followed(host.settings)] == ["no pass yet"]
    publisher.release()
    host.sync()
    (found,) = check_followed(host.settings)
    assert found.is_well
    assert "serves version 1 at production" in found.finding
    publisher.store.put(WISH_KEY, b"{}")
    host.sync()
    (found,) = check_followed(host.settings)
    assert not found.is_well
    assert "is no signed document" in found.finding
