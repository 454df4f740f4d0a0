"""What an ID may mean. Pure: a text and the graph enter, the key of one node leaves.

`kind:value` is always clear. Without its kind an ID is taken where only one thing has it: `v3` is a dataset,
`traffic-detector/3` a model version, `production` what is served there now; a plain number, the beginning of a hash,
of a digest or of a run's ID may be several things, and then all of them are told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from its_platform.errors import BadInput, NotFound
from its_platform.trace.graph import Graph, Node

MINIMUM = 6
"""Characters that the beginning of a hash, a digest or a run's ID needs."""
NUMBERED = ("model", "release", "decision", "golden")
NAMED = ("camera", "dataset", "report")
PREFIXES = ("frame", "camera", "dataset", "golden", "run", "model", "release", "report", "decision")
HINT = (
    "An ID is frame:HASH, dataset:v1, model:1, release:1 (or production), report:ID, run:ID, decision:1, golden:1 or "
    "camera:NAME."
)
_HEX = re.compile(r"[0-9a-f]{6,64}")
_STAGED = re.compile(r"[a-z]+")


def resolve(text: str, graph: Graph, hashes: Sequence[str] = ()) -> str:
    """The key of the node that `text` names. hashes: frames whose hash begins so.

    Raises `NotFound` where nothing has that name, `BadInput` where several things have it, with all readings.
    """
    wanted = text.strip()
    found = list(dict.fromkeys(_readings(wanted, graph, hashes)))
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFound(f"Nothing is called {wanted!r}.", HINT)
    told = ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
    raise BadInput(f"{wanted!r} may be {told}.", "Give one of these.")


def beginning_of_hash(text: str) -> str | None:
    """What `text` says of a frame's hash; None where it cannot be one. Raises `BadInput` for a beginning too short."""
    kind, _, value = text.strip().rpartition(":")
    value = value.lower()
    if kind == "frame" and not _HEX.fullmatch(value):
        raise BadInput(f"{text.strip()!r} names no frame.", f"Give {MINIMUM} or more characters of its hash.")
    return value if kind in ("", "frame") and _HEX.fullmatch(value) else None


def _readings(text: str, graph: Graph, hashes: Sequence[str]) -> Iterator[str]:
    kind, colon, value = text.partition(":")
    if not colon:
        yield from _without_kind(text, graph, hashes)
        return
    if kind == "frame":
        yield from (f"frame:{one}" for one in hashes)
    elif kind in PREFIXES:
        yield from _of_kind(kind, value, graph)
    elif text in graph.nodes:
        yield text
    else:
        raise BadInput(f"There is no kind {kind!r}.", HINT)


def _without_kind(text: str, graph: Graph, hashes: Sequence[str]) -> Iterator[str]:
    if text.isdigit():
        yield from (f"{kind}:{int(text)}" for kind in NUMBERED if f"{kind}:{int(text)}" in graph.nodes)
    for kind in NAMED:
        yield from _of_kind(kind, text, graph)
    yield from _staged(text, graph)
    if "/" in text:
        yield from _of_kind("model", text, graph)
    if len(text) >= MINIMUM:
        yield from _of_kind("run", text, graph)
    if _HEX.fullmatch(text.lower()):
        yield from (f"frame:{one}" for one in hashes)
        yield from (node.key for node in graph.nodes.values() if _has_digest(node, text.lower()))


def _of_kind(kind: str, value: str, graph: Graph) -> Iterator[str]:
    """Nodes of one kind: by the exact ID, else by its beginning where the kind has long ones."""
    number = value.rpartition("/")[2] if kind == "model" else value
    exact = f"{kind}:{int(number) if kind in NUMBERED and number.isdigit() else value}"
    if (
        kind == "model"
        and "/" in value
        and not any(node.facts.get("name") == value for node in graph.nodes.values() if node.kind == "model")
    ):
        return
    if exact in graph.nodes:
        yield exact
    elif kind in ("run", "report") and len(value) >= MINIMUM:
        yield from (key for key in graph.nodes if key.startswith(f"{kind}:{value}"))
    elif kind == "release":
        yield from _staged(value, graph)


def _staged(stage: str, graph: Graph) -> Iterator[str]:
    """What is served at a stage now."""
    if _STAGED.fullmatch(stage):
        for node in graph.nodes.values():
            if node.kind == "release" and node.facts.get("stage") == stage and node.facts.get("until") == "now":
                yield node.key


def _has_digest(node: Node, text: str) -> bool:
    return any(str(node.facts.get(name, "")).startswith(text) for name in ("digest", "onnx_digest", "weights_digest"))
