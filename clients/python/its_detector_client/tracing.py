"""OpenTelemetry's spans round a request, and its trace handed on to the server; nothing where it is not installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

try:
    from opentelemetry import propagate, trace
except ImportError:  # the package is optional
    propagate = trace = None  # type: ignore[assignment]

NAME = "its_detector_client"


@dataclass(frozen=True)
class Traced:
    """A span under way. `headers` is what the server is told of it, as gRPC metadata (`traceparent`)."""

    span: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def note(self, attributes: Mapping[str, str | int | float]) -> None:
        """Add to the span what is known by now."""
        if self.span is not None:
            self.span.set_attributes(attributes)


@contextmanager
def traced(name: str, attributes: Mapping[str, str | int | float]) -> Iterator[Traced]:
    """A client span while the block runs; an exception that leaves the block is recorded in it."""
    if trace is None:
        yield Traced()
        return
    tracer = trace.get_tracer(NAME)
    with tracer.start_as_current_span(name, kind=trace.SpanKind.CLIENT, attributes=dict(attributes)) as span:
        headers: dict[str, str] = {}
        propagate.inject(headers)
        yield Traced(span, headers)
