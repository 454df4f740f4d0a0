"""The exporter as a process: `python -m its_platform.metrics`, started by `its up` in the services profile."""

from __future__ import annotations

import signal
import threading
from functools import partial
from types import FrameType

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from its_platform.metrics import machine
from its_platform.metrics.alerts import tell_of_alerts
from its_platform.metrics.collecting import PlatformCollector as Collected
from its_platform.metrics.collecting import Read, Seldom
from its_platform.metrics.rows import Rows
from its_platform.metrics.serving import FiguresServer
from its_platform.settings import Settings, load_settings
from its_platform.telemetry import configure_logs, silence_tools

# Of the time that Prometheus waits.
SHARE_OF_SCRAPE = 0.8
BACKUPS_EVERY_S = 300.0


def reads_of(settings: Settings) -> dict[str, Read]:
    """Everything that is read, by the name under which its errors are counted."""
    rows = Rows(settings)
    return {
        "parts": partial(machine.parts, settings),
        "stores": partial(machine.stores, settings, rows.ask),
        "disks": partial(machine.room, settings),
        "certificates": partial(machine.certificates, settings),
        "front": partial(machine.front, settings),
        "backups": Seldom(partial(machine.backups, settings), BACKUPS_EVERY_S),
        "cameras": rows.cameras,
        "releases": rows.releases,
        "drift": rows.drift,
        "runs": rows.runs,
    }


def main() -> None:
    """Answer until a signal says to stop."""
    silence_tools()
    configure_logs("metrics")
    settings = load_settings()
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    within_s = SHARE_OF_SCRAPE * min(settings.metrics.interval_s, 10)
    collected = Collected(reads_of(settings), within_s)
    collected.warm_up()
    registry.register(collected)
    server = FiguresServer(settings, registry, partial(tell_of_alerts, settings))

    def end(number: int, frame: FrameType | None) -> None:
        # From another thread: it waits for the loop, which this one is in.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server.serve_forever()


if __name__ == "__main__":
    main()
