"""Prometheus: what it measures, how often, how long it keeps that, and which rules it asks.

Enters: settings. Leaves: its command line, its configuration below `home/services/prometheus`, and answers from it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from its_platform.alerting.access import (
    ask,
    reached_by_password,
    shown_by_clients,
    write_web_configuration,
    write_yaml,
)
from its_platform.processes import installed_server, process_environment
from its_platform.settings import Settings

RULES = Path(__file__).with_name("rules")
# A scrape that asks every part has to end before the next one begins.
LONGEST_SCRAPE_S = 10


def prometheus_program() -> str:
    """Where it is installed. Raises `BadInput` where it is not, or too old for TLS."""
    return installed_server(
        "Prometheus", "2.24", ["prometheus"], "do without it and its alerts: ITS_METRICS__PROMETHEUS=false"
    )


def prometheus_command(settings: Settings) -> tuple[list[str], dict[str, str]]:
    """The words and the environment that start it. Raises `BadInput` where there is none to start."""
    program = prometheus_program()
    folder = settings.services.absolute() / "prometheus"
    address = f"{settings.host}:{settings.ports.prometheus}"
    options = {
        "config.file": write_yaml(folder / "prometheus.yml", configuration(settings)),
        "web.config.file": write_web_configuration(settings, folder),
        "web.listen-address": address,
        "web.external-url": f"https://{address}/",
        "web.page-title": "its-platform",
        "storage.tsdb.path": folder / "data",
        "storage.tsdb.retention.time": f"{settings.metrics.retention_days}d",
        "storage.tsdb.retention.size": f"{settings.metrics.retention_mb}MB",
        "log.format": "json",
    }
    return [program, *(f"--{name}={value}" for name, value in options.items())], process_environment(settings)


def configuration(settings: Settings) -> dict[str, Any]:
    """What `prometheus.yml` says; it names files with secrets and holds none."""
    ports, every = settings.ports, f"{settings.metrics.interval_s}s"
    by_password = reached_by_password(settings)
    by_certificate = {"scheme": "https", "tls_config": shown_by_clients(settings)}
    return {
        "global": {
            "scrape_interval": every,
            "evaluation_interval": every,
            "scrape_timeout": f"{min(settings.metrics.interval_s, LONGEST_SCRAPE_S)}s",
        },
        "rule_files": [str(RULES / "*.yaml")],
        "alerting": {
            "alertmanagers": [{**by_password, "static_configs": [_targets(settings, ports.alertmanager)]}],
        },
        "scrape_configs": [
            {"job_name": "its", **by_certificate, "static_configs": [_targets(settings, ports.metrics)]},
            # Its figures have no TLS and never leave this machine: the exporter passes them on.
            {"job_name": "triton", **by_certificate, "static_configs": _tritons(settings)},
            {"job_name": "prometheus", **by_password, "static_configs": [_targets(settings, ports.prometheus)]},
            {"job_name": "alertmanager", **by_password, "static_configs": [_targets(settings, ports.alertmanager)]},
        ],
    }


def is_prometheus_well(settings: Settings) -> bool:
    """Whether it answers a question to its database. Raises `OSError` where it is away."""
    return query(settings, "vector(1)") != []


def prometheus_version(settings: Settings) -> str:
    """The version that runs. Raises `OSError` where none does."""
    return str(_asked(settings, "/api/v1/status/buildinfo")["version"])


def query(settings: Settings, expression: str) -> list[dict[str, Any]]:
    """The series that an expression has now: `[{"metric": {label: value}, "value": [time, text]}]`.

    Raises `OSError` where Prometheus is away or refuses the expression.
    """
    found: list[dict[str, Any]] = _asked(settings, f"/api/v1/query?{urlencode({'query': expression})}")["result"]
    return found


def alerts(settings: Settings) -> list[dict[str, Any]]:
    """The alerts that are pending or firing. Raises `OSError`."""
    found: list[dict[str, Any]] = _asked(settings, "/api/v1/alerts")["alerts"]
    return found


def _asked(settings: Settings, path: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(ask(settings, settings.ports.prometheus, path))["data"]
    return data


def _targets(settings: Settings, port: int) -> dict[str, Any]:
    return {"targets": [f"{settings.host}:{port}"]}


def _tritons(settings: Settings) -> list[dict[str, Any]]:
    from its_platform.serving.replicas import figures_ports

    return [
        {**_targets(settings, settings.ports.metrics), "labels": {"part": part, "__metrics_path__": f"/{part}"}}
        for part in figures_ports(settings)
    ]
