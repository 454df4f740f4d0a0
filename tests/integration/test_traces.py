"""A client's trace goes on through Triton: a span for the front, and below it one for the detector that it asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from its_platform.serving.client import detect_once
from its_platform.serving.config import FRONT
from ports import free_port_range
from triton_site import DETECTOR, PICTURE, Platform, running_platform, wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def spans() -> Iterator[tuple[str, list[Any]]]:
    """An OTLP collector: its address, and the spans that it was told of."""
    heard: list[Any] = []

    class Collects(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            heard.extend(
                span for one in told["resourceSpans"] for scope in one["scopeSpans"] for span in scope["spans"]
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", free_port_range(1)), Collects)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", heard
    server.shutdown()


@pytest.fixture(scope="module")
def traced(spans: tuple[str, list[Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("traces"), traces_url=spans[0]) as found:
        yield found


def test_the_spans_of_front_and_detector_lie_below_the_clients_and_no_others_are_told(
    traced: Platform, spans: tuple[str, list[Any]]
) -> None:
    for number in range(5):
        detect_once(traced.settings, np.roll(PICTURE, number + 1, 0), camera_id="north")
    provider, asked = TracerProvider(), []

    def of(whole: str) -> dict[str, Any]:
        return {span["name"]: span for span in spans[1] if span["traceId"] == whole}

    def is_told() -> bool:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(trace, "get_tracer", provider.get_tracer)
            with provider.get_tracer("test").start_as_current_span("a camera's frame") as whole:
                # No two alike: an answer from memory asks no detector.
                detect_once(traced.settings, np.roll(PICTURE, -len(asked) - 1, 0), camera_id="north")
        asked.append(f"{whole.get_span_context().trace_id:032x}")
        time.sleep(1)
        return any({FRONT, DETECTOR} <= set(of(one)) for one in asked)

    # Telling of a request is best effort: one whose spans were lost does not say that spans lie at the wrong place.
    wait_until(is_told, 60)
    ours = next(one for one in asked if {FRONT, DETECTOR} <= set(of(one)))
    by_id = {span["spanId"]: span for span in spans[1] if span["traceId"] == ours}
    span, above = of(ours)[DETECTOR], []
    while span["parentSpanId"] in by_id:
        span = by_id[span["parentSpanId"]]
        above.append(span["name"])
    assert FRONT in above, "the detector's span lies below the front's"
    # What brought no trace came before these, so that its spans would be there by now.
    assert {span["traceId"] for span in spans[1]} <= set(asked)
