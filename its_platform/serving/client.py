"""The platform's own use of the small client: its settings and errors, and the admin calls of the release stage.

How a request is sent, tried again or balanced is the business of `clients/python`, and is not repeated here.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from its_detector_client import Answer, AsyncDetectorClient, BadRequest, ClientError, Refused
from its_detector_client.endpoints import FAILURES_TO_OPEN
from its_detector_client.question import Images
from its_platform.certificates import EXPIRED_HINT, what_expired
from its_platform.errors import BadInput, ItsError, PermanentError, ServerUnavailable
from its_platform.serving.config import FRONT
from its_platform.serving.replicas import live_endpoints
from its_platform.serving.tls import admin_headers, client_tls
from its_platform.settings import Settings

__all__ = ["Answer", "DetectorClient", "Images", "ModelRefused", "ModelState", "detect_once", "with_client"]

LOAD_DEADLINE_S = 60.0
READY_DEADLINE_S = 5.0
HINT = "Start it with `its up`, or look at `its serving probe`."
Tensors = list[tuple[str, str, tuple[int, ...]]]
T = TypeVar("T")


class ModelRefused(PermanentError):
    """Triton answered, and said no: an unknown stage or version, a wrong tensor, a model that cannot be loaded."""


@dataclass(frozen=True)
class ModelState:
    """One line of Triton's repository index."""

    name: str
    version: int | None
    is_ready: bool
    reason: str


class DetectorClient(AsyncDetectorClient):
    """A connection to this home's Triton, to be used with `async with`. One serves any number of requests at once.

    `is_patient` tries again while the server is away; a probe wants the first answer. endpoints: who is asked instead;
    admin calls are then sent to any of them, so they are for detections alone.
    """

    def __init__(
        self,
        settings: Settings,
        deadline_s: float | None = None,
        is_patient: bool = True,
        endpoints: Sequence[str] = (),
        connect: Callable[[str], Any] | None = None,
    ) -> None:
        super().__init__(
            endpoints or (settings.triton_grpc,),
            deadline_s=settings.serving.deadline_s if deadline_s is None else deadline_s,
            is_patient=is_patient,
            # A probe asks each part of a server: what one did not answer must not keep it from the next.
            failures_to_open=FAILURES_TO_OPEN if is_patient else sys.maxsize,
            shared_memory="auto" if settings.serving.shared_memory else "never",
            as_error=partial(_ours, settings),
            connect=connect,
            tls=client_tls(settings) if connect is None else None,
        )
        self._admin = {"headers": headers} if (headers := admin_headers(settings)) else {}

    async def infer_detector(self, model: str, version: int, images: Images) -> npt.NDArray[np.float32]:
        """Ask a detector past the front: letterboxed uint8 `[n, S, S, 3]` to `[n, 300, 6]`. Nothing is logged."""
        found: npt.NDArray[np.float32] = await self.infer(model, version, images)
        return found

    async def served_version(self, stage: str = "production") -> int | None:
        """The version that answers at a stage, read back by an inference; None when the stage has none."""
        try:
            answer = await self.detect(np.full((64, 64, 3), 114, np.uint8), "probe", stage=stage, purpose="probe")
        except ModelRefused:
            return None
        return answer.model_version

    async def load(self, model: str) -> None:
        """Make Triton look at a model's folder: new versions are loaded, removed ones let go.

        Raises `ModelRefused` when one cannot be loaded; versions that ran before keep serving.
        """
        await self.call(
            lambda channel, left_s: channel.load_model(model, client_timeout=left_s, **self._admin), LOAD_DEADLINE_S
        )

    async def unload(self, model: str, within_s: float = 30.0) -> None:
        """Unload every version of a model, and wait until none is left."""
        await self.call(
            lambda channel, left_s: channel.unload_model(model, client_timeout=left_s, **self._admin), LOAD_DEADLINE_S
        )
        end = time.monotonic() + within_s
        while any(state.name == model and state.is_ready for state in await self.repository_index()):
            if time.monotonic() > end:
                raise ServerUnavailable(f"{model} was not unloaded within {within_s:g} s.", "Restart Triton.")
            await asyncio.sleep(0.05)

    async def repository_index(self) -> list[ModelState]:
        """Every model and version that Triton knows of."""
        index = await self.call(
            lambda channel, left_s: channel.get_model_repository_index(client_timeout=left_s, **self._admin),
            is_repeatable=True,
        )
        return [
            ModelState(entry.name, int(entry.version) if entry.version else None, entry.state == "READY", entry.reason)
            for entry in index.models
        ]

    async def tensors(self, model: str, version: int) -> tuple[Tensors, Tensors]:
        """The inputs and outputs of a version, each its name, data type (`UINT8`) and shape with the batch first."""
        found = await self.call(
            lambda channel, left_s: channel.get_model_metadata(model, str(version), client_timeout=left_s),
            is_repeatable=True,
        )
        inputs, outputs = (
            [(tensor.name, tensor.datatype, tuple(int(side) for side in tensor.shape)) for tensor in tensors]
            for tensors in (found.inputs, found.outputs)
        )
        return inputs, outputs

    async def loaded_versions(self, model: str) -> list[int]:
        """The versions of a model that Triton calls ready, in order."""
        index = await self.repository_index()
        return sorted(state.version for state in index if state.name == model and state.is_ready and state.version)

    async def is_live(self) -> bool:
        """Whether the server says that it lives, waiting for it until the deadline. Raises `ServerUnavailable`."""
        return await self.call(
            lambda channel, left_s: channel.is_server_live(client_timeout=left_s), is_repeatable=True
        )

    async def is_ready(self) -> bool:
        """Whether the front calls itself ready. A dead instance does so too: `probe` is the real question."""
        from tritonclient.utils import InferenceServerException

        async def ask(channel: Any, left_s: float) -> bool:
            try:
                return bool(await channel.is_model_ready(FRONT, client_timeout=2.0))
            except InferenceServerException:
                return False

        return await self.call(ask, READY_DEADLINE_S)


def detect_once(settings: Settings, images: Images, **asked: Any) -> Answer:
    """`DetectorClient.detect` for code that is not asynchronous; opens a connection for this one call."""

    async def ask() -> Answer:
        async with DetectorClient(settings, endpoints=live_endpoints(settings)) as client:
            return await client.detect(images, **asked)

    return asyncio.run(ask())


def with_client(
    settings: Settings, use: Callable[[DetectorClient], Awaitable[T]], deadline_s: float | None = None
) -> T:
    """Run admin or inference calls from code that is not asynchronous."""

    async def run() -> T:
        async with DetectorClient(settings, deadline_s) as client:
            return await use(client)

    return asyncio.run(run())


def _ours(settings: Settings, problem: ClientError) -> ItsError:
    """The client's error as one of the platform's, with what a person does about it here."""
    if isinstance(problem, BadRequest):
        return BadInput(problem.message, problem.hint)
    if isinstance(problem, Refused):
        return ModelRefused(problem.message, "See `its serving status` for what is served.")
    if settings.triton_tls and (ended := what_expired(settings.certificates)):
        return ServerUnavailable(f"{problem.message.rstrip('.')}: {ended}.", EXPIRED_HINT)
    return ServerUnavailable(problem.message, HINT)
