"""The client of the front `traffic_detector`: pictures in, typed detections out, within a deadline.

Enters: RGB pictures or JPEGs and whose they are. Leaves: `Answer`s, in pixels of the picture. An inference changes
nothing but the server's log, which knows a request by its name and keeps it once; so one that a server could not take
is tried again, at another endpoint or later, until its deadline. One that was refused is not.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, NoReturn, Self, TypeVar, Unpack

import numpy as np

from its_detector_client.detections import Answer, Detections
from its_detector_client.endpoints import MOST_UNANSWERED, Balancer, Breaker, Endpoint, is_local
from its_detector_client.errors import HINT, BadRequest, ClientError, Unavailable, problem_of
from its_detector_client.question import MOST_PICTURES, Asked, Images, Question, batch_of, jpeg_of
from its_detector_client.regions import Regions, is_lost
from its_detector_client.tls import Tls
from its_detector_client.tracing import Traced, traced

FRONT = "traffic_detector"
DEADLINE_S = 10.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
ABANDONED_S = 30.0
CLOSE_WITHIN_S = 5.0
UNREGISTER_WITHIN_S = 2.0
IN_FLIGHT = 3
# A client that asks once is not worth a region.
FIRST_OVER_THE_WIRE = 1
OUTPUTS = ("detections", "served_version", "served_model")
SharedMemory = Literal["auto", "never"]
T = TypeVar("T")


class AsyncDetectorClient:
    """Connections to one Triton or several that serve the same, to be used with `async with` in one event loop.

    endpoints: `host:port` of each; requests go to the one with the fewest under way, and to another where one fails.
    is_patient: try again while no server answers; a probe wants the first answer.
    shared_memory: `auto` hands pictures to a server of this machine in shared memory, where it takes them.
    failures_to_open, breaker_pause_s: so many failures in a row, and an endpoint is asked only once in a pause.
    most_unanswered: so many requests at most lie at an endpoint, those that were given up on among them; further ones
    wait here, so that a server that was away is not met by a queue of which nobody awaits the answers any more.
    tls: the files for servers that answer only clients with a certificate.
    as_error: what to raise instead of this package's `ClientError`s, for a program with errors of its own.
    """

    def __init__(
        self,
        endpoints: str | Sequence[str],
        deadline_s: float = DEADLINE_S,
        is_patient: bool = True,
        shared_memory: SharedMemory = "auto",
        failures_to_open: int = 5,
        breaker_pause_s: float = 1.0,
        most_unanswered: int = MOST_UNANSWERED,
        as_error: Callable[[ClientError], Exception] = lambda problem: problem,
        connect: Callable[[str], Any] | None = None,
        tls: Tls | None = None,
    ) -> None:
        addresses = (endpoints,) if isinstance(endpoints, str) else tuple(dict.fromkeys(endpoints))
        if not addresses:
            raise BadRequest("A client needs an endpoint.", "Give it host:port of Triton's gRPC.")
        self._balancer = Balancer(
            [
                Endpoint(
                    address,
                    Breaker(failures_to_open, breaker_pause_s),
                    Regions() if shared_memory == "auto" and is_local(address) else None,
                    slots=asyncio.Semaphore(most_unanswered),
                )
                for address in addresses
            ]
        )
        self._addresses = ", ".join(addresses)
        self._deadline_s = deadline_s
        self._is_patient = is_patient
        self._as_error = as_error
        self._connect = connect or partial(_connect, tls=tls)
        self._under_way: set[asyncio.Future[Any]] = set()
        self._inferences = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Wait a little for what is under way, give the regions back, and close the connections."""
        if self._under_way:
            await asyncio.wait(set(self._under_way), timeout=CLOSE_WITHIN_S)
        for endpoint in self._balancer.endpoints:
            channel, endpoint.channel = endpoint.channel, None
            if channel is not None:
                if endpoint.regions is not None:
                    await endpoint.regions.close(channel, UNREGISTER_WITHIN_S)
                await channel.close()

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
        request_id: str | None = None,
    ) -> Answer:
        """Find objects in RGB uint8 `[n, H, W, 3]` or `[H, W, 3]`.

        `confidence` replaces the version's thresholds by class; `request_id` names the request in the server's log, a
        new name unless given. Raises `BadRequest` for a wrong array, `Refused` for an unknown stage or version,
        `Unavailable` when no answer came within the deadline.
        """
        question = Question(request_id or uuid.uuid4().hex, camera_id, captured_at, stage, version, purpose, confidence)
        with self._told():
            batch = batch_of(images)

        async def ask(endpoint: Endpoint, left_s: float, trace: Traced, parameters: dict[str, Any]) -> Any:
            return await self._infer(endpoint, FRONT, "", batch, left_s, parameters, OUTPUTS, trace.headers)

        return await self._answered(question, ask, deadline_s)

    async def detect_jpeg(
        self,
        jpeg: bytes,
        camera_id: str = "unknown",
        captured_at: datetime | None = None,
        **asked: Unpack[Asked],
    ) -> Answer:
        """The same for one JPEG file, which the server decodes.

        Boxes are in pixels of the picture, turned as the file says. Raises as `detect`; `Refused` for a broken file.
        """
        question = Question(
            asked.get("request_id") or uuid.uuid4().hex,
            camera_id,
            captured_at,
            asked.get("stage"),
            asked.get("version"),
            asked.get("purpose", "live"),
            asked.get("confidence"),
        )
        with self._told():
            file = jpeg_of(jpeg)

        async def ask(endpoint: Endpoint, left_s: float, trace: Traced, parameters: dict[str, Any]) -> Any:
            from tritonclient.grpc import InferInput

            tensor = InferInput("jpeg", list(file.shape), "BYTES")
            tensor.set_data_from_numpy(file)
            return await _send(endpoint, FRONT, "", tensor, left_s, parameters, OUTPUTS, trace.headers)

        return await self._answered(question, ask, asked.get("deadline_s"))

    async def detect_many(
        self,
        images: Iterable[Images | bytes],
        camera_id: str = "unknown",
        batch: int = 1,
        in_flight: int = IN_FLIGHT,
        **asked: Unpack[Asked],
    ) -> AsyncIterator[Answer]:
        """One answer for each picture or JPEG of one camera, in order, while `in_flight` requests are under way.

        Up to `batch` pictures of one shape that follow one another share a request: that pays on a GPU, or over a slow
        network; a JPEG is one of its own. Raises as `detect` at the picture that failed, and waits for none after it;
        and what `images` raises, once those that it gave before are answered.
        """
        if "request_id" in asked:
            with self._told():
                raise BadRequest("One name cannot stand for several requests.", "Leave request_id out.")
        waiting: deque[asyncio.Task[Answer]] = deque()
        broken: list[Exception] = []
        try:
            for group in _groups(_read(images, broken), min(batch, MOST_PICTURES)):
                ask = self.detect_jpeg if isinstance(group, bytes) else self.detect
                waiting.append(asyncio.ensure_future(ask(group, camera_id, **asked)))  # type: ignore[arg-type]
                # The picture that comes next may take long to be read.
                await asyncio.sleep(0)
                if len(waiting) >= in_flight:
                    for answer in _each(await waiting.popleft()):
                        yield answer
            while waiting:
                for answer in _each(await waiting.popleft()):
                    yield answer
            if broken:
                raise broken[0]
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def infer(self, model: str, version: int, images: Images, deadline_s: float | None = None) -> Any:
        """Ask a model behind the front: its `detections` for `images`, uint8 `[n, H, W, 3]`. Nothing is logged."""
        with self._told():
            batch = batch_of(images)
        result = await self._ask(
            lambda endpoint, left_s: self._infer(endpoint, model, str(version), batch, left_s, None, None, None),
            deadline_s,
            is_repeatable=True,
        )
        return result.as_numpy("detections")

    async def call(
        self, call: Callable[[Any, float], Awaitable[T]], deadline_s: float | None = None, is_repeatable: bool = False
    ) -> T:
        """Any other call of Triton's: `call` is given the connection and the seconds that are left.

        One that is not repeatable is sent again only where it surely never arrived. Raises `Refused`, `Unavailable`.
        """
        return await self._ask(lambda endpoint, left_s: call(endpoint.channel, left_s), deadline_s, is_repeatable)

    async def _answered(
        self,
        question: Question,
        ask: Callable[[Endpoint, float, Traced, dict[str, Any]], Awaitable[Any]],
        deadline_s: float | None,
    ) -> Answer:
        with self._told():
            parameters = question.parameters()
        asked_of: list[str] = []
        about = {
            "its.camera_id": question.camera_id,
            "its.purpose": question.purpose,
            "its.request": question.request_id,
        }
        with traced(f"detect {FRONT}", about) as trace:

            async def send(endpoint: Endpoint, left_s: float) -> Any:
                asked_of.append(endpoint.address)
                return await ask(endpoint, left_s, trace, parameters)

            started = time.monotonic()
            result = await self._ask(send, deadline_s, is_repeatable=True)
            answer = Answer(
                [Detections.from_rows(picture) for picture in result.as_numpy("detections")],
                int(result.as_numpy("served_version")[0]),
                result.as_numpy("served_model")[0].decode(),
                (time.monotonic() - started) * 1000,
                question.request_id,
                asked_of[-1],
            )
            trace.note(
                {
                    "server.address": answer.endpoint,
                    "its.attempts": len(asked_of),
                    "its.model": answer.model_name,
                    "its.model_version": answer.model_version,
                }
            )
            return answer

    async def _infer(
        self,
        endpoint: Endpoint,
        model: str,
        version: str,
        batch: Images,
        left_s: float,
        parameters: dict[str, Any] | None,
        outputs: Sequence[str] | None,
        headers: dict[str, str] | None,
    ) -> Any:
        """Send pictures, in shared memory where the endpoint takes them. Raises what the channel raises."""
        from tritonclient.grpc import InferInput
        from tritonclient.utils import InferenceServerException

        from its_detector_client.wire import Picture

        regions = endpoint.regions
        self._inferences += 1
        while True:
            region = None
            if regions is not None and self._inferences > FIRST_OVER_THE_WIRE:
                region = await regions.take(endpoint.channel, batch.nbytes, left_s)
            if regions is None or region is None:
                return await _send(endpoint, model, version, Picture(batch), left_s, parameters, outputs, headers)
            region.write(batch)
            tensor = InferInput("images", list(batch.shape), "UINT8")
            tensor.set_shared_memory(region.name, batch.nbytes)
            try:
                result = await _send(endpoint, model, version, tensor, left_s, parameters, outputs, headers)
            except InferenceServerException as error:
                problem = problem_of(error, endpoint.address, FRONT)
                if isinstance(problem, Unavailable):
                    # Nobody knows whether the server still reads it.
                    if problem.is_endpoint_fault:
                        regions.drop(region)
                    else:
                        # One that lives would keep the memory of every request that it cannot answer.
                        await regions.let_go(endpoint.channel, region, UNREGISTER_WITHIN_S)
                    raise
                regions.give_back(region)
                if not is_lost(error):
                    raise
                regions.forget(region)
            except BaseException:
                regions.drop(region)
                raise
            else:
                regions.give_back(region)
                return result

    async def _ask(
        self, call: Callable[[Endpoint, float], Awaitable[T]], deadline_s: float | None, is_repeatable: bool
    ) -> T:
        """Make a call, at another endpoint or again while no server can answer, until the deadline."""
        from tritonclient.utils import InferenceServerException

        allowed_s = self._deadline_s if deadline_s is None else deadline_s
        if allowed_s <= 0:
            late = Unavailable("The deadline passed before anything was sent.", "Give it more time.", was_sent=False)
            self._raise(late, None)
        end = time.monotonic() + allowed_s
        pause_s = FIRST_PAUSE_S
        failed: set[Endpoint] = set()
        while True:
            now = time.monotonic()
            endpoint = self._balancer.pick(now, failed)
            cause: BaseException | None = None
            problem: ClientError
            if endpoint is None:
                problem = Unavailable(
                    f"Triton at {self._addresses} failed too often and is let rest.", HINT, was_sent=False
                )
            else:
                left_s = end - now
                # With others to turn to, one that hangs must leave them time.
                others = self._balancer.may_pick(now, {*failed, endpoint}) if is_repeatable else 0
                try:
                    return await self._finished(endpoint, call, left_s / (others + 1))
                except InferenceServerException as error:
                    problem, cause = problem_of(error, endpoint.address, FRONT), error
                except Unavailable as error:
                    problem = error
                except TimeoutError as error:
                    problem = Unavailable(f"Triton at {endpoint.address} did not answer within {allowed_s:g} s.")
                    cause = error
                if isinstance(problem, Unavailable) and problem.is_endpoint_fault:
                    endpoint.breaker.fail(time.monotonic())
                elif cause is not None:
                    # What was never sent says nothing of the endpoint.
                    endpoint.breaker.succeed()
                failed.add(endpoint)
            may_repeat = isinstance(problem, Unavailable) and (is_repeatable or not problem.was_sent)
            if not may_repeat:
                self._raise(problem, cause)
            if self._balancer.may_pick(time.monotonic(), failed) and time.monotonic() < end:
                continue
            if not self._is_patient or time.monotonic() + pause_s >= end:
                self._raise(problem, cause)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            failed.clear()

    async def _finished(self, endpoint: Endpoint, call: Callable[[Endpoint, float], Awaitable[T]], left_s: float) -> T:
        """One call's result. Raises `TimeoutError` when it takes longer, and leaves the call to end by itself.

        A call is not cancelled, neither by its deadline nor with its caller: a cancellation that meets the answer on
        its way crashes Triton 2.51 as a whole (triton-inference-server/server, issue 8034). One that hangs ends
        `ABANDONED_S` later, or when the client is closed.
        """
        if endpoint.channel is None:
            endpoint.channel = self._connect(endpoint.address)
        left_s -= await self._slot(endpoint, left_s)
        task = asyncio.ensure_future(call(endpoint, max(left_s, 0) + ABANDONED_S))
        endpoint.under_way += 1
        self._under_way.add(task)

        def forget(ended: asyncio.Future[Any]) -> None:
            endpoint.under_way -= 1
            endpoint.slots.release()
            self._under_way.discard(ended)
            if not ended.cancelled() and ended.exception() is None:
                endpoint.breaker.succeed()

        task.add_done_callback(forget)
        done, _ = await asyncio.wait({task}, timeout=max(left_s, 0.001))
        if not done:
            raise TimeoutError
        return task.result()

    async def _slot(self, endpoint: Endpoint, left_s: float) -> float:
        """Wait until a request may be sent; for how many seconds. Raises `Unavailable`."""
        if not endpoint.slots.locked():
            await endpoint.slots.acquire()
            return 0.0
        began = time.monotonic()
        try:
            await asyncio.wait_for(endpoint.slots.acquire(), max(left_s, 0.001))
        except TimeoutError:
            raise Unavailable(
                f"Triton at {endpoint.address} has {endpoint.under_way} requests that it has not answered.",
                "It is asked for more than it can do: send fewer pictures, or add a replica.",
                was_sent=False,
                is_endpoint_fault=False,
            ) from None
        return time.monotonic() - began

    def _told(self) -> _Told:
        return _Told(self._as_error)

    def _raise(self, problem: ClientError, cause: BaseException | None) -> NoReturn:
        raise self._as_error(problem) from cause


