"""Spans of what the platform does, told to an OpenTelemetry collector where one is set; nothing anywhere else.

`traces_told_to` has a process tell its spans until the block ends, `span` is one piece of work. A span lies below the
one that it begins in, and the requests of `its_detector_client` and what Triton adds to them lie below it in turn. What
a collector that is away does not take is lost, with a line in the log: no work waits for it, and none fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from its_platform.telemetry import correlation

SERVICE = "its-platform"
# Of one delivery, and so what a process may take longer to end where the collector is away.
DELIVER_WITHIN_S = 5.0


class Note(Protocol):
    """Adds to a span what is known by now."""

    def __call__(self, **facts: str | int | float) -> None: ...


@contextmanager
def traces_told_to(url: str | None, process: str) -> Iterator[None]:
    """Tell this process's spans to a collector (OTLP over HTTP) until the block ends; to nobody without an address.

    Once in the life of a process: OpenTelemetry keeps who is told for good.
    """
    if url is None:
        yield
        return
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    about = Resource.create({"service.name": SERVICE, "its.process": process})
    provider = TracerProvider(resource=about, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=DELIVER_WITHIN_S)))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()


@contextmanager
def span(name: str, **facts: str | int | float) -> Iterator[Note]:
    """One piece of work, with its facts (`its.…`) and what the log's lines carry (`correlated`); gives what adds to it.

    An exception that leaves the block is recorded, and makes the span a failed one.
    """
    from opentelemetry import trace

    with trace.get_tracer(SERVICE).start_as_current_span(name) as current:

        def note(**more: str | int | float) -> None:
            current.set_attributes({f"its.{fact}": value for fact, value in more.items()})

        if current.is_recording():
            note(**correlation(), **facts)
        yield note
