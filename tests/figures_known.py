"""Every figure that the platform, its front and Prometheus itself tell, with its labels, as the code names them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from deployed import GRAFANA, script
from its_platform.settings import REPOSITORY

MADE_BY = {"GaugeMetricFamily": "", "CounterMetricFamily": "_total"}
# Prometheus' own of each target and of its rules; what the configuration adds to Triton's target.
PROMETHEUS = {
    "up": {"job", "part"},
    "scrape_duration_seconds": {"job", "part"},
    "ALERTS": {"alertname", "alertstate"},
}
# Those of Triton's that a dashboard names: tests/integration/test_front_figures.py finds them at a running one.
TRITON = {
    "nv_inference_request_success": {"model", "version"},
    "nv_inference_request_failure": {"model", "version", "reason"},
    "nv_inference_request_duration_us": {"model", "version"},
    "nv_inference_queue_duration_us": {"model", "version"},
    "nv_inference_pending_request_count": {"model", "version"},
}
# After a figure's name: its matchers. Functions and words of the language are followed by something else.
NAMED = re.compile(r"\b((?:its_|nv_)\w+|up|ALERTS|scrape_\w+)\b(?:\{([^}]*)\})?")


def known() -> dict[str, set[str]]:
    """The labels of each figure by its name."""
    return {**dict(_exporter()), **_front(), **PROMETHEUS, **TRITON}


def queries() -> Iterator[tuple[str, str, str]]:
    """The title, legend and expression of every query of every dashboard."""
    for board in script(GRAFANA / "panels.py").BOARDS:
        for panels in board.rows.values():
            for panel in panels:
                for legend, expression in panel.queries.items():
                    yield f"{board.name}: {panel.title}", legend, expression


def named_in(expression: str) -> dict[str, set[str]]:
    """The labels by which an expression chooses, by the name of the figure."""
    found: dict[str, set[str]] = {}
    for name, matchers in NAMED.findall(expression):
        found.setdefault(name, set()).update(re.findall(r"(\w+)\s*[=!]", matchers))
    return found


def _front() -> dict[str, set[str]]:
    counting = script(REPOSITORY / "triton_models" / "traffic_detector" / "1" / "counting.py")
    counters = {counting.PREFIX + name: set(labels) for name, (_, labels) in counting.COUNTERS.items()}
    return counters | {counting.PREFIX + counting.LAST_PICTURE: {"camera"}}


def _exporter() -> Iterator[tuple[str, set[str]]]:
    for path in sorted((REPOSITORY / "its_platform" / "metrics").glob("*.py")):
        lists = {}
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.List)
                and isinstance(node.targets[0], ast.Name)
            ):
                lists[node.targets[0].id] = node.value
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MADE_BY:
                labels = next((word.value for word in node.keywords if word.arg == "labels"), ast.List([]))
                labels = lists[labels.id] if isinstance(labels, ast.Name) else labels
                yield ast.literal_eval(node.args[0]) + MADE_BY[node.func.id], set(ast.literal_eval(labels))
