"""Which version of its program each running server is, as the server itself says where it can be asked.

Enters: settings, and the name of a part that answers. Leaves: a version in text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from its_platform.alerting.alertmanager import alertmanager_version
from its_platform.alerting.prometheus import prometheus_version
from its_platform.errors import ItsError
from its_platform.pages import ask_page
from its_platform.settings import Settings
from its_platform.stores.cache_server import redis_version
from its_platform.stores.object_server import object_server_version

WITHIN_S = 5.0


def _triton(settings: Settings) -> str:
    from its_platform.serving.client import with_client

    async def asked(client: Any) -> str:
        found = await client.call(
            lambda channel, left_s: channel.get_server_metadata(client_timeout=left_s), is_repeatable=True
        )
        return str(found.version)

    return with_client(settings, asked, WITHIN_S)


def _mlflow(settings: Settings) -> str:
    return ask_page(settings, settings.ports.mlflow, "/version").decode().strip()


def _evidently(settings: Settings) -> str:
    return str(json.loads(ask_page(settings, settings.ports.evidently, "/api/version"))["version"])


def _dagster(settings: Settings) -> str:
    return str(json.loads(ask_page(settings, settings.ports.dagster, "/server_info"))["dagster_webserver_version"])


_ASKED: dict[str, Callable[[Settings], str]] = {
    "objects": object_server_version,
    "redis": redis_version,
    "triton": _triton,
    "mlflow": _mlflow,
    "evidently": _evidently,
    "dagster": _dagster,
    "prometheus": prometheus_version,
    "alertmanager": alertmanager_version,
}
# Asked by nobody, they are what is installed.
_PACKAGES = {"dagster-code": "dagster", "dagster-daemon": "dagster"}


def running_version(settings: Settings, part: str) -> str | None:
    """The version of a part that answers; None where it does not say. settings: the part's own."""
    ask = _ASKED.get("triton" if part.startswith("triton") else part)
    if ask is None:
        return version(_PACKAGES.get(part, "its-platform"))
    try:
        return ask(settings)
    except (ItsError, OSError, ValueError, KeyError):
        return None
