"""Nodes, the links between them, and the walk from one of them in both directions. Pure: nothing here reads a store.

Enters: a graph of what is known. Leaves: a `Chain`: one tree of what came before, one of what came after. A node is
unfolded once, where it is nearest to the start, so that a loop that goes round and round does not print itself again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

Direction = Literal["above", "below"]
Mood = Literal["", "good", "bad"]
KINDS = (
    "camera",
    "frame",
    "labels",
    "dataset",
    "golden",
    "run",
    "training",
    "model",
    "release",
    "predictions",
    "prediction",
    "report",
    "decision",
)
"""Every kind, in the order in which neighbours of several kinds are shown."""
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Node:
    """One thing. key: its full ID, `kind:value`. short: an ID that is enough to find it. facts: what matters, in
    order, for one line. mood: whether it went well, where that is the question."""

    key: str
    kind: str
    short: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    mood: Mood = ""


@dataclass(frozen=True)
class Link:
    """`below` came of `above`. how: in a word or two, where the kinds alone do not say it."""

    above: str
    below: str
    how: str = ""


@dataclass(frozen=True)
class Graph:
    """counted: how many neighbours of a kind there are, where only some of them are nodes.
    missing: what one would look for in a direction and is not there, in words."""

    nodes: Mapping[str, Node]
    links: tuple[Link, ...] = ()
    counted: Mapping[tuple[str, Direction, str], int] = field(default_factory=dict)
    missing: Mapping[tuple[str, Direction], tuple[str, ...]] = field(default_factory=dict)


@dataclass
class Branch:
    """A node of a tree. more: neighbours that are not named, by kind. is_repeated: unfolded elsewhere in this tree.
    is_cut: the chain goes on beyond the depth that was asked for."""

    node: Node
    how: str = ""
    branches: list[Branch] = field(default_factory=list)
    more: dict[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    is_repeated: bool = False
    is_cut: bool = False

    def walk(self) -> Iterator[Branch]:
        """This branch and all below it."""
        yield self
        for branch in self.branches:
            yield from branch.walk()


@dataclass(frozen=True)
class Chain:
    """Both trees; the start is the root of each."""

    start: Node
    came_from: Branch
    led_to: Branch
    links: tuple[Link, ...]

    @property
    def nodes(self) -> list[Node]:
        """Every node that is shown, each once, the start first."""
        found = {branch.node.key: branch.node for tree in (self.came_from, self.led_to) for branch in tree.walk()}
        return list(found.values())

    def as_dict(self) -> dict[str, Any]:
        """The chain as plain data: nodes, links, and what was counted or is missing, by node and direction."""
        return {
            "start": self.start.key,
            "came_from": _side(self.came_from),
            "led_to": _side(self.led_to),
            "nodes": [
                {"id": n.key, "kind": n.kind, "short": n.short, "at": n.at, "facts": dict(n.facts)} for n in self.nodes
            ],
            "links": [{"above": link.above, "below": link.below, "how": link.how} for link in self.links],
        }


def walk(graph: Graph, start: str, most: int, depth: int) -> Chain:
    """The chain through `start`, at most `depth` steps away, naming at most `most` neighbours of one kind."""
    above, below = _tree(graph, start, "above", most, depth), _tree(graph, start, "below", most, depth)
    shown = {branch.node.key for tree in (above, below) for branch in tree.walk()}
    links = tuple(link for link in graph.links if link.above in shown and link.below in shown)
    return Chain(graph.nodes[start], above, below, links)


def _tree(graph: Graph, start: str, direction: Direction, most: int, depth: int) -> Branch:
    neighbours = _neighbours(graph, direction)
    reach = _reach(neighbours)
    root = Branch(graph.nodes[start])
    unfolded = {start}
    waiting = deque([(root, 0)])
    while waiting:
        branch, steps = waiting.popleft()
        key = branch.node.key
        there = neighbours.get(key, {})
        if steps == depth:
            branch.is_cut = bool(there)
            continue
        branch.missing = graph.missing.get((key, direction), ())
        for kind in KINDS:
            of_kind = sorted(
                (other for other in there if graph.nodes[other].kind == kind),
                # What leads on comes first, so that the thread of the chain is never among those only counted.
                key=lambda other: (reach[other], graph.nodes[other].at or _LONG_AGO, other),
                reverse=True,
            )
            for other in of_kind[:most]:
                found = Branch(graph.nodes[other], there[other], is_repeated=other in unfolded)
                branch.branches.append(found)
                if not found.is_repeated:
                    unfolded.add(other)
                    waiting.append((found, steps + 1))
            left = max(len(of_kind), graph.counted.get((key, direction, kind), 0)) - min(len(of_kind), most)
            if left > 0:
                branch.more[kind] = left
    return root


def _neighbours(graph: Graph, direction: Direction) -> dict[str, dict[str, str]]:
    """By node, each neighbour in this direction and how it is linked."""
    found: dict[str, dict[str, str]] = {}
    for link in graph.links:
        near, far = (link.below, link.above) if direction == "above" else (link.above, link.below)
        if near in graph.nodes and far in graph.nodes:
            found.setdefault(near, {}).setdefault(far, link.how)
    return found


def _reach(neighbours: Mapping[str, Mapping[str, str]]) -> dict[str, int]:
    """How many steps the longest way from each node is; a ring of links ends where it closes."""
    reach: dict[str, int] = {}
    for first in {*neighbours, *(other for there in neighbours.values() for other in there)}:
        if first in reach:
            continue
        # Without recursion: a platform that has learnt for years has a chain longer than Python's stack.
        stack, under_way = [first], {first}
        while stack:
            key = stack[-1]
            open_ones = [other for other in neighbours.get(key, ()) if other not in reach and other not in under_way]
            if open_ones:
                stack.append(open_ones[0])
                under_way.add(open_ones[0])
                continue
            reach[key] = max((reach.get(other, 0) + 1 for other in neighbours.get(key, ())), default=0)
            stack.pop()
    return reach


def _side(tree: Branch) -> dict[str, Any]:
    branches = list(tree.walk())
    return {
        "nodes": list(dict.fromkeys(branch.node.key for branch in branches if branch is not tree)),
        "more": [
            {"id": branch.node.key, "kind": kind, "count": count}
            for branch in branches
            for kind, count in branch.more.items()
        ],
        "missing": [{"id": branch.node.key, "what": what} for branch in branches for what in branch.missing],
        "cut": [branch.node.key for branch in branches if branch.is_cut],
    }
