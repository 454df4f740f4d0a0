"""This home's own Redis, where the services profile is not given another: its address, its start, a question to it.

It holds answers that can be asked for again, so that nothing of it is kept on disk. Whoever asks it needs TLS and a
password, which stand in a file of its owner's and in the environment of those who ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from its_platform.certificates import EXPIRED_HINT, ensure_certificates
from its_platform.errors import ServerUnavailable
from its_platform.private_files import password, write_file
from its_platform.processes import installed_server, process_environment
from its_platform.settings import Settings

if TYPE_CHECKING:
    from redis import Redis

ANSWER_WITHIN_S = 5.0
MEMORY_MB = 256


def redis_url(settings: Settings) -> str | None:
    """Where answers are shared, with the password in it: not for logs. None where they are not."""
    if not settings.runs_redis:
        return settings.serving.redis_url
    trust = urlencode({"ssl_ca_certs": str((settings.certificates / "ca.pem").absolute())})
    return f"rediss://:{quote(_password(settings))}@{settings.host}:{settings.ports.redis}/0?{trust}"


def redis_program() -> str:
    """Where the server is installed. Raises `BadInput` where it is not, or too old."""
    # From 7.0 on it takes a new certificate and its key at once while it runs.
    return installed_server("Redis", "7.0", ["redis-server"], "set ITS_SERVING__REDIS_URL to one that somebody runs")


def redis_command(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """The words and the environment that start it. Raises `BadInput` where there is none to start."""
    program = redis_program()
    folder, files = settings.services.absolute() / "redis", ensure_certificates(settings)
    folder.mkdir(parents=True, exist_ok=True)
    lines = {
        "bind": settings.host,
        "port": "0",
        "tls-port": str(settings.ports.redis),
        "tls-cert-file": _quoted(files.certificate("server").absolute()),
        "tls-key-file": _quoted(files.key("server").absolute()),
        "tls-ca-cert-file": _quoted(files.root.absolute()),
        "tls-auth-clients": "no",
        "requirepass": _password(settings),
        "dir": _quoted(folder),
        "save": '""',
        "appendonly": "no",
        "maxmemory": f"{MEMORY_MB}mb",
        "maxmemory-policy": "allkeys-lru",
    }
    configuration = folder / "redis.conf"
    write_file(configuration, "".join(f"{name} {value}\n" for name, value in lines.items()).encode(), is_secret=True)
    return [program, str(configuration)], process_environment(settings)


def is_redis_well(settings: Settings) -> bool:
    """Whether it answers a client that shows the password. Raises `ServerUnavailable` where nothing is heard of it."""
    with _asked(settings) as client:
        return bool(client.ping())


def redis_version(settings: Settings) -> str:
    """The version that runs. Raises `ServerUnavailable`."""
    with _asked(settings) as client:
        return str(client.info("server")["redis_version"])


def renew_certificate(settings: Settings) -> None:
    """Have the running server show the certificate that lies in the home now. Raises `ServerUnavailable`."""
    files = ensure_certificates(settings)
    names = {"tls-cert-file": files.certificate("server").absolute(), "tls-key-file": files.key("server").absolute()}
    with _asked(settings) as client:
        # Both at once: either alone would not fit the other.
        client.execute_command("CONFIG", "SET", *(word for one, path in names.items() for word in (one, str(path))))


@contextmanager
def _asked(settings: Settings) -> Iterator[Redis]:
    """A client that shows the password; what it raises comes in the platform's words."""
    from redis import Redis, RedisError

    url = redis_url(settings)
    assert url is not None
    try:
        with Redis.from_url(url, socket_timeout=ANSWER_WITHIN_S, socket_connect_timeout=ANSWER_WITHIN_S) as client:
            yield client
    except RedisError as error:
        if "certificate has expired" in str(error):
            raise ServerUnavailable("Redis shows a certificate that has expired.", EXPIRED_HINT) from error
        raise ServerUnavailable(f"Redis does not answer: {error}", "`its doctor` says more.") from error


def _password(settings: Settings) -> str:
    return password(settings.services / "passwords" / "redis")


def _quoted(path: object) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
