"""From Alertmanager's words to the platform's own way of telling people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from its_platform.errors import BadInput
from its_platform.notifications import Event, deliver
from its_platform.settings import Settings
from its_platform.stores import open_stores
from its_platform.telemetry import get_log

LOG = get_log(__name__)


def tell_of_alerts(settings: Settings, told: Any) -> bool:
    """Hand each alert of a message on, as an event; whether everybody who is to be told was.

    Where nobody is to be told the log and Alertmanager's page have them, and that is all that was asked for.
    """
    try:
        events = [event_of(alert) for alert in told["alerts"]]
    except (KeyError, TypeError, ValueError, BadInput) as error:
        LOG.error("alerts cannot be read", reason=repr(error))
        return True
    stores = open_stores(settings)
    for event in events:
        LOG.warning("alert", said=event.summary, labels=event.facts["labels"])
    return not [problem for event in events for problem in deliver(stores, event, is_tried_again=True)]


def event_of(alert: dict[str, Any]) -> Event:
    """One alert as an event. Raises `KeyError` or `ValueError` for what is none."""
    labels, notes = dict(alert["labels"]), dict(alert.get("annotations") or {})
    said = str(notes.get("summary") or labels["alertname"])
    is_over = alert["status"] == "resolved"
    at = datetime.fromisoformat(str(alert["endsAt" if is_over else "startsAt"]).replace("Z", "+00:00"))
    facts = {
        "alert": labels["alertname"],
        "state": alert["status"],
        "labels": labels,
        "to_do": notes.get("description"),
    }
    return Event("alert", f"Over: {said}" if is_over else said, facts, at)
