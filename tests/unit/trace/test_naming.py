"""What an ID may mean, and what is said when it means nothing or several things."""

from __future__ import annotations

import pytest

from its_platform.errors import BadInput, NotFound
from its_platform.trace.graph import Graph, Node
from its_platform.trace.naming import beginning_of_hash, resolve

FRAME = "ab12cd" + "0" * 58
NODES = (
    Node("camera:junction", "camera", ""),
    Node("dataset:v3", "dataset", "", {"digest": "d1" * 32}),
    Node("golden:1", "golden", ""),
    Node("run:0a1b2c3d4e5f60718293a4b5c6d7e8f9", "training", ""),
    Node("run:7f3c2a10-1111-4222-8333-944445555666", "run", ""),
    Node("model:3", "model", "", {"name": "traffic-detector/3", "digest": "ab12cd" + "f" * 58}),
    Node("model:4", "model", "", {"name": "traffic-detector/4"}),
    Node("release:3", "release", "", {"stage": "production", "until": "now"}),
    Node("release:2", "release", "", {"stage": "production", "until": "2026"}),
    Node("report:v1-20260501T080000-abcdef01", "report", ""),
    Node("decision:12", "decision", ""),
)
GRAPH = Graph({node.key: node for node in NODES})


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("dataset:v3", "dataset:v3"),
        ("v3", "dataset:v3"),
        ("model:3", "model:3"),
        ("traffic-detector/3", "model:3"),
        ("model:traffic-detector/3", "model:3"),
        ("release:3", "release:3"),
        ("release:production", "release:3"),
        ("production", "release:3"),
        ("golden:1", "golden:1"),
        ("1", "golden:1"),
        ("12", "decision:12"),
        ("junction", "camera:junction"),
        ("report:v1-20260501T080000-abcdef01", "report:v1-20260501T080000-abcdef01"),
        ("v1-20260501", "report:v1-20260501T080000-abcdef01"),
        ("run:7f3c2a10", "run:7f3c2a10-1111-4222-8333-944445555666"),
        ("7f3c2a10-1111-4222-8333-944445555666", "run:7f3c2a10-1111-4222-8333-944445555666"),
        ("0a1b2c3d", "run:0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
        ("d1d1d1d1d1d1", "dataset:v3"),
    ],
)
def test_an_id_names_one_thing(text: str, key: str) -> None:
    assert resolve(text, GRAPH) == key


def test_the_beginning_of_a_hash_names_the_only_frame_that_has_it() -> None:
    assert resolve("frame:ab12cd", GRAPH, [FRAME]) == f"frame:{FRAME}"
    assert resolve("ab12cd000", GRAPH, [FRAME]) == f"frame:{FRAME}"


def test_a_plain_number_that_several_things_have_lists_its_readings() -> None:
    with pytest.raises(BadInput, match="'3' may be model:3, release:3") as told:
        resolve("3", GRAPH)
    assert told.value.hint == "Give one of these."


def test_a_hash_that_is_also_a_digest_lists_both() -> None:
    with pytest.raises(BadInput, match=f"frame:{FRAME}, model:3"):
        resolve("ab12cd", GRAPH, [FRAME])


def test_two_frames_that_begin_so_are_both_told() -> None:
    other = "ab12cd" + "1" * 58
    with pytest.raises(BadInput, match=f"frame:{FRAME}, frame:{other}"):
        resolve("frame:ab12cd", GRAPH, [FRAME, other])


@pytest.mark.parametrize("text", ["nowhere", "dataset:v9", "model:9", "other-model/3", "frame:ab12cd", "9", "staging"])
def test_a_name_that_nothing_has_is_told_with_the_grammar(text: str) -> None:
    with pytest.raises(NotFound) as told:
        resolve(text, GRAPH)
    assert "frame:HASH" in told.value.hint


def test_an_unknown_kind_is_bad_input() -> None:
    with pytest.raises(BadInput, match="no kind 'picture'"):
        resolve("picture:3", GRAPH)


def test_a_hash_needs_six_characters() -> None:
    assert beginning_of_hash("ab12c") is None
    assert beginning_of_hash("AB12CD") == "ab12cd"
    assert beginning_of_hash("dataset:ab12cd") is None
    with pytest.raises(BadInput, match="6 or more"):
        beginning_of_hash("frame:ab1")
