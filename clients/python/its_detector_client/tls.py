"""The files by which a client and a Triton with mutual TLS know each other. Nothing is sent here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from its_detector_client.errors import BadRequest


@dataclass(frozen=True)
class Tls:
    """PEM files. root: the authority that signed the server; certificate and key: who this client is.

    Raises `BadRequest` for a file that cannot be read.
    """

    root: str | Path
    certificate: str | Path
    key: str | Path

    def __post_init__(self) -> None:
        for name in ("root", "certificate", "key"):
            try:
                with Path(getattr(self, name)).open("rb") as file:
                    file.read(1)
            except OSError as error:
                raise BadRequest(
                    f"The {name} for TLS cannot be read: {error.strerror}: {error.filename}.",
                    "Give it the files that the server's operator handed out.",
                ) from error

    def options(self) -> dict[str, Any]:
        """What Triton's own client takes for them."""
        return {
            "ssl": True,
            "root_certificates": str(self.root),
            "certificate_chain": str(self.certificate),
            "private_key": str(self.key),
        }
