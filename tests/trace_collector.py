"""An OpenTelemetry collector for tests: hears OTLP over HTTP, and keeps the spans that it was told of."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ports import free_port_range


@dataclass(frozen=True)
class Heard:
    """One span. ids as hexadecimal; parent is empty for the first of a trace."""

    name: str
    trace: str
    span: str
    parent: str
    is_failed: bool
    facts: dict[str, Any]
    process: str


@dataclass
class Collector:
    """Where spans are told, and those that were."""

    url: str
    spans: list[Heard] = field(default_factory=list)

    def named(self, name: str) -> Heard:
        (found,) = [one for one in self.spans if one.name == name]
        return found


@contextmanager
def collecting() -> Iterator[Collector]:
    port = free_port_range(1)
    made = Collector(f"http://127.0.0.1:{port}/v1/traces")

    class Hears(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                process = _values(resource.resource.attributes).get("its.process", "")
                for scope in resource.scope_spans:
                    made.spans += [_heard(one, process) for one in scope.spans]
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", port), Hears)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


def _heard(one: Any, process: str) -> Heard:
    is_failed = one.status.code == one.status.STATUS_CODE_ERROR
    ids = one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex()
    return Heard(one.name, *ids, is_failed, _values(one.attributes), process)


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
