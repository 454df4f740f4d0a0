"""Who is to be told is told, by a real request and a real process; a listener that is away holds nothing up."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from its_platform.notifications import Event, tell
from its_platform.release import verdicts
from its_platform.retraining import Decision, list_told, record_decision
from its_platform.serving.processes import free_ports
from its_platform.settings import NotificationSettings
from its_platform.stores import Stores

EVENT = Event("rollback", "Version 1 is back: it misses buses", {"version": 1})


class Listener(BaseHTTPRequestHandler):
    """Keeps what is posted in `server.got` and answers `server.status`, once `server.may_answer` is set."""

    server: Any

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.may_answer.wait(20)
        self.server.got.append((self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    server.got, server.status, server.may_answer = [], 200, threading.Event()
    server.may_answer.set()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def telling(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stores]:
    """Stores whose settings tell somebody."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def made(**told: object) -> Stores:
        settings = stores.settings.model_copy(update={"notifications": NotificationSettings(**told)})
        return replace(stores, settings=settings)

    return made


def hook(server: Any) -> str:
    return f"http://127.0.0.1:{server.server_port}/hooks/s3cr3t"


def told(thread: threading.Thread | None) -> None:
    assert thread is not None
    thread.join(20)
    assert not thread.is_alive()


def test_nobody_is_told_unless_somebody_is_named(telling: Callable[..., Stores]) -> None:
    assert tell(telling(), EVENT) is None


def test_a_webhook_gets_the_event_as_json_and_that_is_recorded(telling: Callable[..., Stores], listener: Any) -> None:
    stores = telling(webhook=hook(listener))
    told(tell(stores, EVENT))
    ((content_type, body),) = listener.got
    assert content_type == "application/json"
    assert body == {
        "kind": "rollback",
        "at": EVENT.at.isoformat(),
        "text": EVENT.summary,
        "facts": {"version": 1},
    }
    (row,) = list_told(stores)
    assert (row["action"], row["numbers"]["event"]) == ("told", "rollback")


def test_a_command_gets_the_event_on_its_input(telling: Callable[..., Stores], tmp_path: Path) -> None:
    out = tmp_path / "got.json"
    write = f"import pathlib, sys; pathlib.Path({str(out)!r}).write_text(sys.stdin.read())"
    told(tell(telling(command=(sys.executable, "-c", write)), EVENT))
    assert json.loads(out.read_text())["facts"] == {"version": 1}


def test_what_nobody_asked_for_is_not_told(telling: Callable[..., Stores], listener: Any) -> None:
    assert tell(telling(webhook=hook(listener), events=("training",)), EVENT) is None


def test_a_webhook_that_is_away_or_refuses_is_recorded_without_its_secret(
    telling: Callable[..., Stores], listener: Any, caplog: pytest.LogCaptureFixture
) -> None:
    listener.status = 500
    stores = telling(webhook=hook(listener))
    told(tell(stores, EVENT))
    away = telling(webhook=f"http://127.0.0.1:{free_ports(1)[0]}/hooks/s3cr3t")
    told(tell(away, EVENT))
    rows = list_told(stores)
    assert [row["action"] for row in rows] == ["not_told", "not_told"]
    assert "the answer was 500" in rows[1]["reasons"][0]
    assert "refused" in rows[0]["reasons"][0]
    assert "s3cr3t" not in json.dumps([row["reasons"] for row in rows]) + caplog.text
    assert "was not told" in caplog.text


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ((sys.executable, "-c", "raise SystemExit('no pager here')"), "ended with 1: no pager here"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), "took longer than 1 s"),
        (("/no/such/program",), "FileNotFoundError"),
    ],
)
def test_a_command_that_fails_is_recorded(telling: Callable[..., Stores], command: tuple[str, ...], said: str) -> None:
    stores = telling(command=command, timeout_s=1.0)
    told(tell(stores, EVENT))
    (row,) = list_told(stores)
    assert row["action"] == "not_told"
    assert said in row["reasons"][0]


def test_a_slow_listener_does_not_hold_up_the_decision(telling: Callable[..., Stores], listener: Any) -> None:
    listener.may_answer.clear()
    stores = telling(webhook=hook(listener), timeout_s=20.0)
    assert record_decision(stores, Decision("retrain", ["It drifted."], {"served_version": 1}, key="k"))
    assert list_told(stores) == [], "the decision is kept while the listener still thinks"
    listener.may_answer.set()
    until(lambda: bool(list_told(stores)))
    ((_, body),) = listener.got
    assert (body["kind"], body["text"]) == ("training", "retrain: It drifted.")


def test_the_same_decision_is_told_once(telling: Callable[..., Stores], listener: Any) -> None:
    stores = telling(webhook=hook(listener))
    for _ in range(2):
        record_decision(stores, Decision("retrain", ["It drifted."], {"served_version": 1}, key="k"))
    record_decision(stores, Decision("wait", ["A training is under way."]))
    until(lambda: bool(list_told(stores)))
    assert len(listener.got) == 1


def test_a_refusal_is_told(telling: Callable[..., Stores], listener: Any) -> None:
    stores = telling(webhook=hook(listener))
    verdicts.record_event(stores, verdicts.REFUSED, "production", 3, "accuracy_floor failed")
    verdicts.record_event(stores, verdicts.ASKED, "production", 3, "please")
    until(lambda: bool(list_told(stores)))
    assert [body["text"] for _, body in listener.got] == ["Version 3 does not go to production: accuracy_floor failed"]


def until(is_so: Callable[[], bool], within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)
