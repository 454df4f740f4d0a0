"""What Triton and its clients are told of the certificates; nothing where the settings ask for no TLS."""

from __future__ import annotations

from its_detector_client.tls import Tls
from its_platform.certificates import Certificates, missing_of
from its_platform.errors import BadInput
from its_platform.serving.restricted_launch import HEADER
from its_platform.settings import Settings

ADMIN_HEADER = f"triton-grpc-protocol-{HEADER}"


def certificates_of(settings: Settings) -> Certificates | None:
    """The files in force; None where Triton is asked without TLS. Raises `BadInput` where one is missing."""
    if not settings.triton_tls:
        return None
    found = Certificates(settings.certificates)
    if missing := missing_of(found):
        raise BadInput(f"TLS for Triton is asked for, and {missing[0]} is missing.", "Run `its certs make`.")
    return found


def client_tls(settings: Settings) -> Tls | None:
    """What the platform's own client shows; None without TLS."""
    found = certificates_of(settings)
    return Tls(found.root, found.certificate("client"), found.key("client")) if found else None


def admin_headers(settings: Settings) -> dict[str, str] | None:
    """What a call of the repository API carries; None where it is open to every client."""
    found = certificates_of(settings)
    return {ADMIN_HEADER: found.secret.read_text(encoding="utf-8").strip()} if found else None
