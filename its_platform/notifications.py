"""Tells people what the platform decided: a JSON object to a webhook, to a command, or to nobody, which is the default.

Enters: an `Event`. Leaves: a request and a process, in a thread of their own: whoever tells never waits, and a listener
that is away keeps nothing from happening. That somebody was told, or could not be, is logged and kept in the table
`decisions`. The webhook's address may hold a secret; only its host is ever shown.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from its_platform.settings import NotificationSettings
from its_platform.telemetry import get_log

if TYPE_CHECKING:
    from its_platform.stores import Stores

Kind = Literal["training", "refusal", "rollback", "canary", "alert"]
TOLD, NOT_TOLD = "told", "not_told"
LOG = get_log(__name__)


@dataclass(frozen=True)
class Event:
    """What happened, in one sentence and in facts that JSON can hold."""

    kind: Kind
    summary: str
    facts: dict[str, Any] = field(default_factory=dict)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def as_json(self) -> bytes:
        """`{"kind", "at", "text", "facts"}`; `text` is what chat services show."""
        return json.dumps(
            {"kind": self.kind, "at": self.at.isoformat(), "text": self.summary, "facts": self.facts}
        ).encode()


def addressees(settings: NotificationSettings) -> list[str]:
    """Who is told, without secrets; empty for nobody."""
    webhook = [f"The webhook at {_host(settings.webhook)}"] if settings.webhook else []
    return webhook + ([f"The command {settings.command[0]}"] if settings.command else [])


def tell(stores: Stores, event: Event) -> threading.Thread | None:
    """Tell whoever the settings name; the thread that does it, None where nobody is to be told.

    Never raises and never waits. The thread ends within twice `timeout_s`; a process that ends waits for it.
    """
    settings = stores.settings.notifications
    if event.kind not in settings.events or not addressees(settings):
        return None
    thread = threading.Thread(target=deliver, args=(stores, event), name=f"tell {event.kind}")
    thread.start()
    return thread


def deliver(stores: Stores, event: Event, is_tried_again: bool = False) -> list[str]:
    """The same, and wait for it; what went wrong, a line for each that was not told. Never raises.

    is_tried_again: a failure is then only logged, or each try would leave a row.
    """
    settings = stores.settings.notifications
    if event.kind not in settings.events:
        return []
    ways: list[tuple[str, Callable[[], None]]] = []
    if settings.webhook is not None:
        address = settings.webhook
        ways.append((f"webhook {_host(address)}", lambda: _post(address, event, settings.timeout_s)))
    if settings.command:
        ways.append((f"command {settings.command[0]}", lambda: _run(settings.command, event, settings.timeout_s)))
    problems = []
    for way, send in ways:
        problem = _problem_of(send)
        if problem:
            problems.append(f"{way}: {problem}")
            LOG.warning("was not told", way=way, kind=event.kind, reason=problem)
        if not (problem and is_tried_again):
            _record(stores, event, way, problem)
    return problems


def _problem_of(send: Callable[[], None]) -> str:
    """What went wrong, in a line; empty when nothing did."""
    try:
        send()
    except subprocess.CalledProcessError as error:
        last = (error.stderr or b"").decode(errors="replace").strip().splitlines()[-1:]
        return f"it ended with {error.returncode}" + (f": {last[0][:200]}" if last else "")
    except subprocess.TimeoutExpired as error:
        return f"it took longer than {error.timeout:g} s"
    except (OSError, ValueError, http.client.HTTPException) as error:
        # An address in a message would tell its secret; the kinds of error that are met here speak for themselves.
        return f"{type(error).__name__}{_reason(error)}"
    return ""


def _post(address: str, event: Event, timeout_s: float) -> None:
    request = urllib.request.Request(
        address, data=event.as_json(), headers={"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=timeout_s) as answer:
        answer.read(1024)


def _run(command: tuple[str, ...], event: Event, timeout_s: float) -> None:
    subprocess.run(list(command), input=event.as_json(), capture_output=True, timeout=timeout_s, check=True)


def _record(stores: Stores, event: Event, way: str, problem: str) -> None:
    import sqlalchemy as sa

    from its_platform.errors import ItsError
    from its_platform.stores.schema import DecisionRow

    said = f"{way} was told: {event.summary}" if not problem else f"{way} was not told ({problem}): {event.summary}"
    row = DecisionRow(
        action=NOT_TOLD if problem else TOLD, reasons=[said], numbers={"event": event.kind, "facts": event.facts}
    )
    try:
        with stores.database.session() as session:
            session.add(row)
    except (sa.exc.SQLAlchemyError, ItsError) as error:
        LOG.warning("could not be recorded", said=said, reason=str(error))


def _host(address: str) -> str:
    return urlsplit(address).hostname or "an unnamed host"


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f": the answer was {error.code}"
    if isinstance(error, urllib.error.URLError):
        return f": {error.reason}"
    return ""
