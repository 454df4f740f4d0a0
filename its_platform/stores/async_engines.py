"""Connections to the database `its` for programs that wait for many things at once: a pool an event loop.

The driver is psycopg 3, which takes the same words as that of `database.py` (both are libpq): sockets, `sslmode`,
`sslrootcert` and the password mean the same. Servers are started, databases made and tables migrated by the other one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import psycopg
import psycopg2
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

T = TypeVar("T")
# A connection belongs to the loop that it was opened in.
_engines: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, AsyncEngine]] = WeakKeyDictionary()


def async_engine(address: URL, words: dict[str, Any], connect: Callable[[], Any]) -> AsyncEngine:
    """The engine of the running loop for an address, made when it is first asked for.

    words: what libpq is to be told. connect: opens a connection of the other driver, and does all that one may need.
    """
    here = _engines.setdefault(asyncio.get_running_loop(), {})
    key = address.render_as_string(hide_password=False)
    if key not in here:
        here[key] = create_async_engine(
            address.set(drivername="postgresql+psycopg_async"),
            async_creator=_creator(words, connect),
            pool_pre_ping=True,
            pool_size=4,
            max_overflow=16,
            pool_recycle=1800,
        )
    return here[key]


async def closing(work: Awaitable[T]) -> T:
    """Wait for some work, then close every pooled connection of this loop, which is about to end."""
    try:
        return await work
    finally:
        for engine in _engines.pop(asyncio.get_running_loop(), {}).values():
            await engine.dispose()


def _creator(words: dict[str, Any], connect: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    async def open_connection() -> Any:
        # None: a pooler between here and the server does not know what was prepared on another connection.
        async def open_now() -> Any:
            return await psycopg.AsyncConnection.connect(**words, prepare_threshold=None)

        try:
            return await open_now()
        except psycopg.OperationalError:
            # Not there, or not yet: the other driver's way starts, makes and waits, or says what is wrong.
            try:
                (await asyncio.to_thread(connect)).close()
            except psycopg2.OperationalError as error:
                raise psycopg.OperationalError(str(error)) from error
            return await open_now()

    return open_connection
