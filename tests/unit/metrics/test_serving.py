"""What the exporter shows to who asks it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from its_platform.certificates import ensure_certificates, renew_certificates
from its_platform.metrics.serving import FiguresServer
from its_platform.settings import Settings


def test_a_scrape_is_answered_while_the_certificate_is_being_renewed(settings: Settings) -> None:
    files = ensure_certificates(settings)
    with FiguresServer(settings, CollectorRegistry(), lambda told: True) as server:
        before = server._context()
        # A renewal removes the certificate, writes the key, and then the new certificate.
        key, certificate = files.key("server").read_bytes(), files.certificate("server").read_bytes()
        files.certificate("server").unlink()
        assert server._context() is before
        renew_certificates(settings.certificates, ["localhost"], days=30)
        files.certificate("server").write_bytes(certificate)
        assert files.key("server").read_bytes() != key
        assert server._context() is before, "the two do not fit yet"
        renew_certificates(settings.certificates, ["localhost"], days=30)
        assert server._context() is not before
