"""Ports for the servers that tests start."""

from __future__ import annotations

import random
import socket


def free_port_range(count: int) -> int:
    """The first of so many TCP ports on 127.0.0.1 in a row that nobody listens on."""
    while True:
        first = random.randrange(20_000, 32_000 - count)
        sockets = [socket.socket() for _ in range(count)]
        try:
            for offset, one in enumerate(sockets):
                one.bind(("127.0.0.1", first + offset))
            return first
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
