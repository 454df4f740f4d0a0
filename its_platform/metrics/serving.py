"""The exporter's server: what `/metrics` and `/triton` tell Prometheus, `/alerts` hears, and `/healthy`.

TLS alone, and only to who has a certificate of this home's authority. A renewed certificate is shown to whoever comes
next.
"""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from its_platform.alerting.alertmanager import ALERTS_PATH
from its_platform.certificates import ensure_certificates
from its_platform.serving.replicas import figures_ports
from its_platform.settings import Settings
from its_platform.telemetry import get_log

# Who connects and says nothing is left by then.
PATIENCE_S = 10.0
MOST_ALERT_BYTES = 4_000_000
LOG = get_log(__name__)


class FiguresServer(ThreadingHTTPServer):
    """Answers each client in a thread of its own. tell: what becomes of Alertmanager's words; whether it worked."""

    daemon_threads = True

    def __init__(self, settings: Settings, registry: CollectorRegistry, tell: Callable[[Any], bool]) -> None:
        self.registry = registry
        self.tell = tell
        # Of each Triton, which tells its figures without TLS and on this machine alone.
        self.passed_on = {f"/{part}": port for part, port in figures_ports(settings).items()}
        self._files = ensure_certificates(settings)
        self._shown = self._read()
        super().__init__((settings.host, settings.ports.metrics), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the client's own thread: one that is slow to greet keeps nobody else waiting."""
        request.settimeout(PATIENCE_S)
        try:
            with self._context().wrap_socket(request, server_side=True) as wrapped:
                super().finish_request(wrapped, client_address)
        except (ssl.SSLError, ConnectionError, TimeoutError) as error:
            LOG.info("client refused", reason=str(error))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One odd question ends its own thread, with a line that says why."""
        LOG.exception("question failed")

    def _context(self) -> ssl.SSLContext:
        """What is shown to who comes now; what was before, while a new pair is being written."""
        try:
            self._shown = self._read()
        except OSError as error:
            LOG.info("the certificate of before is shown", reason=str(error))
        return self._shown

    def _read(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self._files.root))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self._files.certificate("server"), self._files.key("server"))
        return context


class _Handler(BaseHTTPRequestHandler):
    server: FiguresServer
    server_version, sys_version = "its", ""
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        if self.path == "/healthy":
            self._answer(200, b"well\n", "text/plain")
        elif self.path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, encode(self.server.registry), content_type)
        elif self.path in self.server.passed_on:
            self._pass_on(self.server.passed_on[self.path])
        else:
            there_are = ", ".join(["/metrics", *self.server.passed_on, "/healthy"])
            self._answer(404, f"there are {there_are}\n".encode(), "text/plain")

    def do_POST(self) -> None:
        try:
            size = int(self.headers.get("Content-Length") or 0)
            if self.path != ALERTS_PATH or not 0 < size <= MOST_ALERT_BYTES:
                raise ValueError
            told = json.loads(self.rfile.read(size))
        except ValueError:
            self._answer(400, b"no alerts\n", "text/plain")
            return
        # Alertmanager tries again what was not taken.
        self._answer(*((200, b"told\n") if self.server.tell(told) else (503, b"not told\n")), "text/plain")

    def log_message(self, format: str, *args: Any) -> None:
        """A line for each scrape would say nothing."""

    def _pass_on(self, port: int) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy
        try:
            with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
                content, content_type = answer.read(), answer.headers.get("Content-Type", "text/plain")
        except (OSError, http.client.HTTPException) as error:
            self._answer(502, f"it does not answer: {error}\n".encode(), "text/plain")
            return
        self._answer(200, content, content_type)

    def _answer(self, status: int, content: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
