"""What Alertmanager says becomes an event of the platform's, told as any other."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from its_platform.metrics.alerts import event_of, tell_of_alerts
from its_platform.settings import Settings
from its_platform.stores import Stores

ALERT: dict[str, Any] = {
    "status": "firing",
    "labels": {"alertname": "PartDown", "part": "redis", "severity": "critical"},
    "annotations": {"summary": "redis does not answer.", "description": "Read log/redis.log."},
    "startsAt": "2026-05-01T08:00:00.5Z",
    "endsAt": "0001-01-01T00:00:00Z",
}


def telling(stores: Stores, *command: str) -> Settings:
    told = stores.settings.notifications.model_copy(update={"command": command})
    return stores.settings.model_copy(update={"notifications": told})


def test_an_alert_is_told_with_what_to_do() -> None:
    event = event_of(ALERT)
    assert (event.kind, event.summary) == ("alert", "redis does not answer.")
    assert event.at == datetime(2026, 5, 1, 8, 0, 0, 500_000, tzinfo=UTC)
    assert event.facts["to_do"] == "Read log/redis.log."
    over = event_of({**ALERT, "status": "resolved", "endsAt": "2026-05-01T09:00:00Z"})
    assert (over.summary, over.at.hour) == ("Over: redis does not answer.", 9)


def test_a_command_is_told(stores: Stores, tmp_path: Path) -> None:
    heard = tmp_path / "heard.json"
    assert tell_of_alerts(telling(stores, "tee", str(heard)), {"alerts": [ALERT]})
    assert json.loads(heard.read_text())["facts"]["labels"]["part"] == "redis"


def test_what_was_not_told_is_said_so_that_it_is_tried_again(stores: Stores) -> None:
    assert not tell_of_alerts(telling(stores, "false"), {"alerts": [ALERT]})


def test_what_is_no_alert_is_not_asked_for_again(stores: Stores) -> None:
    assert tell_of_alerts(telling(stores, "false"), {"alerts": [{"status": "firing"}]})
    assert tell_of_alerts(telling(stores, "false"), [])
