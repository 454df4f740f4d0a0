"""The same client for code that is not asynchronous. It has no logic of its own.

One thread with an event loop does the work of any number of calling threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from datetime import datetime
from typing import Any, Self, TypeVar, Unpack

from its_detector_client.asynchronous import IN_FLIGHT, AsyncDetectorClient
from its_detector_client.detections import Answer
from its_detector_client.errors import BadRequest, Unavailable
from its_detector_client.question import Asked, Images

T = TypeVar("T")


class DetectorClient:
    """`AsyncDetectorClient` with calls that wait, to be used with `with`; its methods may be called by many threads.

    Takes the same arguments. A thread that is interrupted while it waits leaves its request to end by itself; one that
    waits while another closes the client is told so, by `Unavailable`.
    """

    def __init__(self, endpoints: str | Sequence[str], **options: Any) -> None:
        self._client = AsyncDetectorClient(endpoints, **options)
        self._as_error = options.get("as_error", lambda problem: problem)
        self._loop = asyncio.new_event_loop()
        self._is_closed = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="detector-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread; twice does no harm."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def detect(
        self,
        images: Images,
        camera_id: str = "unknown",
        captured_at: datetime | None = None,
        **asked: Unpack[Asked],
    ) -> Answer:
        """See `AsyncDetectorClient.detect`."""
        return self._wait(self._client.detect(images, camera_id, captured_at, **asked))

    def detect_jpeg(
        self,
        jpeg: bytes,
        camera_id: str = "unknown",
        captured_at: datetime | None = None,
        **asked: Unpack[Asked],
    ) -> Answer:
        """See `AsyncDetectorClient.detect_jpeg`."""
        return self._wait(self._client.detect_jpeg(jpeg, camera_id, captured_at, **asked))

    def detect_many(
        self,
        images: Iterable[Images | bytes],
        camera_id: str = "unknown",
        batch: int = 1,
        in_flight: int = IN_FLIGHT,
        **asked: Unpack[Asked],
    ) -> Iterator[Answer]:
        """See `AsyncDetectorClient.detect_many`. The pictures are read on the client's thread."""
        answers = self._client.detect_many(images, camera_id, batch, in_flight, **asked)
        try:
            while (answer := self._wait(anext(answers, None))) is not None:
                yield answer
        finally:
            if not self._is_closed:
                self._wait(_given_up(answers))

    def _wait(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        with self._closing:
            # Nobody would ever answer what is given to a loop that has ended.
            waiting = None if self._is_closed else asyncio.run_coroutine_threadsafe(awaited(), self._loop)
        try:
            if waiting is None:
                work.close()  # type: ignore[attr-defined]
                raise self._as_error(BadRequest("The client is closed.", "Make another one."))
            return waiting.result()
        except CancelledError as error:
            raise self._as_error(Unavailable("The client was closed before an answer came.", "Ask anew.")) from error
        except BaseException:
            if waiting is not None:
                waiting.cancel()
            raise

    async def _end(self) -> None:
        """Close the connections; whoever waits still is told."""
        await self._client.close()
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _given_up(answers: AsyncIterator[Answer]) -> None:
    """End a loop over many pictures, once the question of a thread that was interrupted has been left."""
    while answers.ag_running:  # type: ignore[attr-defined]
        await asyncio.sleep(0)
    await answers.aclose()  # type: ignore[attr-defined]
