"""The project as the library of Docker Compose reads it, and the configurations as their own tools do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from compose_check import compose_check
from deployed import COMPOSE
from its_platform.alerting.prometheus import RULES
from needs import need_prometheus


def _run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.slow
def test_compose_reads_the_project(project: dict[str, Any]) -> None:
    done = _run(compose_check(), COMPOSE / "compose.yaml", ITS_UID="1000", ITS_GID="1000")
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)
    assert read["services"].keys() == project["services"].keys()
    for name, service in read["services"].items():
        assert service["user"] == ("0:0" if name == "volumes" else "1000:1000")
        assert int(service["mem_limit"]) >= 64 << 20
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", []))
    assert read["services"]["metrics"]["environment"]["ITS_HOST"] == "0.0.0.0"
    assert read["services"]["metrics"]["environment"]["ITS_PROFILE"] == "services"


def test_a_machine_without_go_checks_nothing_and_says_so_where_all_is_required(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("ITS_REQUIRE_SERVICES", "1")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(pytest.fail.Exception, match="Go, which builds the check of Compose files"):
        compose_check()


@pytest.mark.slow
def test_compose_says_what_is_missing() -> None:
    done = _run(compose_check(), COMPOSE / "compose.yaml")
    assert done.returncode == 1
    assert "draw the secrets first" in done.stderr


def _here(configuration: Path, drawn: Path, to: Path) -> Path:
    """A configuration with the folders of this machine in place of a container's."""
    text = configuration.read_text().replace("/run/secrets", str(drawn / "secrets"))
    to.write_text(text.replace("/etc/its-rules", str(RULES)))
    return to


@pytest.mark.services
def test_prometheus_and_alertmanager_take_their_configurations(drawn: Path, tmp_path: Path) -> None:
    need_prometheus()
    written = _here(COMPOSE / "prometheus" / "prometheus.yml", drawn, tmp_path / "prometheus.yml")
    done = _run("promtool", "check", "config", written)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout
    web = _here(drawn / "secrets" / "web.yml", drawn, tmp_path / "web.yml")
    assert _run("promtool", "check", "web-config", web).returncode == 0
    if shutil.which("amtool"):
        told = _here(COMPOSE / "alertmanager" / "alertmanager.yml", drawn, tmp_path / "alertmanager.yml")
        assert _run("amtool", "check-config", told).returncode == 0


def test_the_exporter_and_triton_are_scraped_where_they_listen(project: dict[str, Any]) -> None:
    scraped = yaml.safe_load((COMPOSE / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in scraped}
    assert targets["its"] == ["metrics:18350"]
    assert targets["triton"] == ["triton:8102"]
    for name in ("metrics", "triton", "alertmanager", "prometheus"):
        assert "watching" in project["services"][name]["networks"]
