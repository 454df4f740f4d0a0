"""Grafana's dashboards are what the code makes, and ask for nothing that is not measured."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from deployed import COMPOSE, GRAFANA, script
from figures_known import known, named_in, queries
from its_platform.alerting.prometheus import RULES
from needs import need
from ports import free_port_range

QUERIES = list(queries())
each_query = pytest.mark.parametrize(("title", "legend", "expression"), QUERIES)


def test_the_dashboards_are_those_of_the_code() -> None:
    made = script(GRAFANA / "build.py").pages()
    written = {path.name: path.read_text("utf-8") for path in (GRAFANA / "dashboards").glob("*.json")}
    assert written == made, "run `python deploy/grafana/build.py`"


def test_each_query_of_the_code_is_on_a_page() -> None:
    pages = [json.loads(path.read_text("utf-8")) for path in (GRAFANA / "dashboards").glob("*.json")]
    assert sorted(target["expr"] for page in pages for target in _targets(page)) == sorted(
        expression for _, _, expression in QUERIES
    )


def test_pages_ask_the_source_that_the_compose_project_provides() -> None:
    folder = COMPOSE / "grafana" / "provisioning"
    source = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"][0]
    for path in (GRAFANA / "dashboards").glob("*.json"):
        page = json.loads(path.read_text("utf-8"))
        assert {target["datasource"]["uid"] for target in _targets(page)} == {source["uid"]}
        assert page["uid"] == path.stem
    provider = yaml.safe_load((folder / "dashboards" / "its.yaml").read_text())["providers"][0]
    grafana = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]["grafana"]
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in grafana["volumes"]


@each_query
def test_a_query_names_figures_and_labels_that_there_are(title: str, legend: str, expression: str) -> None:
    figures = known()
    named = named_in(expression)
    assert named, title
    assert named.keys() <= figures.keys(), title
    for name, labels in named.items():
        assert labels <= figures[name], title
    grouped = [set(re.split(r",\s*", found)) for found in re.findall(r"\bby \(([^)]*)\)", expression)]
    for labels in grouped:
        assert all(labels <= figures[name] for name in named), title
    shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
    assert shown <= set.intersection(*(grouped or [figures[name] for name in named])), title


def test_the_rules_name_figures_that_there_are() -> None:
    figures = known()
    for path in RULES.glob("*.yaml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                assert named_in(rule["expr"]).keys() <= figures.keys(), rule["alert"]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Prometheus that measures nothing."""
    need(shutil.which("prometheus") is not None, "Prometheus (apt-get install prometheus)")
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    address = f"127.0.0.1:{free_port_range(1)}"
    words = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([*words, f"--web.listen-address={address}"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not _is_ready(address):
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"Prometheus did not start: {(folder / 'log').read_text()[-500:]}")
            time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.services
@each_query
def test_prometheus_answers_a_query(prometheus: str, title: str, legend: str, expression: str) -> None:
    assert _asked(prometheus, expression)["status"] == "success", title


@pytest.mark.services
def test_prometheus_refuses_what_is_no_query(prometheus: str) -> None:
    assert _asked(prometheus, "sum by (stage) rate(its_front_pictures_total)")["status"] == "error"


def _targets(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in page["panels"]:
        for inner in (panel, *panel.get("panels", [])):
            yield from inner.get("targets", [])


def _is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _asked(address: str, expression: str) -> dict[str, Any]:
    # Grafana fills it in, from the interval of scrapes and the width of a panel.
    words = urllib.parse.urlencode({"query": expression.replace("$__rate_interval", "1m")})
    try:
        with urllib.request.urlopen(f"http://{address}/api/v1/query?{words}", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        found = json.load(error)
    return found
