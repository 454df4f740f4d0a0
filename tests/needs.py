"""What a test needs and a machine may lack: a visible skip on a laptop, a failure where ITS_REQUIRE_SERVICES=1."""

from __future__ import annotations

import os
import shutil
from glob import glob

import pytest

from its_platform.settings import Settings

STORES = "a server of the services profile (apt-get install postgresql redis-server; make services)"
PROMETHEUS = "Prometheus or Alertmanager (apt-get install prometheus prometheus-alertmanager)"


def need(is_there: bool, what: str) -> None:
    if is_there:
        return
    if is_required():
        pytest.fail(f"{what} is required here and missing")
    pytest.skip(f"{what} is missing")


def is_required() -> bool:
    """Whether what is missing is a failure here."""
    return os.environ.get("ITS_REQUIRE_SERVICES") == "1"


def need_stores(settings: Settings) -> None:
    """The servers that the services profile starts."""
    need(has_stores(settings), STORES)


def need_prometheus() -> None:
    """The servers of figures and alerts that the services profile starts."""
    need(has_prometheus(), PROMETHEUS)


def has_stores(settings: Settings) -> bool:
    return (
        bool(glob("/usr/lib/postgresql/*/bin/pg_ctl") or shutil.which("pg_ctl"))
        and shutil.which("redis-server") is not None
        and (settings.environments / "services" / "bin" / "weed").is_file()
    )


def has_prometheus() -> bool:
    return all(shutil.which(name) is not None for name in ("prometheus", "promtool")) and any(
        shutil.which(name) is not None for name in ("prometheus-alertmanager", "alertmanager")
    )
