"""Alertmanager: what becomes of an alert. It gathers what belongs together and hands it to the platform's exporter.

The exporter tells people as the platform tells of everything else (`notifications`): a webhook, a command, or nobody.
So no address with a secret in it stands in a file of Alertmanager's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from its_platform.alerting.access import ask, shown_by_clients, write_web_configuration, write_yaml
from its_platform.processes import installed_server, process_environment
from its_platform.settings import Settings

PAGE = Path(__file__).with_name("page")
# Debian's build has no page of its own and takes a folder with one; upstream's brings its page and knows no such word.
DEBIAN_PROGRAM = "prometheus-alertmanager"
ALERTS_PATH = "/alerts"


def alertmanager_program() -> str:
    """Where it is installed. Raises `BadInput` where it is not, or too old for TLS."""
    return installed_server(
        "Alertmanager", "0.22", [DEBIAN_PROGRAM, "alertmanager"], "do without alerts: ITS_METRICS__PROMETHEUS=false"
    )


def alertmanager_command(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """The words and the environment that start it. Raises `BadInput` where there is none to start."""
    program = alertmanager_program()
    folder = settings.services.absolute() / "alertmanager"
    address = f"{settings.host}:{settings.ports.alertmanager}"
    options = {
        "config.file": write_yaml(folder / "alertmanager.yml", configuration(settings)),
        "web.config.file": write_web_configuration(settings, folder),
        "web.listen-address": address,
        "web.external-url": f"https://{address}/",
        "storage.path": folder / "data",
        # One of them, which talks to no other.
        "cluster.listen-address": "",
        "log.format": "json",
    }
    if Path(program).name == DEBIAN_PROGRAM:
        options["web.ui-path"] = f"{PAGE}/"
    return [program, *(f"--{name}={value}" for name, value in options.items())], process_environment(settings)


def configuration(settings: Settings) -> dict[str, Any]:
    """What `alertmanager.yml` says."""
    metrics = settings.metrics
    webhook = {
        "url": f"https://{settings.host}:{settings.ports.metrics}{ALERTS_PATH}",
        "send_resolved": True,
        "http_config": {"tls_config": shown_by_clients(settings)},
    }
    return {
        "route": {
            "receiver": "its",
            "group_by": ["alertname"],
            "group_wait": f"{metrics.gather_s}s",
            "group_interval": f"{max(metrics.gather_s, 10)}s",
            "repeat_interval": f"{metrics.repeat_hours}h",
        },
        "receivers": [{"name": "its", "webhook_configs": [webhook]}],
    }


def is_alertmanager_well(settings: Settings) -> bool:
    """Whether it answers with its configuration. Raises `OSError` where it is away."""
    return bool(_asked(settings, "/api/v2/status")["config"]["original"])


def alertmanager_version(settings: Settings) -> str:
    """The version that runs. Raises `OSError` where none does."""
    return str(_asked(settings, "/api/v2/status")["versionInfo"]["version"])


def alerts(settings: Settings) -> list[dict[str, Any]]:
    """The alerts that it knows of, silenced ones too. Raises `OSError`."""
    found: list[dict[str, Any]] = _asked(settings, "/api/v2/alerts")
    return found


def _asked(settings: Settings, path: str) -> Any:
    return json.loads(ask(settings, settings.ports.alertmanager, path))
