"""Triton with mutual TLS and a restricted repository: who is answered, who is refused, and that releasing goes on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from its_detector_client import AsyncDetectorClient, DetectorClient, Refused, Tls, Unavailable, encode_jpeg
from its_platform.certificates import make_certificates, make_client
from its_platform.processes import port_owner
from its_platform.release import promote, real_outside
from its_platform.serving import health
from its_platform.serving.processes import running
from its_platform.serving.server import start_triton, stop_triton
from its_platform.serving.tls import ADMIN_HEADER
from its_platform.settings import REPOSITORY, SecuritySettings
from its_platform.stores import Stores
from its_platform.stores.registry import Registry
from tests.fakes import card_of, tiny_onnx
from tests.integration.site import MODEL, PICTURE, Site, even_answers

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def site(stores: Stores, registry: Registry, tmp_path: Path, require: Callable[[bool, str], None]) -> Iterator[Site]:
    gates = stores.settings.gates.model_copy(update={"latency_spread": 50.0, "latency_ratio": 20.0})
    security = SecuritySettings(triton_tls=True)
    settings = stores.settings.model_copy(update={"gates": gates, "security": security})
    require((settings.environments / "tritonserver" / "pytriton").is_dir(), "the bundled Triton")
    make_certificates(settings.certificates, ["127.0.0.1"], days=1)
    own = replace(stores, settings=settings)
    start_triton(settings)
    yield Site(own, registry, replace(real_outside(own), evaluate=even_answers, card=card_of), tmp_path)
    stop_triton(settings)


def test_only_who_has_a_certificate_is_answered_and_only_who_has_the_secret_changes_what_is_served(site: Site) -> None:
    settings, out = site.stores.settings, site.folder / "north"
    # The release stage places, loads, judges and reads back, all of it with certificate and secret.
    version = site.train(tiny_onnx(note="first"))
    site.judge(version)
    promote(site.stores, version, "production", "tester", "", outside=site.outside)
    site.assert_served(version)
    assert all(result.is_healthy for result in health.probe(settings))

    make_client(settings.certificates, "north", out, days=1)
    known = Tls(out / "ca.pem", out / "north.pem", out / "north.key")
    with DetectorClient(settings.triton_grpc, tls=known) as client:
        assert client.detect(PICTURE, purpose="probe").model_version == version
        large = PICTURE.repeat(8, axis=0).repeat(8, axis=1)
        assert [client.detect(large, purpose="probe").model_version for _ in range(2)] == [version] * 2
    pictures = site.folder / "pictures"
    pictures.mkdir()
    (pictures / "a.jpg").write_bytes(encode_jpeg(PICTURE))
    example = [sys.executable, str(REPOSITORY / "examples" / "live" / "watch.py"), settings.triton_grpc, str(pictures)]
    words = [*example, "--purpose", "probe", "--tls", str(out / "north.pem")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout)["version"] == version, done.stderr

    with (
        DetectorClient(settings.triton_grpc, is_patient=False, deadline_s=5) as nobody,
        pytest.raises(Unavailable),
    ):
        nobody.detect(PICTURE, purpose="probe")
    # A certificate of another authority is none.
    make_certificates(site.folder / "other", ["127.0.0.1"], days=1)
    other = site.folder / "other"
    stranger = Tls(out / "ca.pem", other / "client.pem", other / "client.key")
    with (
        DetectorClient(settings.triton_grpc, is_patient=False, deadline_s=5, tls=stranger) as client,
        pytest.raises(Unavailable),
    ):
        client.detect(PICTURE, purpose="probe")

    asyncio.run(assert_repository_is_closed(site))
    site.assert_served(version)
    server = running(settings)
    assert server is not None
    secret = (settings.certificates / "repository.secret").read_bytes()
    assert secret not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert port_owner(settings.host, settings.ports.triton_http) is None, "HTTP has no TLS, so there is none"


async def assert_repository_is_closed(site: Site) -> None:
    """To a client with a certificate and no secret, or a wrong one."""
    settings = site.stores.settings
    files = settings.certificates
    known = Tls(files / "ca.pem", files / "client.pem", files / "client.key")
    async with AsyncDetectorClient(settings.triton_grpc, tls=known, deadline_s=5) as client:
        for call in (
            lambda channel, left_s: channel.unload_model(MODEL, client_timeout=left_s),
            lambda channel, left_s: channel.load_model(MODEL, client_timeout=left_s),
            lambda channel, left_s: channel.get_model_repository_index(client_timeout=left_s),
            lambda channel, left_s: channel.unload_model(MODEL, {ADMIN_HEADER: "guess"}, client_timeout=left_s),
        ):
            with pytest.raises(Refused, match="restricted"):
                await client.call(call)
