"""The servers of the services profile, for real: who is answered and who is not, and the way from up to down."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis
import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from sqlalchemy.engine import make_url

from its_platform.certificates import server_names
from its_platform.errors import BadInput, ServerUnavailable
from its_platform.parts import part_named
from its_platform.settings import Settings, load_settings
from its_platform.stack import renew_certificates, restart_part, stack_status, start_stack
from its_platform.stores import open_stores, postgres
from its_platform.stores.cache_server import redis_url
from its_platform.stores.database import database_url
from its_platform.stores.object_server import INNER_PORTS
from its_platform.stores.objects import S3Store, objects_key
from its_platform.stores.postgres import data_folder, server_process, start_postgres
from its_platform.stores.prepare import choose_profile

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(300)]


def test_each_is_there_with_its_address_and_answers(servers: Settings) -> None:
    found = {one.name: one for one in stack_status(servers)}
    stores = [found[name] for name in ("postgres", "objects", "redis")]
    assert [one.state for one in stores] == ["healthy"] * 3
    assert [one.address for one in stores] == [
        f"127.0.0.1:{port}" for port in (servers.ports.postgres, servers.ports.objects, servers.ports.redis)
    ]
    assert all(one.memory_mb and one.memory_mb > 1 for one in stores)


def test_rows_and_objects_are_kept(servers: Settings) -> None:
    stores = open_stores(servers)
    with stores.database.session() as session:
        assert session.connection().exec_driver_sql("SHOW ssl").scalar() == "on"
        encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert session.connection().exec_driver_sql(encrypted).scalar() is True
    stores.objects.put("frames/a.jpg", b"picture")
    assert stores.objects.get("frames/a.jpg") == b"picture"


def test_postgresql_answers_neither_without_tls_nor_without_the_password(servers: Settings) -> None:
    address = make_url(database_url(servers, "its"))
    words = {
        "host": address.host,
        "port": address.port,
        "user": "postgres",
        "password": address.password,
        "dbname": "its",
    }
    trusting = {"sslmode": "verify-full", "sslrootcert": address.query["sslrootcert"]}
    psycopg2.connect(**words, **trusting).close()
    with pytest.raises(psycopg2.OperationalError, match="no encryption"):
        psycopg2.connect(**words, sslmode="disable")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(**{**words, "password": "guessed"}, **trusting)


def test_redis_answers_neither_without_tls_nor_without_the_password(servers: Settings) -> None:
    url = redis_url(servers)
    assert url is not None
    with redis.Redis.from_url(url) as client:
        assert client.ping()
    root = str(servers.certificates / "ca.pem")
    stranger = redis.Redis(port=servers.ports.redis, ssl=True, ssl_ca_certs=root)
    with stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis(port=servers.ports.redis, password="guessed") as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_s3_answers_neither_without_tls_nor_without_the_signature(servers: Settings) -> None:
    endpoint, (key, secret) = f"{servers.host}:{servers.ports.objects}", objects_key(servers)
    with pytest.raises(MinioException, match="an HTTP request to an HTTPS server"):
        Minio(endpoint, key, secret, secure=False).bucket_exists("its")
    pool = urllib3.PoolManager(ca_certs=str(servers.certificates / "ca.pem"))
    assert Minio(endpoint, key, secret, http_client=pool).bucket_exists("its")
    with pytest.raises(S3Error, match="SignatureDoesNotMatch"):
        Minio(endpoint, key, "guessed-secret", http_client=pool).list_buckets()
    stranger = S3Store(f"s3+https://{key}:{secret}@{endpoint}/its")
    with pytest.raises(ServerUnavailable):
        stranger.exists("frames/a.jpg")


def test_the_inner_doors_of_the_s3_server_show_no_object(servers: Settings) -> None:
    open_stores(servers).objects.put("frames/hidden.jpg", b"picture")
    for port in range(servers.ports.objects_inner, servers.ports.objects_inner + INNER_PORTS):
        for path in ("/buckets/its/frames/hidden.jpg", "/buckets/its/frames/"):
            try:
                with urllib.request.urlopen(f"http://{servers.host}:{port}{path}", timeout=10) as answer:
                    shown = answer.read()
            except (OSError, http.client.HTTPException) as error:
                # A refusal, or a gRPC port, which speaks no HTTP of this kind.
                shown = repr(error).encode()
            assert b"picture" not in shown
            assert b"hidden.jpg" not in shown


def test_passwords_are_in_no_log_and_in_no_process_list(servers: Settings) -> None:
    secrets = [
        path.read_bytes() for path in (servers.services / "passwords").iterdir() if not path.name.startswith(".")
    ]
    assert len(secrets) >= 6
    running = [" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])]
    told = list(servers.logs.glob("*.log"))
    assert "postgres.log" in {path.name for path in told}
    for secret in secrets:
        assert not any(secret.decode() in words for words in running)
        assert not any(secret in path.read_bytes() for path in told)


def test_a_new_certificate_is_shown_without_a_restart(servers: Settings) -> None:
    def shown() -> bytes:
        raw = socket.create_connection((servers.host, servers.ports.postgres), timeout=10)
        raw.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
        assert raw.recv(1) == b"S"
        context = ssl.create_default_context(cafile=str(servers.certificates / "ca.pem"))
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped:
            return wrapped.getpeercert(binary_form=True) or b""

    def redis_shows() -> bytes:
        context = ssl.create_default_context(cafile=str(servers.certificates / "ca.pem"))
        raw = socket.create_connection((servers.host, servers.ports.redis), timeout=10)
        with context.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped:
            return wrapped.getpeercert(binary_form=True) or b""

    before, others_before, process = shown(), redis_shows(), server_process(servers)
    told = renew_certificates(servers, server_names(servers), days=30)
    assert told == {
        "postgres": "shows it now",
        "objects": "shows it within five hours, or after a restart",
        "redis": "shows it now",
    }
    assert wait_for_other(shown, before) != before
    assert wait_for_other(redis_shows, others_before) != others_before
    assert server_process(servers) == process
    restart_part(servers, "objects")
    assert open_stores(servers).objects.exists("frames/hidden.jpg")


def wait_for_other(shown: Callable[[], bytes], before: bytes) -> bytes:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            if (now := shown()) != before:
                return now
        except OSError:
            # It may drop who comes while it reads the new one.
            pass
        time.sleep(0.1)
    return before


def test_a_home_keeps_its_profile(settings: Settings) -> None:
    chosen = choose_profile(settings, "services")
    assert chosen.profile == "services"
    assert load_settings().profile == "services"
    data_folder(chosen).mkdir(parents=True)
    (data_folder(chosen) / "PG_VERSION").write_text("15\n")
    with pytest.raises(BadInput, match="begun in the services profile"):
        choose_profile(chosen, "embedded")


def test_a_server_that_is_not_installed_is_one_clear_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted = settings.model_copy(update={"profile": "services", "environments": tmp_path})
    with pytest.raises(BadInput, match="SeaweedFS is not installed") as told:
        start_stack(wanted, [])
    assert "make services" in told.value.hint
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(BadInput, match="needs Redis"):
        part_named("redis").command(wanted)
    monkeypatch.setattr(postgres, "_SYSTEM_PROGRAMS", ())
    with pytest.raises(BadInput, match="needs PostgreSQL's server"):
        start_postgres(wanted)
