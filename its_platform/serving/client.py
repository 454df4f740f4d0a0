"""The client of the front: typed, asynchronous, with a deadline; and the few admin calls that the release stage makes.

Enters: RGB pictures and whose they are. Leaves: `Answer`, in pixels of the picture. An inference changes nothing but
the log, so one that a server could not take is tried again until its deadline; one that was refused is not.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from its_platform.detections import Detections
from its_platform.errors import BadInput, PermanentError, ServerUnavailable
from its_platform.serving.config import FRONT
from its_platform.settings import Settings

if TYPE_CHECKING:
    from tritonclient.grpc.aio import InferenceServerClient

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
ABANDONED_S = 30.0
CLOSE_WITHIN_S = 5.0
LOAD_DEADLINE_S = 60.0
HINT = "Start it with `its up`, or look at `its serving probe`."
Images = npt.NDArray[np.uint8]
Tensors = list[tuple[str, str, tuple[int, ...]]]
T = TypeVar("T")


class ModelRefused(PermanentError):
    """Triton answered, and said no: an unknown stage or version, a wrong tensor, a model that cannot be loaded."""


@dataclass(frozen=True)
class Answer:
    """What the front said of a request: one `Detections` for each picture, and which version they came from."""

    detections: list[Detections]
    model_version: int
    model_name: str
    latency_ms: float = 0.0


@dataclass(frozen=True)
class ModelState:
    """One line of Triton's repository index."""

    name: str
    version: int | None
    is_ready: bool
    reason: str


