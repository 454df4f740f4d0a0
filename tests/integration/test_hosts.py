"""Released versions on another host, for real: SeaweedFS between two homes, each with a Triton of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from its_platform import processes
from its_platform.doctor import examine
from its_platform.errors import BadInput
from its_platform.release import promote, real_outside, rollback, served
from its_platform.release.hosts.documents import WISH_KEY
from its_platform.release.hosts.passes import last_pass
from its_platform.release.hosts.place import host_shelf, publishing_shelf, write_host_home
from its_platform.release.hosts.syncing import sync
from its_platform.release.triton import TritonServer
from its_platform.serving.client import detect_once
from its_platform.serving.processes import free_ports, running
from its_platform.serving.server import start_triton, stop_triton
from its_platform.settings import Ports, Settings, load_settings
from its_platform.stack import stack_status, start_stack, stop_stack
from its_platform.stores import Stores, open_stores
from its_platform.stores.objects import BUCKET, S3Store, host_key, own_address
from its_platform.stores.registry import Registry
from tests.fakes import card_of, tiny_onnx
from tests.integration.site import MODEL, PICTURE, Site, even_answers

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(400)]

WITHIN_S = 90.0


@pytest.fixture
def site(
    servers: Settings, stores: Stores, registry: Registry, tmp_path: Path, require: Callable[[bool, str], None]
) -> Iterator[Site]:
    """A home of the services profile on the session's S3 server, with rows and a Triton of its own."""
    require((servers.environments / "tritonserver" / "pytriton").is_dir(), "the bundled Triton")
    home = tmp_path / "publisher"
    for name in ("services/passwords", "certificates"):
        shutil.copytree(servers.home / name, home / name)
    http, grpc, metrics = free_ports(3)
    own = {"triton_http": http, "triton_grpc": grpc, "triton_metrics": metrics}
    settings = servers.model_copy(
        update={
            "home": home,
            "database_url": stores.settings.database_url,
            "ports": servers.ports.model_copy(update=own),
            "gates": servers.gates.model_copy(update={"latency_spread": 50.0, "latency_ratio": 20.0}),
            "serving": servers.serving.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}),
        }
    )
    opened = open_stores(settings)
    start_triton(settings)
    yield Site(opened, opened.registry, replace(real_outside(opened), evaluate=even_answers, card=card_of), tmp_path)
    stop_triton(settings)
    shelf = publishing_shelf(settings)
    assert shelf is not None
    for key in list(shelf.store.list()):
        shelf.store.delete(key)


