"""An authority of this home's own, the certificates by which Triton and its clients know each other, and the secret.

Enters: names of the server and of clients. Leaves: PEM files below `home/certificates`, keys and secret readable by
their owner alone. Certificates of another authority may lie there instead. Who is asked with them is the business of
the client.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from its_detector_client.tls import Tls
from its_platform.errors import BadInput
from its_platform.serving.restricted_launch import HEADER
from its_platform.settings import Settings

ADMIN_HEADER = f"triton-grpc-protocol-{HEADER}"
SECRET_FILE = "repository.secret"
CLOCKS_DIFFER = timedelta(minutes=5)


@dataclass(frozen=True)
class Certificates:
    """The files of a folder, whether they are there or not."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def secret(self) -> Path:
        return self.folder / SECRET_FILE

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"


def certificates_of(settings: Settings) -> Certificates | None:
    """The files in force; None where Triton is asked without TLS. Raises `BadInput` where one is missing."""
    if not settings.security.triton_tls:
        return None
    found = Certificates(settings.certificates)
    needed = [found.root, found.secret, *(path(name) for name in ("server", "client") for path in _both(found))]
    if missing := [path for path in needed if not path.is_file()]:
        raise BadInput(f"TLS for Triton is asked for, and {missing[0]} is missing.", "Run `its security certificates`.")
    return found


def client_tls(settings: Settings) -> Tls | None:
    """What the platform's own client shows; None without TLS."""
    found = certificates_of(settings)
    return Tls(found.root, found.certificate("client"), found.key("client")) if found else None


def admin_headers(settings: Settings) -> dict[str, str] | None:
    """What a call of the repository API carries; None where it is open to every client."""
    found = certificates_of(settings)
    return {ADMIN_HEADER: found.secret.read_text(encoding="utf-8").strip()} if found else None


def make_certificates(folder: Path, names: Sequence[str], days: int, is_renewal: bool = False) -> list[Path]:
    """Make authority, server, client and secret; the files. names: DNS names and addresses of the server.

    Raises `BadInput` where there are some already and `is_renewal` is not said: clients outside would be cut off.
    """
    files = Certificates(folder)
    if files.root.exists() and not is_renewal:
        raise BadInput(
            f"{files.root} is there already.", "`--renew` replaces all of it; every client then needs a new one."
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = _new_key()
    authority = _signed(_name("its-platform authority"), key, _name("its-platform authority"), key, days, _authority())
    _write(files.root, _pem(authority))
    _write(files.key("ca"), _key_pem(key), is_secret=True)
    for name, extensions in (("server", _server(names)), ("client", _client())):
        _issue(files, name, f"its-platform {name}", extensions, days, folder)
    _write(files.secret, secrets.token_urlsafe(32).encode(), is_secret=True)
    return [files.root, *(path(name) for name in ("server", "client") for path in _both(files)), files.secret]


def make_client(folder: Path, name: str, out: Path, days: int) -> list[Path]:
    """A certificate for one more client, signed by this home's authority: the three files that it needs, in `out`.

    The secret is not among them: who only asks for detections needs none. Raises `BadInput` without an authority.
    """
    files = Certificates(folder)
    if not name or not all(letter.isalnum() or letter in "-_." for letter in name) or name.startswith("."):
        raise BadInput(f"{name!r} is no name for a client.", "Letters, digits, dots and dashes.")
    if not files.key("ca").is_file():
        raise BadInput(f"{folder} has no authority that could sign.", "Run `its security certificates`.")
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = out / "ca.pem"
    if target.resolve() != files.root.resolve():
        _write(target, files.root.read_bytes())
    return [target, *_issue(files, name, name, _client(), days, out)]


def _both(files: Certificates) -> tuple[Any, Any]:
    return files.certificate, files.key


def _issue(
    files: Certificates, name: str, common_name: str, extensions: Sequence[tuple[Any, bool]], days: int, out: Path
) -> list[Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    authority = x509.load_pem_x509_certificate(files.root.read_bytes())
    signing = load_pem_private_key(files.key("ca").read_bytes(), None)
    key, made = _new_key(), Certificates(out)
    certificate = _signed(_name(common_name), key, authority.subject, signing, days, extensions)
    _write(made.certificate(name), _pem(certificate))
    _write(made.key(name), _key_pem(key), is_secret=True)
    return [made.certificate(name), made.key(name)]


def _new_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _name(common_name: str) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _signed(
    subject: Any, key: Any, issuer: Any, signing: Any, days: int, extensions: Sequence[tuple[Any, bool]]
) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(now + timedelta(days=days))
    )
    for extension, is_critical in extensions:
        made = made.add_extension(extension, is_critical)
    return made.sign(signing, hashes.SHA256())


def _authority() -> list[tuple[Any, bool]]:
    from cryptography import x509

    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    return [(x509.BasicConstraints(ca=True, path_length=0), True), (usage, True)]


def _server(names: Sequence[str]) -> list[tuple[Any, bool]]:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([_alternative(name) for name in dict.fromkeys(names)]), False),
    ]


def _client() -> list[tuple[Any, bool]]:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
    ]


def _alternative(name: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    content: bytes = certificate.public_bytes(Encoding.PEM)
    return content


def _key_pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    content: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return content


def _write(path: Path, content: bytes, is_secret: bool = False) -> None:
    # Never there with more rights than it ends with.
    partial = path.with_name(f".{path.name}.part")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if is_secret else 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    partial.replace(path)
