"""A request is a span, and the server is told of the trace that it belongs to."""

from __future__ import annotations

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from its_detector_client import AsyncDetectorClient, Refused, tracing
from stand_ins import AWAY, Channel, Result

PICTURE = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


def client_of(channel: Channel) -> AsyncDetectorClient:
    return AsyncDetectorClient("server:1", connect=lambda address: channel)


async def test_the_server_is_told_of_the_span_and_the_span_of_the_answer(spans: InMemorySpanExporter) -> None:
    channel = Channel(AWAY, Result())
    answer = await client_of(channel).detect(PICTURE, "north")
    (span,) = spans.get_finished_spans()
    told = channel.calls[-1]["headers"]["traceparent"].split("-")
    assert span.context is not None
    assert (int(told[1], 16), int(told[2], 16)) == (span.context.trace_id, span.context.span_id)
    assert span.attributes is not None
    assert span.attributes["its.request"] == answer.request_id
    assert (span.attributes["its.attempts"], span.attributes["its.model_version"]) == (2, 7)


async def test_a_refusal_is_recorded_in_the_span(spans: InMemorySpanExporter) -> None:
    with pytest.raises(Refused):
        await client_of(Channel(("no such stage", "StatusCode.NOT_FOUND"))).detect(PICTURE)
    (span,) = spans.get_finished_spans()
    assert not span.status.is_ok
    assert span.events[0].name == "exception"


async def test_without_opentelemetry_nothing_is_told_and_all_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "trace", None)
    channel = Channel(Result())
    assert (await client_of(channel).detect(PICTURE)).model_version == 7
    assert channel.calls[0]["headers"] is None
