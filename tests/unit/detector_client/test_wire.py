"""What arrives of a picture that is sent without protobuf's copies: the same as by Triton's own client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import InferInput, InferRequestedOutput, service_pb2, service_pb2_grpc
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from its_detector_client.wire import Connection, Picture

BATCH = np.arange(2 * 40 * 60 * 3, dtype=np.uint8).reshape(2, 40, 60, 3)
REFUSED = "no-such-stage"


class Recorder(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Keeps what it is asked, and answers the number of bytes that it got."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.metadata: list[dict[str, str]] = []

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if request.parameters["stage"].string_param == REFUSED:
            await context.abort(grpc.StatusCode.NOT_FOUND, "nothing is served there")
        answer = service_pb2.ModelInferResponse(model_name=request.model_name)
        answer.outputs.add(name="bytes", datatype="INT64", shape=[1])
        answer.raw_output_contents.append(np.array([len(request.raw_input_contents[0])], np.int64).tobytes())
        return answer


@pytest.fixture
async def recorder() -> AsyncIterator[tuple[Recorder, str]]:
    server, recorder = grpc.aio.server(), Recorder()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(recorder, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield recorder, f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.mark.parametrize("batch", [BATCH, BATCH[:1, :1, :1], BATCH[:1, :6, :7].copy()], ids=["long", "3", "126"])
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {
            "outputs": [InferRequestedOutput("detections"), InferRequestedOutput("served_version")],
            "request_id": "junction-4711",
            "parameters": {"camera_id": "north", "version": 3, "purpose": "live"},
            "headers": {"traceparent": "00-1-2-01"},
            "client_timeout": 5.0,
        },
    ],
    ids=["plain", "with all"],
)
async def test_a_server_gets_the_same_message_as_from_tritons_own_client(
    recorder: tuple[Recorder, str], asked: dict[str, Any], batch: np.ndarray
) -> None:
    server, address = recorder
    batch = np.ascontiguousarray(batch)
    plain = InferInput("images", list(batch.shape), "UINT8")
    plain.set_data_from_numpy(batch)
    async with InferenceServerClient(address) as theirs, Connection(address) as ours:
        await theirs.infer("traffic_detector", [plain], "2", **asked)
        result = await ours.infer("traffic_detector", [Picture(batch)], "2", **asked)
    by_theirs, by_ours = server.asked
    assert by_ours == by_theirs
    assert server.metadata[0].get("traceparent") == server.metadata[1].get("traceparent")
    assert result.as_numpy("bytes")[0] == batch.nbytes


async def test_a_refusal_is_told_as_by_tritons_own_client(recorder: tuple[Recorder, str]) -> None:
    _, address = recorder
    plain = InferInput("images", list(BATCH.shape), "UINT8")
    plain.set_data_from_numpy(BATCH)
    told = []
    async with InferenceServerClient(address) as theirs, Connection(address) as ours:
        for connection, tensor in ((theirs, plain), (ours, Picture(BATCH))):
            with pytest.raises(InferenceServerException) as raised:
                await connection.infer("traffic_detector", [tensor], parameters={"stage": REFUSED})
            told.append((raised.value.status(), raised.value.message()))
    assert told[0] == told[1] == ("StatusCode.NOT_FOUND", "nothing is served there")


async def test_what_is_no_picture_goes_tritons_own_way(recorder: tuple[Recorder, str]) -> None:
    server, address = recorder
    jpeg = InferInput("jpeg", [1], "BYTES")
    jpeg.set_data_from_numpy(np.array([b"\xff\xd8a"], np.object_))
    async with Connection(address) as ours:
        await ours.infer("traffic_detector", [jpeg])
    assert server.asked[0].inputs[0].name == "jpeg"
    assert server.asked[0].raw_input_contents[0].endswith(b"\xff\xd8a")


async def test_a_server_that_was_away_is_reached_again_within_a_second_or_two_of_its_return() -> None:
    """gRPC by itself tries to connect after 1, 1.6, 2.6, 4.1 … and at last only every 120 s."""
    tries: list[float] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tries.append(time.monotonic())
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Connection(f"127.0.0.1:{port}") as ours:
        end = time.monotonic() + 7
        while time.monotonic() < end:
            with pytest.raises(InferenceServerException, match="connect"):
                await ours.infer("traffic_detector", [Picture(BATCH)])
            await asyncio.sleep(0.1)
    server.close()
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert max(pauses[2:]) < 1.6
