"""Triton's own connection, but pictures go over the wire without the copies that protobuf makes of them.

Enters: a picture and what is asked of it. Leaves: Triton's answer. protobuf copies a field's bytes when it is set, and
again when the message is written; here the message is written without the picture, which is then put behind it. What is
sent is the same. Pictures in shared memory, JPEGs and all other calls are Triton's own business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from tritonclient.grpc import MAX_GRPC_MESSAGE_SIZE, InferInput, InferRequestedOutput, InferResult, service_pb2
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from its_detector_client.endpoints import PAUSE_S
from its_detector_client.question import Images

METHOD = "/inference.GRPCInferenceService/ModelInfer"
LENGTH_DELIMITED = 2
CHANNEL = (
    ("grpc.max_send_message_length", MAX_GRPC_MESSAGE_SIZE),
    ("grpc.max_receive_message_length", MAX_GRPC_MESSAGE_SIZE),
    # By itself gRPC tries ever more seldom to connect, at last every two minutes, and fails each request in between: a
    # server that was away for long would be back and not be asked.
    ("grpc.max_reconnect_backoff_ms", round(PAUSE_S * 1000)),
)
RAW_CONTENTS = bytes([service_pb2.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | LENGTH_DELIMITED])


class Picture(InferInput):
    """The tensor `images`, contiguous uint8 `[n, H, W, 3]`, which stays where it is until it is sent."""

    def __init__(self, batch: Images) -> None:
        super().__init__("images", list(batch.shape), "UINT8")
        self.batch = batch


class Connection(InferenceServerClient):
    """A connection to one Triton; raises what Triton's own does."""

    def __init__(self, address: str, **options: Any) -> None:
        super().__init__(address, channel_args=CHANNEL, **options)
        # Without a serializer: what is sent is a finished message.
        self._infer_written = self._channel.unary_unary(
            METHOD, response_deserializer=service_pb2.ModelInferResponse.FromString
        )

    async def infer(
        self,
        model_name: str,
        inputs: Sequence[InferInput],
        model_version: str = "",
        outputs: Sequence[InferRequestedOutput] | None = None,
        request_id: str = "",
        parameters: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        client_timeout: float | None = None,
    ) -> InferResult:
        """One inference. Raises `InferenceServerException`."""
        (tensor,) = inputs
        if not isinstance(tensor, Picture):
            return await super().infer(
                model_name,
                inputs,
                model_version,
                outputs=outputs,
                request_id=request_id,
                parameters=parameters,
                headers=headers,
                client_timeout=client_timeout,
            )
        asked = service_pb2.ModelInferRequest(
            model_name=model_name,
            model_version=model_version,
            id=request_id,
            inputs=[
                service_pb2.ModelInferRequest.InferInputTensor(
                    name=tensor.name(), datatype=tensor.datatype(), shape=tensor.shape()
                )
            ],
            outputs=[
                service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=output.name()) for output in outputs or ()
            ],
            parameters={
                name: service_pb2.InferParameter(**{_kind(value): value}) for name, value in (parameters or {}).items()
            },
        )
        try:
            answer = await self._infer_written(
                written(asked, tensor.batch), metadata=tuple((headers or {}).items()), timeout=client_timeout
            )
        except grpc.RpcError as error:
            raise InferenceServerException(
                msg=error.details(), status=str(error.code()), debug_details=error.debug_error_string()
            ) from None
        return InferResult(answer)


def written(asked: service_pb2.ModelInferRequest, batch: Images) -> bytes:
    """The message on the wire: what is asked, and behind it the only raw content."""
    length, rest = bytearray(), batch.nbytes
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return b"".join((asked.SerializeToString(), RAW_CONTENTS, length, batch.reshape(-1).data))


def _kind(value: str | int) -> str:
    return "string_param" if isinstance(value, str) else "int64_param"