class _Told:
    """Raises this package's errors as those that the program wants."""

    def __init__(self, as_error: Callable[[ClientError], Exception]) -> None:
        self._as_error = as_error

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ClientError) and (told := self._as_error(error)) is not error:
            raise told from error


def _connect(address: str, tls: Tls | None = None) -> Any:
    from its_detector_client.wire import Connection

    return Connection(address, **(tls.options() if tls is not None else {}))


async def _send(
    endpoint: Endpoint,
    model: str,
    version: str,
    tensor: Any,
    left_s: float,
    parameters: dict[str, Any] | None,
    outputs: Sequence[str] | None,
    headers: dict[str, str] | None,
) -> Any:
    from tritonclient.grpc import InferRequestedOutput

    return await endpoint.channel.infer(
        model,
        [tensor],
        version,
        outputs=[InferRequestedOutput(name) for name in outputs] if outputs else None,
        request_id=parameters["request"] if parameters else "",
        parameters=parameters,
        headers=headers or None,
        client_timeout=left_s,
    )


def _read(images: Iterable[Images | bytes], broken: list[Exception]) -> Iterable[Images | bytes]:
    """The pictures up to where they can no more be read; why they cannot is kept in `broken`."""
    try:
        yield from images
    except Exception as error:  # noqa: BLE001  raised when the pictures before it are answered
        broken.append(error)


def _groups(images: Iterable[Images | bytes], most: int) -> Iterable[Images | bytes]:
    """Neighbours of one shape, up to `most` of them, as `[n, H, W, 3]`; JPEGs by themselves."""
    group: list[Images] = []
    for image in images:
        if group and (isinstance(image, bytes) or image.shape != group[0].shape or len(group) >= most):
            yield np.stack(group)
            group = []
        if isinstance(image, bytes):
            yield image
        else:
            group.append(image)
    if group:
        yield np.stack(group) if len(group) > 1 else group[0][None]


def _each(answer: Answer) -> Iterable[Answer]:
    return (replace(answer, detections=[found]) for found in answer.detections)
