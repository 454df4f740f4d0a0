"""Pictures handed to a Triton of this machine in system shared memory, instead of through its socket.

Enters: a picture's bytes. Leaves: the name of a region that Triton has mapped and that holds them. A region is made and
registered once and used again; those of processes that died are swept, in `/dev/shm` and in Triton. A region whose
request never came back is not used again, since Triton may still read it.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import time
import uuid
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from its_detector_client.errors import message_of

FOLDER = Path("/dev/shm")
PREFIX = "its-client-"
# Below this the copy through the socket is cheaper than naming a region is worth.
LEAST_BYTES = 32 * 1024
MOST_BYTES = 128 * 1024 * 1024
STEP_BYTES = 64 * 1024
# A region that was made this recently may be one whose maker has not locked it yet.
SWEEP_AFTER_S = 60.0
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Region:
    """A piece of shared memory. Its file is locked while its maker lives."""

    name: str
    size: int
    descriptor: int
    memory: mmap.mmap
    registered_in: int = -1

    def write(self, data: Any) -> None:
        """Copy a contiguous buffer to the start of the region."""
        self.memory[: memoryview(data).nbytes] = data

    def close(self) -> None:
        self.memory.close()
        os.close(self.descriptor)
        (FOLDER / self.name).unlink(missing_ok=True)


class Regions:
    """The regions that one client shares with one Triton.

    Raises what the channel raises when Triton cannot be reached. Whether it takes regions is found out by trying.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._free: list[Region] = []
        # Counts the lives of the server: a region that was registered in an earlier one is registered anew.
        self._life = 0
        self._is_swept = False
        self.is_usable = True

    async def take(self, channel: Any, size: int, timeout_s: float) -> Region | None:
        """A registered region of at least `size` bytes, for one request; None where the wire must do."""
        if not self.is_usable or size < LEAST_BYTES:
            return None
        region = self._reused(size) or await self._new(channel, size)
        if region is None:
            return None
        try:
            is_registered = region.registered_in == self._life or await self._register(channel, region, timeout_s)
        except BaseException:
            self.drop(region)
            raise
        if not is_registered:
            self.drop(region)
            return None
        return region

    def give_back(self, region: Region) -> None:
        """The request has come back; the region may hold the next picture."""
        self._free.append(region)

    def drop(self, region: Region) -> None:
        """Never use the region again. Triton keeps its own mapping until it is told to let go."""
        self._bytes -= region.size
        region.close()

    async def let_go(self, channel: Any, region: Region, timeout_s: float) -> None:
        """Never use the region again, and have Triton unmap it, which it refuses while a request still reads it."""
        await self._unregister(channel, region.name, timeout_s)
        self.drop(region)

    def forget(self, region: Region) -> None:
        """The server does not know this region: it has started anew, and knows none that were registered before.

        Of several requests that find it out, those that come later must not forget what was registered since.
        """
        if region.registered_in == self._life:
            self._life += 1

    async def close(self, channel: Any, timeout_s: float) -> None:
        """Unregister and remove every region that is not in a request."""
        while self._free:
            await self.let_go(channel, self._free.pop(), timeout_s)

    def _reused(self, size: int) -> Region | None:
        fitting = [region for region in self._free if region.size >= size]
        if not fitting:
            return None
        region = min(fitting, key=lambda one: one.size)
        self._free.remove(region)
        return region

    async def _new(self, channel: Any, size: int) -> Region | None:
        size = -(-size // STEP_BYTES) * STEP_BYTES
        while self._bytes + size > self._most_bytes and self._free:
            small = self._free.pop(0)
            if small.registered_in == self._life:
                await self.let_go(channel, small, 1.0)
            else:
                self.drop(small)
        if self._bytes + size > self._most_bytes:
            return None
        try:
            region = _make(size)
        except OSError as error:
            _log.info("No shared memory of %d bytes: %s; pictures go over the wire.", size, error)
            self.is_usable = False
            return None
        self._bytes += size
        return region

    async def _register(self, channel: Any, region: Region, timeout_s: float) -> bool:
        from tritonclient.utils import InferenceServerException

        life = self._life
        try:
            await channel.register_system_shared_memory(
                region.name, f"/{region.name}", region.size, client_timeout=timeout_s
            )
        except InferenceServerException as error:
            status = str(error.status() or "")
            if ("UNAVAILABLE" in status and "restricted" not in message_of(error)) or "DEADLINE" in status:
                raise
            # A server behind a forwarded port, of another user, or one that does not let us.
            _log.info("Triton takes no shared memory: %s; pictures go over the wire.", message_of(error))
            self.is_usable = False
            return False
        region.registered_in = life
        if not self._is_swept:
            self._is_swept = True
            await self._sweep(channel, timeout_s)
        return True

    async def _sweep(self, channel: Any, timeout_s: float) -> None:
        """Remove what processes that died left behind, here and in Triton, which lets go of no region in use."""
        from tritonclient.utils import InferenceServerException

        sweep_files()
        try:
            status = await channel.get_system_shared_memory_status(client_timeout=timeout_s)
        except InferenceServerException as error:
            _log.info("Regions of clients that died were not looked for: %s", message_of(error))
            return
        for name in status.regions:
            if name.startswith(PREFIX) and not (FOLDER / name).exists():
                await self._unregister(channel, name, timeout_s)

    async def _unregister(self, channel: Any, name: str, timeout_s: float) -> None:
        from tritonclient.utils import InferenceServerException

        try:
            await channel.unregister_system_shared_memory(name, client_timeout=timeout_s)
        except InferenceServerException as error:
            # A server that is gone has no regions, and one in use is left to a later sweep.
            _log.debug("Region %s was not unregistered: %s", name, message_of(error))


def is_lost(error: Any) -> bool:
    """Whether Triton refused a request because it does not know the region: it was started anew."""
    return "shared memory region" in message_of(error) and "nable to find" in message_of(error)


def sweep_files() -> int:
    """Remove the regions whose makers died; how many there were."""
    removed = 0
    for path in FOLDER.glob(f"{PREFIX}*"):
        with suppress(OSError), path.open("rb") as file:
            if time.time() - path.stat().st_mtime < SWEEP_AFTER_S:
                continue
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            removed += 1
    return removed


def _make(size: int) -> Region:
    name = f"{PREFIX}{os.getpid()}-{uuid.uuid4().hex[:12]}"
    path = FOLDER / name
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Reserved now: writing to a region that the file system has no room for would end the process.
        os.posix_fallocate(descriptor, 0, size)
        region = Region(name, size, descriptor, mmap.mmap(descriptor, size))
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    weakref.finalize(region, _remove, path, os.getpid())
    return region


def _remove(path: Path, maker: int) -> None:
    if os.getpid() == maker:
        path.unlink(missing_ok=True)
