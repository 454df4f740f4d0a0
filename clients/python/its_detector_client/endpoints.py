"""Which of several Tritons is asked next: balancing, and a circuit breaker for each.

Enters: what came of earlier requests. Leaves: the endpoint to ask, or none. Connections and clocks are handed in.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from its_detector_client.regions import Regions

FAILURES_TO_OPEN = 5
PAUSE_S = 1.0
MOST_UNANSWERED = 32


@dataclass
class Breaker:
    """Opens after so many failures in a row; then one request every `pause_s` is let through, until one succeeds."""

    failures_to_open: int = FAILURES_TO_OPEN
    pause_s: float = PAUSE_S
    failures: int = 0
    retry_at_s: float = 0.0

    @property
    def is_open(self) -> bool:
        return self.failures >= self.failures_to_open

    def permits(self, now_s: float) -> bool:
        return not self.is_open or now_s >= self.retry_at_s

    def begin(self, now_s: float) -> None:
        """A request starts. While the breaker is open, the next one waits a pause longer."""
        if self.is_open:
            self.retry_at_s = now_s + self.pause_s

    def succeed(self) -> None:
        self.failures = 0

    def fail(self, now_s: float) -> None:
        self.failures += 1
        if self.is_open:
            self.retry_at_s = now_s + self.pause_s


@dataclass(eq=False)
class Endpoint:
    """One Triton: its address, its connection once there is one, and how it fares.

    A request takes one of the `slots` until it ends.
    """

    address: str
    breaker: Breaker = field(default_factory=Breaker)
    regions: Regions | None = None
    channel: Any = None
    under_way: int = 0
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_UNANSWERED))


class Balancer:
    """Hands out the endpoint with the fewest requests under way; among equals they take turns."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self._turn = 0

    def pick(self, now_s: float, avoid: Collection[Endpoint] = ()) -> Endpoint | None:
        """The endpoint to ask, or None where each is avoided or rests."""
        count = len(self.endpoints)
        turns = [self.endpoints[(self._turn + number) % count] for number in range(count)]
        free = [one for one in turns if one not in avoid and one.breaker.permits(now_s)]
        if not free:
            return None
        chosen = min(free, key=lambda one: one.under_way)
        self._turn = self.endpoints.index(chosen) + 1
        chosen.breaker.begin(now_s)
        return chosen

    def may_pick(self, now_s: float, avoid: Collection[Endpoint]) -> int:
        """How many endpoints could be asked now."""
        return sum(one not in avoid and one.breaker.permits(now_s) for one in self.endpoints)


def is_local(address: str) -> bool:
    """Whether an address is of this machine: a Unix socket, a loopback address, `localhost`."""
    if address.startswith("unix:"):
        return True
    host = address.rsplit(":", 1)[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
