"""How the platform's own figures are reached: over TLS, with a password for people and a certificate for programs.

Prometheus and Alertmanager want the user `its` and a password of this home's; the exporter wants the certificate of the
platform's own client. Both show the certificate of this home's authority.
"""

from __future__ import annotations

import base64
import ssl
import urllib.request
from pathlib import Path
from typing import Any

from its_platform.certificates import ensure_certificates
from its_platform.private_files import password, write_file
from its_platform.settings import Settings

USER = "its"
ASK_WITHIN_S = 5.0


def password_file(settings: Settings) -> Path:
    """The file with the password of both pages, readable by its owner alone; drawn when it is first asked for."""
    path = settings.services.absolute() / "passwords" / "prometheus"
    password(path)
    return path


def write_web_configuration(settings: Settings, folder: Path) -> Path:
    """Write what has a server answer over TLS alone, and only who shows the password; the file.

    It holds a hash of the password. The certificate is read anew with each connection, so that a renewed one is shown.
    """
    import bcrypt

    files = ensure_certificates(settings)
    hashed = bcrypt.hashpw(password(password_file(settings)).encode(), bcrypt.gensalt(10)).decode()
    tls = {
        "cert_file": str(files.certificate("server").absolute()),
        "key_file": str(files.key("server").absolute()),
        "min_version": "TLS12",
    }
    return write_yaml(folder / "web.yml", {"tls_server_config": tls, "basic_auth_users": {USER: hashed}})


def write_yaml(path: Path, content: dict[str, Any]) -> Path:
    """Write a configuration that its owner alone may read; the path."""
    import yaml

    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, yaml.safe_dump(content, sort_keys=False).encode(), is_secret=True)
    return path


def reached_by_password(settings: Settings) -> dict[str, Any]:
    """The part of Prometheus' configuration by which it reaches itself and Alertmanager."""
    return {
        "scheme": "https",
        "tls_config": {"ca_file": str(ensure_certificates(settings).root.absolute())},
        "basic_auth": {"username": USER, "password_file": str(password_file(settings))},
    }


def shown_by_clients(settings: Settings) -> dict[str, str]:
    """The part of a configuration by which a program shows the exporter that it is one of ours."""
    files = ensure_certificates(settings)
    return {
        "ca_file": str(files.root.absolute()),
        "cert_file": str(files.certificate("client").absolute()),
        "key_file": str(files.key("client").absolute()),
    }


def ask(settings: Settings, port: int, path: str, within_s: float = ASK_WITHIN_S) -> bytes:
    """What one of the three servers answers at a path. Raises `OSError` for no answer, and for a refusal."""
    files = ensure_certificates(settings)
    context = ssl.create_default_context(cafile=str(files.root))
    context.load_cert_chain(files.certificate("client"), files.key("client"))
    # Our own servers are never asked through a proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    word = base64.b64encode(f"{USER}:{password(password_file(settings))}".encode()).decode()
    request = urllib.request.Request(
        f"https://{settings.host}:{port}{path}", headers={"Authorization": f"Basic {word}"}
    )
    with opener.open(request, timeout=within_s) as answer:
        content: bytes = answer.read()
    return content
