"""Every port of the services profile, for real: TLS alone, the right authority, and a renewed certificate at once."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import psycopg2
import pytest
from websockets.sync.client import connect

from its_platform import certificates, processes
from its_platform.alerting import prometheus
from its_platform.alerting.access import ask
from its_platform.certificates import make_certificates, server_names
from its_platform.doctor.servers import check_certificates
from its_platform.errors import ServerUnavailable
from its_platform.parts import part_named
from its_platform.settings import Settings
from its_platform.stack import dagster_query, renew_certificates, restart_part, stack_status, start_stack
from its_platform.stores import open_stores, postgres
from its_platform.stores.cache_server import is_redis_well
from its_platform.stores.cache_server import renew_certificate as renew_redis
from its_platform.stores.database import Database, dispose_engines
from its_platform.stores.object_server import INNER_PORTS
from its_platform.stores.postgres import server_process
from needs import need, need_prometheus
from tests.integration.test_metrics import within

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]
READERS = ("mlflow", "evidently", "dagster", "metrics", "alertmanager", "prometheus")
PARTS = ("triton", "dagster-code", *READERS)
PORTS = ("postgres", "redis", "objects", "triton_grpc", *READERS)
STARTS_TLS = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


@pytest.fixture(scope="module")
def everything(servers: Settings) -> Iterator[Settings]:
    """All parts but the daemon, which does not listen, and the supervisor, which would mend what is broken here."""
    need_prometheus()
    need((servers.environments / "tritonserver" / "pytriton").is_dir(), "the bundled Triton")
    settings = servers.model_copy(update={"metrics": servers.metrics.model_copy(update={"interval_s": 5})})
    start_stack(settings, list(PARTS))
    yield settings
    with ThreadPoolExecutor(len(PARTS)) as pool:
        list(pool.map(lambda name: processes.stop(settings, name, 30), PARTS))


@contextmanager
def greeted(settings: Settings, port: str, root: Path) -> Iterator[ssl.SSLSocket]:
    """A connection to a port by somebody who trusts the authority in `root`."""
    context = ssl.create_default_context(cafile=str(root))
    with socket.create_connection((settings.host, getattr(settings.ports, port)), timeout=10) as raw:
        if port == "postgres":
            raw.sendall(STARTS_TLS)
            assert raw.recv(1) == b"S"
        with context.wrap_socket(raw, server_hostname=settings.host) as wrapped:
            yield wrapped


def shown(settings: Settings, port: str) -> str:
    with greeted(settings, port, settings.certificates / "ca.pem") as wrapped:
        return ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(binary_form=True) or b"")


def test_nothing_listens_but_what_is_known(everything: Settings) -> None:
    ports = everything.ports
    with_tls = {getattr(ports, name) for name in PORTS}
    # Of the parts of the S3 server, which show each other tokens; of the code; of figures that the exporter passes on.
    without = {*range(ports.objects_inner, ports.objects_inner + INNER_PORTS), ports.dagster_code, ports.triton_metrics}
    database = server_process(everything)
    assert database is not None
    leaders = [one.pid for one in stack_status(everything) if one.pid and one.name != "postgres"]
    found = set()
    for process in [database, *(one for leader in leaders for one in processes.session_of(leader))]:
        with suppress(psutil.Error):
            found |= {one.laddr for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN}
    assert {address.port for address in found} <= with_tls | without
    assert with_tls <= {address.port for address in found}
    assert {address.ip.removeprefix("::ffff:") for address in found} == {"127.0.0.1"}


@pytest.mark.parametrize("port", PORTS)
def test_a_plain_connection_is_refused(everything: Settings, port: str) -> None:
    with socket.create_connection((everything.host, getattr(everything.ports, port)), timeout=10) as plain:
        said = b""
        with suppress(ConnectionError):
            plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            said = plain.recv(4096)
    # Nothing, an alert of TLS, or Go's word for it.
    assert said == b"" or said.startswith(b"\x15\x03") or b"HTTP request to an HTTPS server" in said


@pytest.mark.parametrize("port", PORTS)
def test_only_the_right_authority_is_trusted(everything: Settings, port: str, tmp_path: Path) -> None:
    assert shown(everything, port).strip() == (everything.certificates / "server.pem").read_text().strip()
    make_certificates(tmp_path, server_names(everything), days=1)
    with pytest.raises(ssl.SSLCertVerificationError), greeted(everything, port, tmp_path / "ca.pem"):
        pass


def test_pages_are_asked_over_tls_and_say_so(everything: Settings) -> None:
    found = {one.name: one for one in stack_status(everything, with_versions=True)}
    for name in ("mlflow", "evidently", "dagster"):
        assert found[name].state == "healthy"
        assert found[name].address == f"https://127.0.0.1:{getattr(everything.ports, name)}"
        assert (found[name].version or "")[:1].isdigit()
    assert dagster_query(everything, "{ version }")["version"] == found["dagster"].version


def test_dagsters_page_is_told_of_news_over_tls(everything: Settings) -> None:
    trust = ssl.create_default_context(cafile=str(everything.certificates / "ca.pem"))
    address = f"wss://127.0.0.1:{everything.ports.dagster}/graphql"
    with connect(address, ssl=trust, subprotocols=["graphql-ws"], proxy=None, open_timeout=20) as news:
        news.send(json.dumps({"type": "connection_init"}))
        assert json.loads(news.recv(timeout=20))["type"] == "connection_ack"


def test_tritons_figures_are_passed_on_over_tls(everything: Settings) -> None:
    assert b"nv_cpu_utilization" in ask(everything, everything.ports.metrics, "/triton")
    with pytest.raises(OSError, match="404"):
        ask(everything, everything.ports.metrics, "/triton-2")
    assert within(30, lambda: prometheus.query(everything, 'up{job="triton", part="triton"} == 1'))


def test_a_renewed_certificate_is_shown_without_a_restart(everything: Settings) -> None:
    ports = ("postgres", "redis", *READERS)
    before = {one.name: one.pid for one in stack_status(everything)}
    old = (everything.certificates / "server.pem").read_text().strip()
    told = renew_certificates(everything, server_names(everything), days=30)
    assert {name: told[name] for name in ports} == dict.fromkeys(ports, "shows it now")
    assert told["triton"] == "shows it after a restart"
    new = (everything.certificates / "server.pem").read_text().strip()
    assert new != old
    for port in ports:
        assert within(10, lambda port=port: shown(everything, port).strip() == new), port
    assert shown(everything, "triton_grpc").strip() == old
    assert {one.name: one.pid for one in stack_status(everything)} == before


def test_one_that_expired_is_named_by_all_and_replaced_by_the_next_up(everything: Settings) -> None:
    folder, names = everything.certificates, server_names(everything)
    certificates.renew_certificates(folder, names, days=1, since=datetime.now(UTC) - timedelta(days=2))
    postgres.renew_certificate(everything)
    renew_redis(everything)
    for name in ("objects", "triton"):
        restart_part(everything, name, is_patient=False)
    dispose_engines()
    ended = rf"{folder}/server\.pem expired on \d{{4}}-\d\d-\d\d at \d\d:\d\d UTC"
    assert within(10, lambda: "certificate verify failed" in said_by_postgres(everything))
    with pytest.raises(ServerUnavailable, match=ended), Database(everything).session():
        pass
    with pytest.raises(ServerUnavailable, match="Redis shows a certificate that has expired"):
        is_redis_well(everything)
    assert within(30, lambda: "has expired" in said_by_objects(everything)), said_by_objects(everything)
    assert within(60, lambda: "expired on" in said_by_triton(everything)), said_by_triton(everything)
    (finding,) = check_certificates(everything)
    assert not finding.is_well
    assert "server.pem expired on" in finding.finding
    assert "its certs renew" in finding.remedy

    start_stack(everything, list(PARTS))
    assert {one.state for one in stack_status(everything) if one.name in (*PARTS, *PORTS)} == {"healthy"}
    assert check_certificates(everything)[0].is_well


def said_by_postgres(settings: Settings) -> str:
    trust = {"sslmode": "verify-full", "sslrootcert": str(settings.certificates / "ca.pem")}
    try:
        psycopg2.connect(host=settings.host, port=settings.ports.postgres, user="postgres", password="guessed", **trust)
    except psycopg2.OperationalError as error:
        return str(error)
    raise AssertionError("a guessed password was taken")


def said_by_objects(settings: Settings) -> str:
    try:
        open_stores(settings).objects.exists("frames/a.jpg")
    except ServerUnavailable as error:
        return str(error)
    return ""


def said_by_triton(settings: Settings) -> str:
    from its_platform.serving.health import probe

    return probe(part_named("triton").own(settings))[0].problem
