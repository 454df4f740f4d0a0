"""The loop closes on real servers, brought up and down by the commands of a user: PostgreSQL, an S3 server, Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psutil
import pytest

from e2e.checkout import Checkout, checkout_at
from its_platform.serving.repository import cache_counts
from its_platform.settings import load_settings
from needs import need_stores

pytestmark = [pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(1500)]
STORES = ("postgres", "objects", "redis")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    need_stores(load_settings())
    checkout = checkout_at(tmp_path_factory.mktemp("real") / "its")
    try:
        yield checkout
    finally:
        checkout.its("down")


@pytest.fixture(scope="module")
def summary(services: Checkout) -> dict:
    up = services.its("up", "--profile", "services", "--json", timeout=600)
    assert up.returncode == 0, up.stderr[-3000:]
    demo = services.its("demo", "--scale", "tiny", "--keep-up", timeout=1200)
    assert demo.returncode == 0, demo.stderr[-3000:]
    return json.loads((services.home / "demo" / "summary.json").read_text("utf-8"))


def test_the_loop_closes_on_them(summary: dict) -> None:
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


def test_the_marts_are_built_in_the_server(summary: dict, services: Checkout) -> None:
    built = services.its("monitor", "marts", "--json", timeout=600)
    assert built.returncode == 0, built.stderr[-3000:]
    assert not list((services.home / "warehouse").glob("*.duckdb"))


def test_the_doctor_finds_nothing_wrong(summary: dict, services: Checkout) -> None:
    told = services.its("doctor")
    assert told.returncode == 0, told.stdout[-3000:]


def test_down_stops_them_last_and_leaves_no_process(summary: dict, services: Checkout) -> None:
    stopped = json.loads(services.its("down", "--json").stdout)["stopped"]
    assert set(stopped[-3:]) == set(STORES)
    ours = [one.info["cmdline"] for one in psutil.process_iter(["cmdline"])]
    assert [words for words in ours if str(services.home) in " ".join(words or [])] == []
