"""An authority of this home's own, the certificates by which servers and clients know each other, and Triton's secret.

Enters: names of the servers and of clients. Leaves: PEM files below `home/certificates`, keys and secret readable by
their owner alone. Certificates of another authority may lie there instead. Who is asked with them is the business of
the clients.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from its_platform.errors import BadInput
from its_platform.private_files import alone, write_file
from its_platform.settings import Settings

DAYS = 825
SECRET_FILE = "repository.secret"
# What the platform itself shows, beside the authority.
OWN = ("server", "client")
EXPIRED_HINT = (
    "`its certs renew` issues new ones; where the authority itself expired, `its certs make --renew`, then `its down`, "
    "`its up`."
)
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

    @property
    def needed(self) -> list[Path]:
        """What servers and the platform's own client need."""
        own = [path for name in OWN for path in (self.certificate(name), self.key(name))]
        return [self.root, *own, self.secret]

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"


def ensure_certificates(settings: Settings) -> Certificates:
    """The files of this home; those that are missing are made. Raises `BadInput` as `complete_certificates` does."""
    files = Certificates(settings.certificates)
    if missing_of(files):
        complete_certificates(files.folder, server_names(settings), DAYS)
    return files


def missing_of(files: Certificates) -> list[Path]:
    """Those of the files that servers and the platform's own client need and that are not there."""
    return [path for path in files.needed if not path.is_file()]


def server_names(settings: Settings) -> list[str]:
    """What this home's servers are asked by on their own machine."""
    return list(dict.fromkeys([settings.host, "localhost", "127.0.0.1"]))


def complete_certificates(folder: Path, names: Sequence[str], days: int, since: datetime | None = None) -> list[Path]:
    """Make those of authority, server, client and secret that are missing; the files that were made.

    Whoever trusts the authority that is there goes on trusting it. names: DNS names and addresses of the server, beside
    those of a certificate of it whose key was lost. since: from when they are valid; now, unless it is given.

    Raises `BadInput` where what could sign the missing ones is not here.
    """
    files = Certificates(folder)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with alone(folder / ".lock"):
        missing = missing_of(files)
        # Each key is there before its certificate, so that whatever a killed maker left shows as missing.
        if missing and not files.key("ca").is_file():
            if len(missing) < len(files.needed):
                raise BadInput(
                    f"{missing[0]} is missing, and so is {files.key('ca')}, which could make it anew.",
                    "Put one of them there; `its certs make --renew` replaces all, and cuts off every client.",
                )
            write_file(files.key("ca"), _key_pem(_new_key()), is_secret=True)
        if files.root in missing:
            key, name = _read_key(files.key("ca")), _name("its-platform authority")
            write_file(files.root, _pem(_signed(name, key, name, key, _validity(days, since), _authority())))
        for own in OWN:
            if {files.certificate(own), files.key(own)} & set(missing):
                _issue_own(files, own, names, days, since)
        if files.secret in missing:
            write_file(files.secret, secrets.token_urlsafe(32).encode(), is_secret=True)
    return missing


def make_certificates(
    folder: Path, names: Sequence[str], days: int, is_renewal: bool = False, since: datetime | None = None
) -> list[Path]:
    """Make authority, server, client and secret; the files. Arguments as of `complete_certificates`.

    The names of the server that are replaced are those of the new one too: clients ask by them.
    Raises `BadInput` where there are some already and `is_renewal` is not said: clients outside would be cut off.
    """
    from cryptography import x509

    files = Certificates(folder)
    if files.root.exists() and not is_renewal:
        raise BadInput(
            f"{files.root} is there already.", "`--renew` replaces all of it; every client then needs a new one."
        )
    # What is damaged, or of somebody else's making, is replaced too.
    with suppress(ValueError, x509.ExtensionNotFound):
        names = [*_names_in(files.certificate("server")), *names]
    for path in (*files.needed, files.key("ca")):
        path.unlink(missing_ok=True)
    return complete_certificates(folder, names, days, since)


def renew_certificates(folder: Path, names: Sequence[str], days: int, since: datetime | None = None) -> list[Path]:
    """Issue server and client anew by the authority that is there, which every client goes on trusting; the files.

    Arguments as of `complete_certificates`. Raises `BadInput` where the authority's key is not here: who has it issues
    them.
    """
    files = Certificates(folder)
    if not files.key("ca").is_file():
        raise BadInput(f"{folder} has no authority that could sign.", "Run `its certs make`, or ask whose it is.")
    with alone(folder / ".lock"):
        return [path for own in OWN for path in _issue_own(files, own, names, days, since)]


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
    return [target, *_issue(files, name, name, _client(), _validity(days), out)]


@dataclass(frozen=True)
class Validity:
    """One certificate of a folder."""

    file: Path
    subject: str
    names: list[str]
    until: datetime
    days_left: int

    @property
    def is_expired(self) -> bool:
        return self.until <= datetime.now(UTC)


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


def expired_certificates(folder: Path) -> list[Validity]:
    """Those of authority, server and client that have ended; none where none can be read."""
    try:
        found = read_certificates(folder)
    except (BadInput, OSError):
        return []
    return [one for one in found if one.is_expired and one.file in Certificates(folder).needed]


def what_expired(folder: Path) -> str:
    """Which they are and since when, as half a sentence; empty where none has ended."""
    ended = expired_certificates(folder)
    return ", ".join(f"{one.file} expired on {one.until:%Y-%m-%d at %H:%M} UTC" for one in ended)


def _issue_own(
    files: Certificates, own: str, names: Sequence[str], days: int, since: datetime | None = None
) -> list[Path]:
    kind = _client()
    if own == "server":
        kind = _server([*_names_in(files.certificate(own)), *names])
    return _issue(files, own, f"its-platform {own}", kind, _validity(days, since), files.folder)


def _issue(
    files: Certificates,
    name: str,
    common_name: str,
    extensions: Sequence[tuple[Any, bool]],
    validity: tuple[datetime, datetime],
    out: Path,
) -> list[Path]:
    from cryptography import x509

    authority = x509.load_pem_x509_certificate(files.root.read_bytes())
    key, made = _new_key(), Certificates(out)
    certificate = _signed(_name(common_name), key, authority.subject, _read_key(files.key("ca")), validity, extensions)
    # Without a certificate the new key counts as missing; beside the old one it would not fit.
    made.certificate(name).unlink(missing_ok=True)
    write_file(made.key(name), _key_pem(key), is_secret=True)
    write_file(made.certificate(name), _pem(certificate))
    return [made.certificate(name), made.key(name)]


def _validity(days: int, since: datetime | None = None) -> tuple[datetime, datetime]:
    begin = since or datetime.now(UTC)
    return begin - CLOCKS_DIFFER, begin + timedelta(days=days)


def _names_in(certificate: Path) -> list[str]:
    """The names of the server in its last certificate; none where there is none."""
    from cryptography import x509

    if not certificate.is_file():
        return []
    read = x509.load_pem_x509_certificate(certificate.read_bytes())
    return [str(name.value) for name in read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


def _read_key(path: Path) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return load_pem_private_key(path.read_bytes(), None)


def _new_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _name(common_name: str) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _signed(
    subject: Any,
    key: Any,
    issuer: Any,
    signing: Any,
    validity: tuple[datetime, datetime],
    extensions: Sequence[tuple[Any, bool]],
) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
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
