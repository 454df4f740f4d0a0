"""An authority of this home's own, the certificates by which servers and clients know each other, and Triton's secret.

Enters: names of the servers and of clients. Leaves: PEM files below `home/certificates`, keys and secret readable by
their owner alone. Certificates of another authority may lie there instead. Who is asked with them is the business of
the clients.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from its_platform.errors import BadInput
from its_platform.private_files import alone, write_file
from its_platform.settings import Settings

DAYS = 825
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


def ensure_certificates(settings: Settings) -> Certificates:
    """The files of this home, made where there are none. Raises `BadInput` where somebody else's are not complete."""
    files = Certificates(settings.certificates)
    if missing_of(files):
        files.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone(files.folder / ".lock"):
            missing = missing_of(files)
            if missing and files.root.exists() and not files.key("ca").exists():
                raise BadInput(f"{missing[0]} is missing beside the authority of somebody else.", "Put it there.")
            if missing:
                # What a killed maker left is no set of files that belong together.
                make_certificates(files.folder, server_names(settings), DAYS, is_renewal=True)
    return files


def missing_of(files: Certificates) -> list[Path]:
    """Those of the files that servers and the platform's own client need and that are not there."""
    needed = [files.root, files.secret, *(path(name) for name in ("server", "client") for path in _both(files))]
    return [path for path in needed if not path.is_file()]


def server_names(settings: Settings) -> list[str]:
    """What this home's servers are asked by on their own machine."""
    return list(dict.fromkeys([settings.host, "localhost", "127.0.0.1"]))


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
    write_file(files.root, _pem(authority))
    write_file(files.key("ca"), _key_pem(key), is_secret=True)
    issued = _issue_own(files, names, days)
    write_file(files.secret, secrets.token_urlsafe(32).encode(), is_secret=True)
    return [files.root, *issued, files.secret]


def renew_certificates(folder: Path, names: Sequence[str], days: int) -> list[Path]:
    """Issue server and client anew by the authority that is there, which every client goes on trusting; the files.

    names: further names of the server, beside those of its last certificate.

    Raises `BadInput` where the authority's key is not here: who has it issues them.
    """
    files = Certificates(folder)
    if not files.key("ca").is_file():
        raise BadInput(f"{folder} has no authority that could sign.", "Run `its certs make`, or ask whose it is.")
    known = [name for one in read_certificates(folder) if one.file == files.certificate("server") for name in one.names]
    return _issue_own(files, [*known, *names], days)


def make_client(folder: Path, name: str, out: Path, days: int) -> list[Path]:
    """A certificate for one more client, signed by this home's authority: the three files that it needs, in `out`.

    The secret is not among them: who only asks for detections needs none. Raises `BadInput` without an authority.
    """
    files = Certificates(folder)
    if not name or not all(letter.isalnum() or letter in "-_." for letter in name) or name.startswith("."):
        raise BadInput(f"{name!r} is no name for a client.", "Letters, digits, dots and dashes.")
    if not files.key("ca").is_file():
        raise BadInput(f"{folder} has no authority that could sign.", "Run `its certs make`.")
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = out / "ca.pem"
    if target.resolve() != files.root.resolve():
        write_file(target, files.root.read_bytes())
    return [target, *_issue(files, name, name, _client(), days, out)]


@dataclass(frozen=True)
class Validity:
    """One certificate of a folder."""

    file: Path
    subject: str
    names: list[str]
    until: datetime
    days_left: int


def read_certificates(folder: Path) -> list[Validity]:
    """The certificates that lie in a folder. Raises `BadInput` where there are none, or one cannot be read."""
    from cryptography import x509

    found = []
    for path in sorted(folder.glob("*.pem")):
        try:
            read = x509.load_pem_x509_certificate(path.read_bytes())
        except ValueError as error:
            raise BadInput(f"{path} is no certificate.", "`its certs make --renew` makes all of them anew.") from error
        try:
            names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            said = [str(name.value) for name in names]
        except x509.ExtensionNotFound:
            said = []
        left = read.not_valid_after_utc - datetime.now(UTC)
        found.append(Validity(path, read.subject.rfc4514_string(), said, read.not_valid_after_utc, left.days))
    if not found:
        raise BadInput(f"There are no certificates in {folder}.", "`its certs make` makes them.")
    return found


def _both(files: Certificates) -> tuple[Any, Any]:
    return files.certificate, files.key


def _issue_own(files: Certificates, names: Sequence[str], days: int) -> list[Path]:
    kinds = (("server", _server(names)), ("client", _client()))
    return [
        path for name, kind in kinds for path in _issue(files, name, f"its-platform {name}", kind, days, files.folder)
    ]


def _issue(
    files: Certificates, name: str, common_name: str, extensions: Sequence[tuple[Any, bool]], days: int, out: Path
) -> list[Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    authority = x509.load_pem_x509_certificate(files.root.read_bytes())
    signing = load_pem_private_key(files.key("ca").read_bytes(), None)
    key, made = _new_key(), Certificates(out)
    certificate = _signed(_name(common_name), key, authority.subject, signing, days, extensions)
    write_file(made.certificate(name), _pem(certificate))
    write_file(made.key(name), _key_pem(key), is_secret=True)
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
