"""A network between the platform and one of its servers that can be made to stall or drop.

`behind_relay` moves a running server of the services profile to another address of this machine and stands in its
place: whoever asks the server goes through a `Relay`, which passes the bytes on, keeps them, or resets connections.
"""

from __future__ import annotations

import asyncio
import shlex
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from its_platform.private_files import alone
from its_platform.serving.processes import free_ports
from its_platform.settings import Settings
from its_platform.stack import restart_part
from its_platform.stores import postgres

# All of 127.0.0.0/8 is this machine. PostgreSQL finds itself by its port, and SeaweedFS listens on 127.0.0.1 as well.
ELSEWHERE = "127.0.0.2"
Address = tuple[str, int]
CHUNK = 65_536
# A socket that is closed so tells the other side by a reset, and not by the end of a stream.
_RESET = struct.pack("ii", 1, 0)


class Relay:
    """Passes TCP connections to one address on to another, in a thread of its own."""

    def __init__(self, here: Address, there: Address) -> None:
        self._there = there
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        self._is_cut = False
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._connected, *here))

    def stall(self) -> None:
        """Keep every byte from now on; connections stay open, and new ones are taken."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def cut(self) -> None:
        """Reset every connection, and each new one."""
        self._loop.call_soon_threadsafe(self._cut)

    def mend(self) -> None:
        """Pass on what was kept, and everything from now on."""
        self._is_cut = False
        self._loop.call_soon_threadsafe(self._flows.set)

    def close(self) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        self._cut()
        self._flows.set()
        while self._open:
            await asyncio.sleep(0.05)
        # A socket is closed in a later turn of the loop than its transport.
        await asyncio.sleep(0.05)

    def _run(self, work):  # type: ignore[no-untyped-def]
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _cut(self) -> None:
        self._is_cut = True
        for writer in list(self._open):
            _reset(writer)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            _reset(writer)
            return
        self._open.add(writer)
        try:
            there = await asyncio.open_connection(*self._there)
        except OSError:
            # As if nothing listened: the server is being started again.
            self._open.discard(writer)
            _reset(writer)
            return
        self._open.add(there[1])
        if self._is_cut:
            self._cut()
        try:
            await asyncio.gather(self._pass_on(reader, there[1]), self._pass_on(there[0], writer))
        finally:
            for one in (writer, there[1]):
                one.close()
                self._open.discard(one)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK):
                await self._flows.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            _reset(sink)
        else:
            sink.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    plain = writer.get_extra_info("socket")
    if plain is not None and plain.fileno() >= 0:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@contextmanager
def behind_relay(settings: Settings, part: str) -> Iterator[Relay]:
    """Have a server of the stack (`postgres`, `objects`) be reached through a relay while the block runs."""
    here = (settings.host, getattr(settings.ports, part))
    there = (ELSEWHERE, here[1]) if part == "postgres" else (settings.host, free_ports(1)[0])
    move = _move_postgres if part == "postgres" else _move_objects
    move(settings, there)
    relay = Relay(here, there)
    try:
        yield relay
    finally:
        relay.close()
        move(settings, here)


def _move_objects(settings: Settings, to: Address) -> None:
    moved = settings.model_copy(update={"ports": settings.ports.model_copy(update={"objects": to[1]})})
    restart_part(moved, "objects")


def _move_postgres(settings: Settings, to: Address) -> None:
    data = postgres.data_folder(settings)
    program, *_ = words = shlex.split((data / "postmaster.opts").read_text("utf-8"))
    given = iter(words[1:])
    options = [next(given) for word in given if word == "-c"]
    moved = [option for option in options if not option.startswith("listen_addresses=")] + [f"listen_addresses={to[0]}"]
    owner = data.owner()
    # Whoever finds no server meanwhile waits to start one, and then finds it.
    with alone(settings.home / "postgres.lock"):
        subprocess.run(
            [
                program.removesuffix("postgres") + "pg_ctl", "-D", str(data), "-w", "-m", "fast",
                "-l", str(postgres.log_file(settings)), "-o", " ".join(f"-c {shlex.quote(option)}" for option in moved),
                "restart",
            ],
            user=owner, group=owner, extra_groups=[], cwd="/", check=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
