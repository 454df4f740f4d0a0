"""Prometheus, Alertmanager and the exporter, for real: who is answered, what is measured, and how an alert travels."""

from __future__ import annotations

import json
import ssl
import stat
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from e2e.screens import find_chromium, shoot, watching_screens
from its_platform import processes
from its_platform.alerting import alertmanager, prometheus
from its_platform.alerting.access import ask, password_file
from its_platform.certificates import server_names
from its_platform.errors import BadInput
from its_platform.parts import part_named
from its_platform.settings import Settings
from its_platform.stack import renew_certificates, restart_part, stack_status, start_stack
from needs import need, need_prometheus
from ports import free_port_range

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(300)]
WATCHING = ("metrics", "alertmanager", "prometheus")


@pytest.fixture(scope="module")
def listener() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Somebody who is told: the address of a webhook, and what it was told."""
    heard: list[dict[str, Any]] = []

    class Hears(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", free_port_range(1)), Hears)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/s3cr3t-path", heard
    server.shutdown()


@pytest.fixture(scope="module")
def watched(servers: Settings, listener: tuple[str, list[dict[str, Any]]]) -> Iterator[Settings]:
    """The stores with what watches them, every five seconds; somebody is told."""
    need_prometheus()
    often = servers.metrics.model_copy(update={"interval_s": 5, "gather_s": 1})
    told = servers.notifications.model_copy(update={"webhook": listener[0]})
    settings = servers.model_copy(update={"metrics": often, "notifications": told})
    start_stack(settings, list(WATCHING))
    yield settings
    for name in reversed(WATCHING):
        processes.stop(settings, name)


def within(seconds: float, found: Callable[[], Any]) -> Any:
    """What `found` gives as soon as it is something; the last thing that it gave."""
    end = time.monotonic() + seconds
    while not (result := found()) and time.monotonic() < end:
        time.sleep(0.5)
    return result


def series(settings: Settings, expression: str) -> dict[str, float]:
    """Values by the first label's value."""
    found = prometheus.query(settings, expression)
    return {"/".join(v for k, v in one["metric"].items() if k != "__name__"): float(one["value"][1]) for one in found}


def scraped(settings: Settings) -> set[str]:
    """The jobs whose target answered when it was last asked, by the Prometheus that runs now: its database also has
    what one before it saw."""
    told = json.loads(ask(settings, settings.ports.prometheus, "/api/v1/targets"))["data"]["activeTargets"]
    return {one["labels"]["job"] for one in told if one["health"] == "up"}


def test_each_answers_at_its_address(watched: Settings) -> None:
    found = {one.name: one for one in stack_status(watched, with_versions=True)}
    assert [found[name].state for name in WATCHING] == ["healthy"] * 3
    assert found["prometheus"].address == f"https://127.0.0.1:{watched.ports.prometheus}"
    for name in ("postgres", "objects", "redis", *WATCHING):
        assert found[name].version
        assert found[name].version[0].isdigit()
        assert found[name].memory_mb > 1
    assert {found[name].restarts for name in WATCHING} == {0}
    assert (
        found["prometheus"].version
        in subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=True).stdout + " "
    )
    listening = {
        connection.laddr.ip
        for name in WATCHING
        for connection in psutil.Process(found[name].pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_pages_want_tls_and_the_password(watched: Settings, name: str) -> None:
    port = getattr(watched.ports, name)
    with pytest.raises(urllib.error.HTTPError) as plain:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)
    assert plain.value.code == 400
    context = ssl.create_default_context(cafile=str(watched.certificates / "ca.pem"))
    with pytest.raises(urllib.error.HTTPError) as stranger:
        urllib.request.urlopen(f"https://127.0.0.1:{port}/", timeout=10, context=context)
    assert stranger.value.code == 401
    assert b"<html" in ask(watched, port, "/")


def test_the_exporter_wants_the_certificate_of_a_client(watched: Settings) -> None:
    port = watched.ports.metrics
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)
    context = ssl.create_default_context(cafile=str(watched.certificates / "ca.pem"))
    with pytest.raises(OSError, match=r"certificate required|alert|reset|EOF"):
        urllib.request.urlopen(f"https://127.0.0.1:{port}/metrics", timeout=10, context=context)
    assert b"its_part_up" in ask(watched, port, "/metrics")


