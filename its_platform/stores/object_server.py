"""This home's own S3 server (SeaweedFS), where the services profile is not given another: its start, a question to it.

The S3 API is what others may ask, with TLS and a signature. Its parts know each other by ports of their own on the same
address, which answer only who shows a token signed with this home's keys.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from its_platform.certificates import ensure_certificates
from its_platform.errors import BadInput
from its_platform.private_files import password, write_file
from its_platform.processes import process_environment
from its_platform.settings import Settings
from its_platform.stores.objects import MODELS_BUCKET, S3Store, host_key, objects_key, open_plain

INNER_PORTS = 7
ANSWER_WITHIN_S = 10
# Between its parts, of what each may do: write and read, at a volume and at the filer.
TOKENS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
TOKEN_S = 60
# A volume is a file of one bucket: small ones leave room for each bucket on a small disk, and are made one by one.
VOLUME_MB = 256
GROWTH = "[master.volume_growth]\ncopy_1 = 1\n"
LEAST_FREE = "1GiB"


def object_server_program(settings: Settings) -> Path:
    """Where the server is installed. Raises `BadInput` where it is not."""
    program = _program(settings)
    if not program.is_file():
        raise BadInput(
            "The services profile needs an S3 server, and SeaweedFS is not installed.",
            "Run `make services`; or set ITS_OBJECTS_URL to one that somebody runs.",
        )
    return program


def object_server_command(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """The words and the environment that start it. Raises `BadInput` where it is not installed."""
    program = object_server_program(settings)
    folder, files = settings.services.absolute() / "objects", ensure_certificates(settings)
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    identities = folder / "identities.json"
    write_file(identities, json.dumps({"identities": _identities(settings)}).encode(), is_secret=True)
    write_file(folder / "security.toml", _tokens(settings).encode(), is_secret=True)
    write_file(folder / "master.toml", GROWTH.encode())
    inner = iter(range(settings.ports.objects_inner, settings.ports.objects_inner + INNER_PORTS))
    options = {
        "dir": data,
        "ip": settings.host,
        "ip.bind": settings.host,
        "master.port": next(inner),
        "master.port.grpc": next(inner),
        "master.telemetry": "false",
        # It has no others to hear from, or to be told that it goes, which takes ten seconds each by default.
        "master.electionTimeout": "1s",
        "volume.preStopSeconds": 0,
        "master.volumeSizeLimitMB": VOLUME_MB,
        "volume.port": next(inner),
        "volume.port.grpc": next(inner),
        "volume.max": 0,
        "volume.minFreeSpace": LEAST_FREE,
        "filer": "true",
        "filer.port": next(inner),
        "filer.port.grpc": next(inner),
        "filer.exposeDirectoryData": "false",
        "filer.localSocket": folder / "filer.sock",
        "s3": "true",
        "s3.port": settings.ports.objects,
        "s3.port.grpc": next(inner),
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.localSocket": folder / "s3.sock",
        "s3.cert.file": files.certificate("server").absolute(),
        "s3.key.file": files.key("server").absolute(),
        "s3.config": identities,
        "s3.autoCreateBucket": "false",
    }
    words = [str(program), f"-config_dir={folder}", "-logtostderr=true", "server"]
    return [*words, *(f"-{name}={value}" for name, value in options.items())], process_environment(settings)


def object_server_version(settings: Settings) -> str:
    """The version that is installed: `version 8000GB 4.48 ...` is what it says. Raises `OSError`."""
    said = subprocess.run(
        [_program(settings), "version"], capture_output=True, text=True, timeout=ANSWER_WITHIN_S, check=False
    ).stdout.split()
    return next((word for word in said if word[0].isdigit() and word[-1].isdigit()), "unknown")


def is_object_server_well(settings: Settings) -> bool:
    """Whether it answers a client that signs. Raises `ServerUnavailable` where it does not."""
    objects = open_plain(settings)
    assert isinstance(objects, S3Store)
    objects.ask()
    return True


def _program(settings: Settings) -> Path:
    return settings.environments / "services" / "bin" / "weed"


def _identities(settings: Settings) -> list[dict[str, object]]:
    """The platform itself, and the hosts, who read released versions and nothing else."""
    may = ["Admin", "Read", "Write", "List", "Tagging"]
    return [_identity(*objects_key(settings), may), _identity(*host_key(settings), [f"Read:{MODELS_BUCKET}"])]


def _identity(name: str, secret: str, actions: list[str]) -> dict[str, object]:
    return {"name": name, "credentials": [{"accessKey": name, "secretKey": secret}], "actions": actions}


def _tokens(settings: Settings) -> str:
    folder = settings.services / "passwords"
    tokens = "".join(
        f'[{name}]\nkey = "{password(folder / name)}"\nexpires_after_seconds = {TOKEN_S}\n' for name in TOKENS
    )
    # Without a key of its own it takes a bucket's wish for encryption, and then refuses every object.
    return f'{tokens}[s3.sse]\nkey = "{password(folder / "s3.sse")}"\n'