class DetectorClient:
    """A connection to Triton, to be used with `async with`. One serves any number of requests at once.

    `is_patient` tries again while the server is away; a probe wants the first answer.
    """

    def __init__(self, settings: Settings, deadline_s: float | None = None, is_patient: bool = True) -> None:
        self._is_patient = is_patient
        self._address = settings.triton_grpc
        self._deadline_s = deadline_s or settings.serving.deadline_s
        self._channel: InferenceServerClient | None = None
        self._under_way: set[asyncio.Future[Any]] = set()

    async def __aenter__(self) -> Self:
        from tritonclient.grpc.aio import InferenceServerClient

        self._channel = InferenceServerClient(self._address)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._under_way:
            await asyncio.wait(set(self._under_way), timeout=CLOSE_WITHIN_S)
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def detect(
        self,
        images: Images,
        camera_id: str = "unknown",
        captured_at: datetime | None = None,
        stage: str | None = None,
        version: int | None = None,
        purpose: str = "live",
        confidence: float | None = None,
        deadline_s: float | None = None,
    ) -> Answer:
        """Find objects in RGB uint8 `[n, H, W, 3]` or `[H, W, 3]`.

        `confidence` replaces the version's thresholds by class. Raises `BadInput` for a wrong array, `ModelRefused`
        for an unknown stage or version, `ServerUnavailable` when no answer came within the deadline.
        """
        from tritonclient.grpc import InferInput, InferRequestedOutput

        batch = _batch_of(images)
        tensor = InferInput("images", list(batch.shape), "UINT8")
        tensor.set_data_from_numpy(batch)
        parameters = _parameters(camera_id, captured_at, stage, version, purpose, confidence)
        outputs = [InferRequestedOutput(name) for name in ("detections", "served_version", "served_model")]
        started = time.monotonic()
        result = await self._call(
            lambda channel, left_s: channel.infer(
                FRONT, [tensor], outputs=outputs, parameters=parameters, client_timeout=left_s
            ),
            deadline_s,
        )
        rows = result.as_numpy("detections")
        return Answer(
            [Detections.from_rows(picture) for picture in rows],
            int(result.as_numpy("served_version")[0]),
            result.as_numpy("served_model")[0].decode(),
            (time.monotonic() - started) * 1000,
        )

    async def infer_detector(self, model: str, version: int, images: Images) -> npt.NDArray[np.float32]:
        """Ask a detector past the front: letterboxed uint8 `[n, S, S, 3]` to `[n, 300, 6]`. Nothing is logged."""
        from tritonclient.grpc import InferInput

        batch = _batch_of(images)
        tensor = InferInput("images", list(batch.shape), "UINT8")
        tensor.set_data_from_numpy(batch)
        result = await self._call(
            lambda channel, left_s: channel.infer(model, [tensor], str(version), client_timeout=left_s), None
        )
        return result.as_numpy("detections")

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
        await self._call(lambda channel, left_s: channel.load_model(model, client_timeout=left_s), LOAD_DEADLINE_S)

    async def unload(self, model: str, within_s: float = 30.0) -> None:
        """Unload every version of a model, and wait until none is left."""
        await self._call(lambda channel, left_s: channel.unload_model(model, client_timeout=left_s), LOAD_DEADLINE_S)
        end = time.monotonic() + within_s
        while any(state.name == model and state.is_ready for state in await self.repository_index()):
            if time.monotonic() > end:
                raise ServerUnavailable(f"{model} was not unloaded within {within_s:g} s.", "Restart Triton.")
            await asyncio.sleep(0.05)

    async def repository_index(self) -> list[ModelState]:
        """Every model and version that Triton knows of."""
        index = await self._call(
            lambda channel, left_s: channel.get_model_repository_index(client_timeout=left_s), None
        )
        return [
            ModelState(entry.name, int(entry.version) if entry.version else None, entry.state == "READY", entry.reason)
            for entry in index.models
        ]

    async def tensors(self, model: str, version: int) -> tuple[Tensors, Tensors]:
        """The inputs and outputs of a version, each its name, data type (`UINT8`) and shape with the batch first."""
        found = await self._call(
            lambda channel, left_s: channel.get_model_metadata(model, str(version), client_timeout=left_s), None
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

    async def is_ready(self) -> bool:
        """Whether the front calls itself ready. A dead instance does so too: `probe` is the real question."""
        if self._channel is None:
            raise RuntimeError("DetectorClient is used outside of `async with`")
        from tritonclient.utils import InferenceServerException

        try:
            return bool(await self._channel.is_model_ready(FRONT, client_timeout=2.0))
        except InferenceServerException:
            return False

    async def _call(self, call: Callable[[InferenceServerClient, float], Awaitable[T]], deadline_s: float | None) -> T:
        """Make a call, again and again while the server is away, until the deadline."""
        from tritonclient.utils import InferenceServerException

        allowed_s = deadline_s or self._deadline_s
        end = time.monotonic() + allowed_s
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await self._finished(call, end - time.monotonic())
            except InferenceServerException as error:
                problem = _problem(error, self._address)
                is_worth_waiting = self._is_patient and isinstance(problem, ServerUnavailable)
                if not is_worth_waiting or time.monotonic() + pause_s >= end:
                    raise problem from error
            except TimeoutError as error:
                raise ServerUnavailable(
                    f"Triton at {self._address} did not answer within {allowed_s:g} s.", HINT
                ) from error
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _finished(self, call: Callable[[InferenceServerClient, float], Awaitable[T]], left_s: float) -> T:
        """One call's result. Raises `TimeoutError` when it takes longer, and leaves the call to end by itself.

        A call is never cancelled, neither by its deadline nor with its caller: a cancellation that meets the answer on
        its way crashes Triton 2.51 as a whole (triton-inference-server/server, issue 8034).
        """
        if self._channel is None:
            raise RuntimeError("DetectorClient is used outside of `async with`")
        task = asyncio.ensure_future(call(self._channel, max(left_s, 0) + ABANDONED_S))
        self._under_way.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait({task}, timeout=max(left_s, 0.001))
        if not done:
            raise TimeoutError
        return task.result()

    def _forget(self, task: asyncio.Future[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()


def detect_once(settings: Settings, images: Images, **asked: Any) -> Answer:
    """`DetectorClient.detect` for code that is not asynchronous; opens a connection for this one call."""

    async def ask() -> Answer:
        async with DetectorClient(settings) as client:
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


def _batch_of(images: Images) -> Images:
    batch = images[None] if images.ndim == 3 else images
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[3] != 3 or 0 in batch.shape:
        raise BadInput(
            f"A picture must be RGB uint8 [H, W, 3] or [n, H, W, 3], not {images.dtype} {list(images.shape)}.",
            "Convert it first.",
        )
    return np.ascontiguousarray(batch)


def _parameters(
    camera_id: str,
    captured_at: datetime | None,
    stage: str | None,
    version: int | None,
    purpose: str,
    confidence: float | None,
) -> dict[str, Any]:
    if captured_at is not None and captured_at.tzinfo is None:
        raise BadInput("captured_at has no time zone.", "Give it in UTC.")
    given = {
        "camera_id": camera_id,
        "captured_at": captured_at.astimezone(UTC).isoformat() if captured_at else None,
        "stage": stage,
        "version": version,
        "purpose": purpose,
        # Triton's parameters know no floating point.
        "confidence": None if confidence is None else str(confidence),
        # The same each time that the request is sent: an answer that was lost on its way is logged, and then again.
        "request": uuid.uuid4().hex,
    }
    return {name: value for name, value in given.items() if value is not None}


def _problem(error: Any, address: str) -> ServerUnavailable | ModelRefused:
    """Triton's error as one of ours. A stub that died answers INTERNAL; another instance may still live."""
    status, message = str(error.status() or ""), " ".join(str(error.message() or "").split())
    is_unconnected = any(word in message.lower() for word in ("connect", "transport", "socket"))
    # A call that only an administrator may make is refused with UNAVAILABLE too.
    if "UNAVAILABLE" in status and "restricted" not in message:
        if is_unconnected:
            return ServerUnavailable(f"No Triton answers at {address}.", HINT)
        return ServerUnavailable(f"Triton at {address} cannot answer now: {message}", HINT)
    if f"unknown model: '{FRONT}'" in message:
        # It is being loaded anew, or was never loaded.
        return ServerUnavailable(f"Triton at {address} has no front loaded: {message}", HINT)
    if "DEADLINE_EXCEEDED" in status or "CANCELLED" in status:
        return ServerUnavailable(f"Triton at {address} did not answer.", HINT)
    if "not healthy" in message or "Stub process" in message:
        return ServerUnavailable(f"An instance in Triton has died: {message}", HINT)
    return ModelRefused(f"Triton refused: {message.rstrip('.')}.", "See `its serving status` for what is served.")
