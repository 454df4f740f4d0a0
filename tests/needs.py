"""What a test needs and a machine may lack: a visible skip on a laptop, a failure where ITS_REQUIRE_SERVICES=1."""

from __future__ import annotations

import os
import shutil
from glob import glob

import pytest

from its_platform.settings import Settings


def need(is_there: bool, what: str) -> None:
    if is_there:
        return
    if os.environ.get("ITS_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{what} is required here and missing")
    pytest.skip(f"{what} is missing")


def need_stores(settings: Settings) -> None:
    """The servers that the services profile starts."""
    need(
        bool(glob("/usr/lib/postgresql/*/bin/pg_ctl") or shutil.which("pg_ctl"))
        and shutil.which("redis-server") is not None
        and (settings.environments / "services" / "bin" / "weed").is_file(),
        "a server of the services profile (apt-get install postgresql redis-server; make services)",
    )


def need_prometheus() -> None:
    """The servers of figures and alerts that the services profile starts."""
    need(
        all(shutil.which(name) is not None for name in ("prometheus", "promtool"))
        and any(shutil.which(name) is not None for name in ("prometheus-alertmanager", "alertmanager")),
        "Prometheus or Alertmanager (apt-get install prometheus prometheus-alertmanager)",
    )
