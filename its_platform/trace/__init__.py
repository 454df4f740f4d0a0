"""Where anything came from and what came of it: the chain through frames, datasets, runs, models, releases and reports.

Enters: an ID and the stores, which are only read. Leaves: a `Chain`. Read `graph` (pure: nodes, links and the walk in
both directions), `naming` (pure: what an ID may mean), `nodes` and `links` (pure: records become a graph), `reading`
(the stores become records) and `picture`. What a step means belongs to its stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from its_platform.trace.graph import Branch, Chain, Graph, Link, Node, walk
from its_platform.trace.naming import resolve

if TYPE_CHECKING:
    from its_platform.stores import Stores

__all__ = ["Branch", "Chain", "Graph", "Link", "Node", "trace"]

MOST = 3
DEPTH = 12


def trace(stores: Stores, name: str, most: int = MOST, depth: int = DEPTH) -> Chain:
    """The chain through the thing of this name, in both directions.

    most: how many of one kind are named beside each other, the others are counted. depth: steps from the start in
    either direction; where a chain goes on beyond it, it says so. Raises `NotFound` for a name that nothing has,
    `BadInput` for one that several things have, and whatever a store raises that cannot be read.
    """
    from its_platform.trace import reading
    from its_platform.trace.links import graph_of

    records = reading.read_records(stores)
    start = resolve(name, graph_of(records), reading.hashes_for(stores, name))
    records = reading.read_start(stores, records, start)
    rough = walk(graph_of(records), start, most, depth)
    datasets = {node.key.partition(":")[2] for node in rough.nodes if node.kind == "dataset"}
    records = reading.read_contents(stores, records, datasets)
    return walk(graph_of(records), start, most, depth)
