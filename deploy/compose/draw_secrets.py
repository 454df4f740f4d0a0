"""Draws every secret of the Compose project at random: `python deploy/compose/draw_secrets.py [FOLDER]`.

Leaves: `secrets/` in the folder (this one by default), files that their owner alone may read, and `.env`, which says
who that is: all containers run as them. What is there already stays as it is, so that a second call changes nothing.
"""

from __future__ import annotations

import json
import os
import secrets as drawn
import sys
from pathlib import Path

import bcrypt
import yaml

from its_platform.certificates import DAYS, SECRET_FILE, complete_certificates
from its_platform.private_files import password, write_file

# What the servers are asked by: on their networks, and from this machine.
NAMES = ("triton", "postgres", "redis", "objects", "metrics", "prometheus", "alertmanager", "grafana")
HERE = ("localhost", "127.0.0.1")
# A person who is root is none that servers should run as.
NOBODY_IN_PARTICULAR = 10001
AUTHORITY = "/run/secrets/ca.pem"
TOKENS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read", "s3.sse")


def draw(folder: Path) -> list[Path]:
    """Make what is missing; all files."""
    secrets = folder / "secrets"
    secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
    complete_certificates(secrets, [*NAMES, *HERE], DAYS)
    for name, content in contents(secrets).items():
        if not (secrets / name).exists():
            write_file(secrets / name, content.encode(), is_secret=True)
    owner = os.getuid() or NOBODY_IN_PARTICULAR, os.getgid() or NOBODY_IN_PARTICULAR
    if os.getuid() == 0:
        for path in (secrets, *secrets.iterdir()):
            os.chown(path, *owner)
    write_file(folder / ".env", f"ITS_UID={owner[0]}\nITS_GID={owner[1]}\n".encode())
    return sorted(secrets.iterdir())


def contents(secrets: Path) -> dict[str, str]:
    """What stands in the files that hold a password in the words of one server or client."""
    postgres, redis, objects, page = (
        password(secrets / f"{name}_password") for name in ("postgres", "redis", "objects", "prometheus")
    )
    password(secrets / "grafana_password")
    database = f"postgres:5432/%s?sslmode=verify-full&sslrootcert={AUTHORITY}"
    redis_url = f"rediss://:{redis}@redis:6379/0?ssl_ca_certs={AUTHORITY}"
    bucket = f"s3+https://its:{objects}@objects:8333"
    identity = {
        "name": "its",
        "credentials": [{"accessKey": "its", "secretKey": objects}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    settings = {
        "database_url": f"postgresql+psycopg2://postgres:{postgres}@{database % ''}",
        "objects_url": f"{bucket}/its",
        "data_remote": f"{bucket}/its-data",
        "serving": {"redis_url": redis_url},
    }
    hashed = bcrypt.hashpw(page.encode(), bcrypt.gensalt(10)).decode()
    web = {
        "tls_server_config": {
            "cert_file": "/run/secrets/server.pem",
            "key_file": "/run/secrets/server.key",
            "min_version": "TLS12",
        },
        "basic_auth_users": {"its": hashed},
    }
    # Shown by the parts of the S3 server to each other; the last is the key of its own encryption.
    tokens = "".join(f'[{name}]\nkey = "{drawn.token_urlsafe(32)}"\n' for name in TOKENS)
    return {
        "settings.yaml": yaml.safe_dump(settings, sort_keys=False),
        "mlflow_url": f"postgresql+psycopg2://postgres:{postgres}@{database % 'mlflow'}",
        "redis_url": redis_url,
        "redis.conf": f"requirepass {redis}\n",
        "objects_identities.json": json.dumps({"identities": [identity]}),
        "objects_security.toml": tokens,
        "objects.curl": f'user = "its:{objects}"\naws-sigv4 = "aws:amz:us-east-1:s3"\n',
        "web.yml": yaml.safe_dump(web, sort_keys=False),
    }


def main(words: list[str]) -> None:
    """Draw, and say where."""
    folder = Path(words[0]) if words else Path(__file__).parent
    found = draw(folder)
    sys.stdout.write(f"{len(found)} files in {folder / 'secrets'}, {SECRET_FILE} and ca.key among them; keep them.\n")


if __name__ == "__main__":
    main(sys.argv[1:])
