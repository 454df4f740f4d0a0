"""The walk in both directions, over made-up nodes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from its_platform.trace.graph import Branch, Chain, Graph, Link, Node, walk
from its_platform.trace.picture import svg, written

AT = datetime(2026, 5, 1, tzinfo=UTC)


def node(key: str, seconds: int = 0) -> Node:
    return Node(key, key.partition(":")[0], key, {"reason": f"<{key}>"}, AT + timedelta(seconds=seconds))


def graph(*links: tuple[str, str], **more: object) -> Graph:
    keys = dict.fromkeys(key for link in links for key in link)
    nodes = {key: node(key, number) for number, key in enumerate(keys)}
    return Graph(nodes, tuple(Link(*link) for link in links), **more)  # type: ignore[arg-type]


def shape(branch: Branch) -> dict[str, object]:
    return {child.node.key: shape(child) for child in branch.branches}


LOOP = (
    ("dataset:v1", "training:1"),
    ("training:1", "model:1"),
    ("model:1", "release:1"),
    ("release:1", "predictions:1"),
    ("predictions:1", "report:1"),
    ("report:1", "decision:1"),
    ("decision:1", "run:1"),
    ("run:1", "dataset:v2"),
    ("dataset:v1", "dataset:v2"),
    ("dataset:v2", "training:2"),
    ("training:2", "model:2"),
)


def test_from_the_middle_the_chain_runs_to_both_its_ends() -> None:
    chain = walk(graph(*LOOP), "report:1", most=3, depth=20)
    assert [branch.node.key for branch in chain.came_from.walk()] == [
        "report:1",
        "predictions:1",
        "release:1",
        "model:1",
        "training:1",
        "dataset:v1",
    ]
    assert [branch.node.key for branch in chain.led_to.walk()][-1] == "model:2"
    assert chain.start.key == "report:1"


def test_a_node_that_is_reached_twice_is_unfolded_where_it_is_nearest() -> None:
    chain = walk(graph(*LOOP), "model:2", most=3, depth=20)
    found = [
        (b.node.key, b.is_repeated, bool(b.branches)) for b in chain.came_from.walk() if b.node.key == "dataset:v1"
    ]
    assert sorted(found) == [("dataset:v1", False, False), ("dataset:v1", True, False)]
    assert chain.came_from.branches[0].branches[0].branches[0].node.key == "dataset:v1"


def test_what_goes_on_beyond_the_depth_says_so() -> None:
    chain = walk(graph(*LOOP), "model:1", most=3, depth=2)
    assert shape(chain.led_to) == {"release:1": {"predictions:1": {}}}
    assert [branch.node.key for branch in chain.led_to.walk() if branch.is_cut] == ["predictions:1"]
    assert not any(branch.is_cut for branch in chain.came_from.walk())


def test_a_wide_fan_is_counted_and_what_leads_on_is_named_first() -> None:
    reports = [("predictions:1", f"report:{number}") for number in range(40)]
    chain = walk(graph(*reports, ("report:7", "decision:1")), "predictions:1", most=3, depth=9)
    assert [branch.node.key for branch in chain.led_to.branches] == ["report:7", "report:39", "report:38"]
    assert chain.led_to.more == {"report": 37}


def test_neighbours_that_are_no_nodes_are_counted_too() -> None:
    few = graph(("frame:a", "dataset:v1"), counted={("dataset:v1", "above", "frame"): 400})
    assert walk(few, "dataset:v1", most=3, depth=9).came_from.more == {"frame": 399}


def test_a_ring_of_links_ends() -> None:
    ring = graph(("model:1", "release:1"), ("release:1", "run:1"), ("run:1", "model:1"))
    chain = walk(ring, "model:1", most=3, depth=50)
    assert shape(chain.led_to) == {"release:1": {"run:1": {"model:1": {}}}}
    assert svg(chain).count("<rect") == 3


def test_a_chain_longer_than_pythons_stack_is_walked() -> None:
    long = graph(*((f"run:{number}", f"run:{number + 1}") for number in range(3000)))
    chain = walk(long, "run:0", most=3, depth=4)
    assert [branch.node.key for branch in chain.led_to.walk() if branch.is_cut] == ["run:4"]


def test_what_is_missing_is_said_in_its_own_direction() -> None:
    lonely = graph(("model:1", "release:1"), missing={("release:1", "below"): ("no predictions logged yet",)})
    chain = walk(lonely, "release:1", most=3, depth=9)
    assert chain.led_to.missing == ("no predictions logged yet",)
    assert chain.came_from.missing == ()
    assert chain.as_dict()["led_to"]["missing"] == [{"id": "release:1", "what": "no predictions logged yet"}]


def heights(chain: Chain) -> dict[str, float]:
    """The y of each box, by key."""
    found = {}
    for line in svg(chain).splitlines():
        if "<rect" in line:
            key = line.split("<title>")[1].split(": ")[0]
            found[key] = float(line.split('<rect x="')[1].split('y="')[1].split('"')[0])
    return found


def test_in_the_picture_everything_stands_below_what_it_came_of() -> None:
    chain = walk(graph(*LOOP), "report:1", most=3, depth=20)
    y = heights(chain)
    assert set(y) == {key for link in LOOP for key in link}
    assert all(y[link.above] < y[link.below] for link in chain.links)


def test_a_picture_asks_for_nothing_from_outside_and_shows_marks_as_text() -> None:
    chain = walk(graph(*LOOP), "report:1", most=3, depth=20)
    page = written(chain, ".html")
    assert "http" not in page
    assert "&lt;model:2&gt;" in page
    assert "<model:2>" not in page
    assert page.index("report:1 came from") < page.index("report:1 led to")
    assert page.count("<code>") == len({key for link in LOOP for key in link}) - 1
    assert written(chain, ".svg").startswith('<svg xmlns="http://www.w3.org/2000/svg"')
