"""The same client for code that is not asynchronous. It has no logic of its own.

One thread with an event loop does the work of any number of calling threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Self, TypeVar, Unpack

from its_detector_client.asynchronous import IN_FLIGHT, AsyncDetectorClient
from its_detector_client.detections import Answer
from its_detector_client.question import Asked, Images

T = TypeVar("T")


class DetectorClient:
    """`AsyncDetectorClient` with calls that wait, to be used with `with`; its methods may be called by many threads.

    Takes the same arguments. A thread that is interrupted while it waits leaves its request to end by itself.
    """

    def __init__(self, endpoints: str | Sequence[str], **options: Any) -> None:
        self._client = AsyncDetectorClient(endpoints, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="detector-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread; twice does no harm."""
        if self._loop.is_closed():
            return
        self._wait(self._client.close())
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
            self._wait(answers.aclose())  # type: ignore[attr-defined]

    def _wait(self, work: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result()