def test_secrets_are_in_no_command_line_and_in_no_file_that_others_may_read(watched: Settings) -> None:
    word = password_file(watched).read_text()
    running = [" ".join(one.info["cmdline"] or []) for one in psutil.process_iter(["cmdline"])]
    assert not any(word in line for line in running)
    for folder in ("prometheus", "alertmanager"):
        for path in (watched.services / folder).glob("*.yml"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert word not in path.read_text()
            assert "s3cr3t" not in path.read_text()


def test_configuration_and_rules_pass_the_servers_own_check(watched: Settings) -> None:
    config = watched.services / "prometheus" / "prometheus.yml"
    done = subprocess.run(["promtool", "check", "config", config], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout
    web = watched.services / "prometheus" / "web.yml"
    assert subprocess.run(["promtool", "check", "web-config", web], check=False).returncode == 0


def test_every_target_is_scraped(watched: Settings) -> None:
    # Triton does not run here.
    wanted = {"its", "prometheus", "alertmanager"}
    assert within(30, lambda: scraped(watched) == wanted), scraped(watched)


def test_figures_say_what_is_there(watched: Settings) -> None:
    assert within(30, lambda: series(watched, "its_part_up{job='its',part='redis'}"))
    up = {one["metric"]["part"]: float(one["value"][1]) for one in prometheus.query(watched, "its_part_up")}
    assert {name: up[name] for name in ("postgres", "objects", "redis", "prometheus")} == dict.fromkeys(
        ("postgres", "objects", "redis", "prometheus"), 1.0
    )
    stores = {one["metric"]["store"]: one["value"][1] for one in prometheus.query(watched, "its_store_up")}
    assert stores == {"postgres": "1", "objects": "1", "redis": "1"}
    (memory,) = prometheus.query(watched, "its_part_memory_bytes{part='prometheus'}")
    assert 10e6 < float(memory["value"][1]) < 2e9
    (left,) = prometheus.query(watched, "its_certificate_expiry_timestamp_seconds{certificate='server'} - time()")
    assert 0 < float(left["value"][1]) < 900 * 86400
    assert float(prometheus.query(watched, "its_disk_free_bytes")[0]["value"][1]) > 0
    errors = {
        one["metric"]["read"]: one["value"][1] for one in prometheus.query(watched, "its_metrics_read_errors_total")
    }
    assert set(errors) >= {"parts", "stores", "cameras", "releases", "drift", "runs", "front"}
    assert errors["parts"] == errors["releases"] == "0"


def test_a_read_that_fails_is_absent_and_counted(watched: Settings) -> None:
    lost = watched.spool / "lost.json"
    watched.spool.mkdir(parents=True, exist_ok=True)
    lost.write_text("no count")
    try:
        text = ask(watched, watched.ports.metrics, "/metrics").decode()
    finally:
        lost.unlink()
    assert "its_front_lost_rows_total{" not in text
    (line,) = [line for line in text.splitlines() if line.startswith('its_metrics_read_errors_total{read="front"}')]
    assert float(line.split()[-1]) >= 1


def test_a_browser_opens_the_pages(watched: Settings, tmp_path: Path) -> None:
    need(find_chromium() is not None, "Chromium (apt-get install chromium)")
    assert within(60, lambda: {"its", "alertmanager"} <= scraped(watched)), scraped(watched)
    screens = [
        replace(screen, texts=("prometheus",)) if screen.name == "prometheus-graph" else screen
        for screen in watching_screens(watched)
    ]
    missing = shoot(watched, tmp_path, screens)
    assert missing == {screen.name: [] for screen in screens}
    assert len(list(tmp_path.glob("*.png"))) == 4


def test_a_killed_part_becomes_an_alert_that_somebody_is_told_of(
    watched: Settings, listener: tuple[str, list[dict[str, Any]]]
) -> None:
    def firing() -> list[dict[str, Any]]:
        return [
            one
            for one in prometheus.alerts(watched)
            if (one["labels"]["alertname"], one["labels"].get("part")) == ("PartDown", "redis")
            and one["state"] == "firing"
        ]

    process = processes.find(processes.read_record(watched, "redis"))
    assert process is not None
    process.kill()
    try:
        (alert,) = within(90, firing)
        assert "log/redis.log" in alert["annotations"]["description"]
        known = within(
            30, lambda: [one for one in alertmanager.alerts(watched) if one["labels"].get("part") == "redis"]
        )
        assert known[0]["labels"]["alertname"] == "PartDown"
        told = within(30, lambda: [one for one in listener[1] if one["facts"]["labels"].get("part") == "redis"])
        assert told[0]["kind"] == "alert"
        assert told[0]["text"] == "redis does not answer."
    finally:
        restart_part(watched, "redis")
    assert within(60, lambda: not firing())
    restarts = "its_part_restarts_total{part='redis'} >= 1"
    assert within(20, lambda: prometheus.query(watched, restarts))


def test_a_renewed_certificate_is_shown_without_a_restart(watched: Settings) -> None:
    def shown(port: int) -> str:
        return ssl.get_server_certificate(("127.0.0.1", port))

    ports = [getattr(watched.ports, name) for name in ("prometheus", "alertmanager")]
    before = [shown(port) for port in ports]
    told = renew_certificates(watched, server_names(watched), days=30)
    assert {name: told[name] for name in WATCHING} == dict.fromkeys(WATCHING, "shows it now")
    after = (watched.certificates / "server.pem").read_text().strip()
    assert [shown(port).strip() for port in ports] == [after] * 2 != before
    # Its health is asked over TLS, with the new certificate of the client.
    assert part_named("metrics").is_healthy(watched)


def test_a_server_that_is_not_installed_is_one_clear_line(servers: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(BadInput, match="needs Prometheus, which is not installed") as told:
        part_named("prometheus").command(servers)
    assert "apt-get install prometheus" in told.value.hint
    with pytest.raises(BadInput, match="needs Alertmanager, which is not installed"):
        part_named("alertmanager").command(servers)
