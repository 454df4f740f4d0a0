"""A node in words: one line with what a person looks for first. Pure; colours and layout belong to whoever shows it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from its_platform.trace.graph import Branch, Node

# Said without their name, as they speak for themselves.
_BARE = {
    "tool",
    "name",
    "status",
    "verdict",
    "action",
    "stage",
    "review",
    "purpose",
    "light",
    "weather",
    "reason",
    "job",
}
# In the JSON alone: too long, or only there to be searched for.
_UNSAID = {"onnx_digest", "weights_digest", "endpoint", "key", "commit", "ingested", "code_is_dirty"}
# Long, and said elsewhere by those who need it.
_UNSAID_OF = {"report": {"reason", "reference_rows"}, "golden": {"digest"}, "frame": {"size"}, "release": {"version"}}
_DIGITS = 12
_REASON = 96


def told(node: Node) -> str:
    """The node's facts, separated by commas."""
    unsaid = _UNSAID | _UNSAID_OF.get(node.kind, set())
    parts = [_fact(name, value) for name, value in node.facts.items() if name not in unsaid]
    at = node.at if node.kind in ("model", "dataset", "golden", "run", "training", "labels", "prediction") else None
    return ", ".join([*parts, *([when(at)] if at else [])])


def when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def remarks(branch: Branch) -> list[str]:
    """What is said of a node below its neighbours: those only counted, what is missing, where the chain goes on."""
    said = [f"and {count} more {_plural(kind, count)}" for kind, count in branch.more.items()]
    said += branch.missing
    return [*said, f"goes on: its trace {branch.node.short}"] if branch.is_cut else said


def _plural(kind: str, count: int) -> str:
    return kind if count == 1 or kind.endswith("s") else f"{kind}s"


def _fact(name: str, value: Any) -> str:
    said = _value(name, value)
    if name in _BARE:
        return said
    if name == "took_s":
        return f"took {said} s"
    return f"{name.replace('_', ' ')} {said}"


def _value(name: str, value: Any) -> str:
    if isinstance(value, datetime):
        return when(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_value(key, one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return " to ".join(_value(name, one) for one in value)
    text = str(value)
    if name in ("digest", "code"):
        return text[:_DIGITS]
    if name == "window":
        return when(datetime.fromisoformat(text))
    return text if len(text) <= _REASON else f"{text[: _REASON - 1]}…"
