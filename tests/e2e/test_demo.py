"""The loop closes, also when it is killed at each of its steps, shows it on every page, and leaves nothing behind."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import psutil
import pytest

from e2e.checkout import ROOT, Checkout, checkout_at, run_killed_at_each_step
from e2e.screens import find_chromium, shoot
from its_platform.settings import load_settings
from needs import need

pytestmark = [pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(1500)]

STEPS = [
    "services",
    "cameras",
    "day frames",
    "first model",
    "live day",
    "nightfall",
    "live night",
    "retraining",
    "canary night",
    "release",
    "live night again",
    "scores",
    "report",
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """The checkout in which these tests run one demo; all that it started is stopped at the end."""
    checkout = checkout_at(tmp_path_factory.mktemp("e2e") / "its")
    try:
        yield checkout
    finally:
        checkout.its("down")


@pytest.fixture(scope="module")
def summary(tiny: Checkout) -> dict:
    killed = run_killed_at_each_step(tiny, tiny.home.parent / "progress.jsonl")
    assert killed == STEPS
    return json.loads((tiny.home / "demo" / "summary.json").read_text("utf-8"))


def test_a_demo_killed_at_each_step_finishes_with_nothing_there_twice(summary: dict):
    assert summary["duplicates"] == {"frames": 0, "predictions": 0, "models": 0}
    assert [version["name"] for version in summary["dataset_versions"]] == ["v1", "v2"]
    assert len(summary["model_versions"]) == 2


def test_drift_started_the_retraining_whose_model_is_served(summary: dict):
    assert summary["retrain_run_id"]
    assert summary["drift"]["before"] > summary["drift"]["threshold_before"]
    assert summary["served_versions"]["production"] == summary["model_versions"][-1]["version"]


def test_the_summary_keeps_to_its_schema(summary: dict):
    import jsonschema

    jsonschema.validate(summary, json.loads((ROOT / "docs" / "schemas" / "demo-summary.json").read_text("utf-8")))


def test_the_report_is_one_page_that_asks_for_nothing_from_outside(summary: dict, tiny: Checkout):
    page = (tiny.home / "demo" / "report.html").read_text("utf-8")
    assert "The loop closed" in page
    assert page.count("data:image/png;base64,") >= 5
    assert "http://" not in page
    assert "https://" not in page


def test_the_report_shows_the_chain_of_what_is_served(summary: dict, tiny: Checkout):
    page = (tiny.home / "demo" / "report.html").read_text("utf-8")
    served = summary["model_versions"][-1]
    chain = page[page.index("The chain of what is served now") :]
    assert chain.index(" came from</h3>") < chain.index(" led to</h3>")
    for wanted in ("<svg", "dataset:v1", "dataset:v2", f"model:{served['version']}", served["run_id"][:12], "frame:"):
        assert wanted in chain


def test_what_is_served_is_traced_to_frames_and_to_the_decision_that_asked_for_it(summary: dict, tiny: Checkout):
    told = tiny.its("trace", "production", "--json", "--depth", "20")
    assert told.returncode == 0, told.stderr[-2000:]
    facts = json.loads(told.stdout)
    nodes = {node["id"]: node for node in facts["nodes"]}
    back = [nodes[key] for key in facts["came_from"]["nodes"]]
    assert any(node["kind"] == "frame" and len(node["id"]) == len("frame:") + 64 for node in back)
    assert f"run:{summary['retrain_run_id']}" in facts["came_from"]["nodes"]
    (decision,) = [n["id"] for n in back if n["kind"] == "decision" and n["facts"]["action"] == "retrain"]
    started = {"above": decision, "below": f"run:{summary['retrain_run_id']}", "how": "started"}
    assert started in facts["links"]
    assert {"predictions", "report"} <= {nodes[key]["kind"] for key in facts["led_to"]["nodes"]}


@pytest.mark.screens
def test_every_page_says_what_it_should(summary: dict, tiny: Checkout, monkeypatch: pytest.MonkeyPatch):
    need(find_chromium() is not None, "Chromium (apt-get install chromium)")
    for name, value in tiny.environment.items():
        monkeypatch.setenv(name, value)
    missing = shoot(load_settings(), tiny.home / "screens")
    assert missing == {name: [] for name in missing}
    assert len(list((tiny.home / "screens").glob("*.png"))) == len(missing)


def test_down_leaves_no_process_behind(summary: dict, tiny: Checkout):
    assert tiny.its("down").returncode == 0
    ours = [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline", "pid"])
        if process.info["pid"] != os.getpid() and str(tiny.home) in " ".join(process.info["cmdline"] or [])
    ]
    assert ours == []
