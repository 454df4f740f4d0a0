"""The whole demo on real servers, brought up and down by the commands of a user: PostgreSQL, an S3 server, Redis.

The loop closes; then two bad models come: one that a gate stops, one that only the canary can catch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from e2e.checkout import Checkout, checkout_at
from e2e.screens import Screen, find_chromium, shoot
from its_platform.alerting import prometheus
from its_platform.pages import page_address
from its_platform.serving.repository import cache_counts
from its_platform.settings import load_settings
from needs import need, need_prometheus, need_stores

pytestmark = [pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(3000)]
STORES = ("postgres", "objects", "redis")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    need_stores(load_settings())
    need_prometheus()
    need(find_chromium() is not None, "Chromium (apt-get install chromium)")
    checkout = checkout_at(tmp_path_factory.mktemp("real") / "its")
    try:
        yield checkout
    finally:
        checkout.its("down")


@pytest.fixture(scope="module")
def summary(services: Checkout) -> dict:
    up = services.its("up", "--profile", "services", "--json", timeout=600)
    assert up.returncode == 0, up.stderr[-3000:]
    return facts_of(services, "demo", within_s=1800)


@pytest.fixture(scope="module")
def played(services: Checkout, summary: dict) -> dict[str, Any]:
    return facts_of(services, "demo", "release", within_s=1200)


@pytest.fixture(scope="module")
def releases(services: Checkout, played: dict[str, Any]) -> list[dict[str, Any]]:
    told = services.its("release", "history", "--json")
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def facts_of(checkout: Checkout, *words: str, within_s: float) -> dict[str, Any]:
    """What a play came to; it fails by itself where a promise on accuracy or drift is not kept."""
    done = checkout.its(*words, "--keep-up", "--json", timeout=within_s)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_loop_closes_on_them(summary: dict) -> None:
    assert summary["kept"]
    assert summary["duplicates"] == {"frames": 0, "predictions": 0, "models": 0}
    assert summary["served_versions"]["production"] == summary["model_versions"][-1]["version"]
    assert summary["retrain_run_id"]


def test_frames_are_in_the_bucket_and_rows_in_the_server(summary: dict, services: Checkout) -> None:
    assert not (services.home / "objects").exists()
    assert not (services.home / "postgres").exists()
    assert sum(path.stat().st_size for path in (services.home / "services" / "objects").rglob("*.dat")) > 1_000_000
    assert (services.home / "services" / "postgres" / "PG_VERSION").is_file()


def test_the_front_keeps_its_answers_in_redis(summary: dict, services: Checkout) -> None:
    told = json.loads(services.its("status", "--json").stdout)
    found = {one["name"]: one for one in told}
    assert {found[name]["state"] for name in STORES} == {"healthy"}
    log = (services.home / "log" / "redis.log").read_text("utf-8")
    assert "Ready to accept connections" in log
    assert cache_counts(load_settings(home=services.home)).get("redis_errors", 0) == 0


def test_every_part_has_version_memory_and_restarts(summary: dict, services: Checkout) -> None:
    told = json.loads(services.its("status", "--json").stdout)
    assert {one["name"] for one in told} >= {*STORES, "metrics", "prometheus", "alertmanager", "triton"}
    assert [one["name"] for one in told if one["state"] != "healthy"] == []
    assert [one["name"] for one in told if not one["version"] or not one["memory_mb"]] == []
    assert {one["restarts"] for one in told if one["name"] != "postgres"} == {0}
    pages = {one["name"]: one["address"] for one in told if "://" in one["address"]}
    assert pages.keys() == {"mlflow", "evidently", "dagster", "prometheus", "alertmanager"}
    assert all(address.startswith("https://") for address in pages.values())


def test_prometheus_has_the_figures_of_the_loop(
    summary: dict, services: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services.environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert [one["metric"]["job"] for one in prometheus.query(settings, "up == 0")] == []
    (live,) = prometheus.query(settings, "sum(its_front_pictures_total{purpose='live'})")
    assert float(live["value"][1]) > 100
    (served,) = prometheus.query(settings, "its_release_since_timestamp_seconds{stage='production'}")
    assert int(served["metric"]["version"]) == summary["served_versions"]["production"]
    (failed,) = prometheus.query(settings, "its_dagster_runs{status='SUCCESS'}")
    assert float(failed["value"][1]) >= 1


def test_what_a_run_says_carries_its_id(summary: dict, services: Checkout) -> None:
    log = (services.home / "log" / "dagster-daemon.log").read_text("utf-8", errors="replace")
    told = [json.loads(line) for line in log.splitlines() if line.startswith("{") and '"run"' in line]
    stored = [line for line in told if line["event"] == "frames are stored"]
    assert stored
    assert all(line["process"] == "run" and line["camera"] and len(line["run"]) == 36 for line in stored)


def test_every_page_says_what_it_should(summary: dict, services: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in services.environment.items():
        monkeypatch.setenv(name, value)
    missing = shoot(load_settings(), services.home / "screens")
    assert "alertmanager" in missing
    assert missing == {name: [] for name in missing}


def test_the_marts_are_built_in_the_server(summary: dict, services: Checkout) -> None:
    built = services.its("monitor", "marts", "--json", timeout=600)
    assert built.returncode == 0, built.stderr[-3000:]
    assert not list((services.home / "warehouse").glob("*.duckdb"))


def test_a_gate_stops_permuted_labels_before_any_traffic(
    played: dict[str, Any], releases: list[dict[str, Any]]
) -> None:
    assert {"class_floor", "slice_regression"} <= {gate["name"] for gate in played["permuted"]["gates"]}
    assert played["permuted"]["version"] not in {
        row["version"] for row in releases if row["stage"] in ("canary", "production")
    }


def test_the_canary_catches_what_the_golden_set_cannot_show(
    played: dict[str, Any], summary: dict, releases: list[dict[str, Any]]
) -> None:
    (trial,) = [row for row in releases if row["stage"] == "canary" and row["version"] == played["blind"]]
    assert trial["until"] is not None
    assert "truth" in played["caught"]["why"]
    assert played["blind"] not in {row["version"] for row in releases if row["stage"] == "production"}
    assert played["served"] == summary["model_versions"][-1]["version"]


def test_its_report_is_one_page_with_pictures_of_what_the_canary_missed(
    played: dict[str, Any], services: Checkout
) -> None:
    page = (services.home / "demo" / "release.html").read_text("utf-8")
    assert page.count("data:image/") == len(played["caught"]["pictures"]) >= 2
    assert played["caught"]["why"] in page
    assert "http://" not in page
    assert "https://" not in page


def test_both_are_on_the_pages_of_dagster_and_mlflow(
    played: dict[str, Any], services: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services.environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    dagster, mlflow = (page_address(settings, port) for port in (settings.ports.dagster, settings.ports.mlflow))
    permuted, blind = played["permuted"], played["blind"]
    version = f"{mlflow}/#/models/traffic-detector/versions"
    screens = [
        Screen("permuted-run", f"{dagster}/runs/{permuted['run_id']}", ("Failure", "gates_are_passed")),
        Screen("release-runs", f"{dagster}/runs?q[0]=job%3Arelease", ("release",)),
        Screen("canary-runs", f"{dagster}/runs?q[0]=job%3Acanary", ("canary",)),
        Screen("permuted-version", f"{version}/{permuted['version']}", ("not passed", "class_floor")),
        Screen("blind-version", f"{version}/{blind}", ("Rejected", "with a truth")),
    ]
    missing = shoot(settings, services.home / "screens", screens)
    assert missing == {screen.name: [] for screen in screens}


def test_the_doctor_finds_nothing_wrong(played: dict[str, Any], services: Checkout) -> None:
    told = services.its("doctor")
    assert told.returncode == 0, told.stdout[-3000:]


def test_down_stops_them_last_and_leaves_no_process(summary: dict, services: Checkout) -> None:
    stopped = json.loads(services.its("down", "--json").stdout)["stopped"]
    assert set(stopped[-3:]) == set(STORES)
    ours = [one.info["cmdline"] for one in psutil.process_iter(["cmdline"])]
    assert [words for words in ours if str(services.home) in " ".join(words or [])] == []
