"""How the pages are started and asked, with TLS and without; nothing is started."""

from __future__ import annotations

import shlex
import socket
import ssl
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from its_platform import pages
from its_platform.certificates import ensure_certificates, make_certificates
from its_platform.parts import part_named
from its_platform.settings import SecuritySettings, Settings

NAMES = ("mlflow", "evidently", "dagster")


@pytest.fixture
def secured(settings: Settings) -> Settings:
    return settings.model_copy(update={"security": SecuritySettings(pages_tls=True)})


def test_the_services_profile_has_tls_and_the_embedded_one_has_not(settings: Settings) -> None:
    services = settings.model_copy(update={"profile": "services"})
    assert (settings.pages_tls, settings.triton_tls, settings.uses_certificates) == (False, False, False)
    assert (services.pages_tls, services.triton_tls, services.uses_certificates) == (True, True, True)
    plain = services.model_copy(update={"security": SecuritySettings(pages_tls=False, triton_tls=False)})
    assert (plain.pages_tls, plain.triton_tls) == (False, False)


@pytest.mark.parametrize("name", NAMES)
def test_each_page_is_started_with_the_certificate_of_the_home_and_says_so(secured: Settings, name: str) -> None:
    part = part_named(name)
    command, _ = part.command(secured)
    files = ensure_certificates(secured)
    said = (
        " ".join(command) if name != "mlflow" else " ".join(shlex.split(command[command.index("--uvicorn-opts") + 1]))
    )
    assert str(files.certificate("server")) in said
    assert str(files.key("server")) in said
    assert part.address(secured) == f"https://127.0.0.1:{getattr(secured.ports, name)}"


@pytest.mark.parametrize("name", NAMES)
def test_without_tls_nothing_is_added(settings: Settings, name: str) -> None:
    command, _ = part_named(name).command(settings)
    assert not [word for word in command if "uvicorn" in word or "its_platform.pages" in word]
    assert part_named(name).address(settings) == f"http://127.0.0.1:{getattr(settings.ports, name)}"
    assert not settings.certificates.exists()


def test_a_renewed_certificate_is_shown_to_the_next_who_comes_and_half_a_pair_to_nobody(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["localhost"], days=1)
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    config: Any = SimpleNamespace(ssl=context, ssl_certfile=str(certificate), ssl_keyfile=str(key))

    def shown() -> str:
        pages.show_renewed(config)
        return _shown_by(context)

    first, first_key = certificate.read_text(), key.read_bytes()
    assert shown() == first
    make_certificates(tmp_path, ["localhost"], days=1, is_renewal=True)
    second, second_key = certificate.read_text(), key.read_bytes()
    key.write_bytes(first_key)
    assert shown() == first
    key.write_bytes(second_key)
    assert shown() == second
    certificate.unlink()
    assert shown() == second


def _shown_by(context: ssl.SSLContext) -> str:
    """The certificate that a server with this context shows."""
    here, there = socket.socketpair()
    asking = ssl.create_default_context()
    asking.check_hostname, asking.verify_mode = False, ssl.CERT_NONE
    serving = threading.Thread(target=lambda: context.wrap_socket(there, server_side=True).close())
    serving.start()
    with asking.wrap_socket(here) as wrapped:
        found = ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(binary_form=True) or b"")
    serving.join(10)
    return found