@pytest.fixture
def host(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The home of another host, as `its serving host` writes it, on ports that are free."""
    home = tmp_path / "host"
    write_host_home(site.stores.settings, home)
    monkeypatch.setenv("ITS_HOME", str(home))
    names = list(Ports.model_fields)
    ports = Ports(**dict(zip(names, free_ports(len(names)), strict=True)))
    settings = load_settings(home=home, ports=ports)
    assert settings.is_host
    return settings.model_copy(update={"hosts": settings.hosts.model_copy(update={"interval_s": 0.5})})


def answering(settings: Settings) -> int:
    return detect_once(settings, PICTURE, purpose="probe").model_version


def release(site: Site, note: str) -> int:
    version = site.train(tiny_onnx(note=note))
    site.release(version)
    return version


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WITHIN_S
    while not is_so():
        assert time.monotonic() < end, f"{what} did not come about"
        time.sleep(0.2)


def test_a_host_follows_what_is_released_and_refuses_what_was_changed_on_the_way(site: Site, host: Settings) -> None:
    start_triton(host)
    try:
        first = release(site, "first")
        done = sync(host)
        assert (dict(done.serves)["production"], done.refused, done.problem) == (first, (), "")
        row = served(site.stores)
        assert row is not None
        assert TritonServer(host).signature(MODEL, first).digest == row.digest
        assert answering(host) == first

        shelf = publishing_shelf(site.stores.settings)
        assert shelf is not None
        old_wish = shelf.store.get(WISH_KEY)
        second = release(site, "second")
        key = f"triton/{MODEL}/{second}/model.onnx"
        whole = shelf.store.get(key)
        shelf.store.put(key, whole[:-1] + bytes([whole[-1] ^ 1]))
        done = sync(host)
        assert any("not the one that was signed" in one for one in done.refused)
        assert answering(host) == first

        shelf.store.put(key, whole)
        manifest = shelf.store.get(f"triton/{MODEL}/{second}/manifest.json")
        shelf.store.delete(f"triton/{MODEL}/{second}/manifest.json")
        done = sync(host)
        assert any("was not published whole" in one for one in done.refused)
        assert (answering(host), TritonServer(host).placed()) == (first, {MODEL: {first}})

        shelf.store.put(f"triton/{MODEL}/{second}/manifest.json", manifest)
        assert sync(host).refused == ()
        assert answering(host) == second
        new_wish = shelf.store.get(WISH_KEY)
        shelf.store.put(WISH_KEY, old_wish)
        assert any("was followed here already" in one for one in sync(host).refused)
        assert answering(host) == second

        shelf.store.put(WISH_KEY, new_wish)
        rollback(site.stores, "tester", "it misses buses", outside=site.outside)
        assert sync(host).refused == ()
        assert answering(host) == first
    finally:
        stop_triton(host)


def test_a_host_runs_triton_the_agent_and_the_supervisor_and_nothing_else(site: Site, host: Settings) -> None:
    first = release(site, "first")
    try:
        assert [one.name for one in start_stack(host)] == ["triton", "sync", "supervisor"]
        assert answering(host) == first
        told = {one.name: one for one in stack_status(host)}
        assert {one.state for one in told.values()} == {"healthy"}
        assert f"serves version {first} at " in told["sync"].note
        assert not (host.home / "postgres").exists()

        second = release(site, "second")
        wait_until(lambda: answering(host) == second, "the second version")
        findings = [one for one in examine(host) if not one.is_well and one.name != "disk"]
        assert findings == []

        triton = running(host)
        assert triton is not None
        os.kill(triton.pid, signal.SIGKILL)
        wait_until(lambda: is_answering(host, second), "Triton after its end")

        shelf = publishing_shelf(site.stores.settings)
        assert shelf is not None
        shelf.store.put(WISH_KEY, b"{}")
        wait_until(lambda: bool((last := last_pass(host)) and last.refused), "a refusal")
        assert any(one.name == "sync" and "is no signed document" in one.finding for one in examine(host))
        assert answering(host) == second
    finally:
        stop_stack(host)
    assert processes.left_behind(host) == []


def is_answering(settings: Settings, version: int) -> bool:
    from its_platform.errors import ItsError

    try:
        return answering(settings) == version
    except ItsError:
        return False


def test_a_hosts_key_reads_released_versions_and_nothing_else(site: Site, host: Settings, servers: Settings) -> None:
    release(site, "first")
    open_stores(servers).objects.put("frames/secret.jpg", b"picture")
    store = host_shelf(host).store
    assert store.get(f"triton/{MODEL}/1/version.json")
    with pytest.raises(BadInput, match="refuses the credentials"):
        store.put(WISH_KEY, b"{}")
    with pytest.raises(BadInput, match="refuses the credentials"):
        store.delete(WISH_KEY)
    address = own_address(servers, BUCKET, host_key(servers))
    with pytest.raises(BadInput, match="refuses the credentials"):
        S3Store(address, servers.certificates / "ca.pem").get("frames/secret.jpg")


def test_the_command_fails_where_something_is_refused(site: Site, host: Settings) -> None:
    start_triton(host)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ITS_PORTS")},
        "ITS_HOME": str(host.home),
        "ITS_PORTS__TRITON_GRPC": str(host.ports.triton_grpc),
        "ITS_PORTS__TRITON_HTTP": str(host.ports.triton_http),
        "ITS_PORTS__TRITON_METRICS": str(host.ports.triton_metrics),
    }
    command = [sys.executable, "-m", "its_platform.cli", "serving", "sync"]
    try:
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert (ran.returncode, "There is no triton/wish.json" in ran.stderr) == (1, True), ran.stderr
        version = site.train(tiny_onnx(note="first"))
        site.judge(version)
        promote(site.stores, version, "production", "tester", "", outside=site.outside)
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert ran.returncode == 0, ran.stderr
        assert answering(host) == version
    finally:
        stop_triton(host)
