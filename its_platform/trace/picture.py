"""A chain to look at: an SVG with time running downwards, and both trees as lists. Needs nothing from outside.

Pure. Every node is a box whose title holds its facts; the start is drawn strongest.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from textwrap import wrap
from typing import TYPE_CHECKING

from its_platform.trace.graph import KINDS
from its_platform.trace.words import remarks, told

if TYPE_CHECKING:
    from its_platform.trace.graph import Branch, Chain, Link, Node

BOX_W, BOX_H, GAP_X, GAP_Y, EDGE = 214, 52, 18, 34, 12
LETTERS = 33
HUES = {
    "camera": 215,
    "frame": 215,
    "labels": 215,
    "dataset": 187,
    "golden": 187,
    "run": 38,
    "training": 38,
    "model": 300,
    "release": 140,
    "predictions": 140,
    "prediction": 140,
    "report": 235,
    "decision": 15,
}
_STYLE = """
.trace text{font:12px system-ui,sans-serif;fill:#1c2430}
.trace .id{font-weight:600}
.trace .soft{fill:#5c6773;font-size:11px}
.trace path{fill:none;stroke:#9aa6b2;stroke-width:1.2}
.trace .start rect{stroke-width:3}
"""


def written(chain: Chain, suffix: str) -> str:
    """The content of a file of this kind: `.svg` or `.html`."""
    if suffix == ".svg":
        return svg(chain, is_alone=True)
    title = escape(f"{chain.start.short}: where it came from and what came of it")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
        f'<body style="font:16px system-ui,sans-serif;background:#f6f7f9"><h1 style="font-size:20px">{title}</h1>'
        f"{section(chain)}</body></html>\n"
    )


def section(chain: Chain) -> str:
    """A part of a page: the picture, and below it what is told of each node, in both directions."""
    sides = (("came from", chain.came_from), ("led to", chain.led_to))
    lists = [f"<h3>{escape(chain.start.short)} {title}</h3>{_list(root)}" for title, root in sides]
    return f'<div style="overflow-x:auto">{svg(chain)}</div>\n{"".join(lists)}'


def _list(branch: Branch) -> str:
    lines = []
    for child in branch.branches:
        how = f" <em>{escape(child.how)}</em>" if child.how else ""
        facts = "<small>(shown elsewhere)</small>" if child.is_repeated else escape(told(child.node))
        lines.append(f"<code>{escape(child.node.short)}</code>{how} {facts}{_list(child)}")
    lines += [f"<small>{escape(remark)}</small>" for remark in remarks(branch)]
    items = "\n".join(f"<li>{line}</li>" for line in lines)
    return f'<ul style="margin:0;padding-left:18px">{items}</ul>' if lines else ""


def svg(chain: Chain, is_alone: bool = False) -> str:
    """The picture. is_alone: as a file of its own, which has to name its language; inside a page it does not."""
    nodes = {node.key: node for node in chain.nodes}
    rows = _rows(nodes, chain.links)
    widest = max(len(row) for row in rows)
    width = 2 * EDGE + widest * (BOX_W + GAP_X) - GAP_X
    height = 2 * EDGE + len(rows) * (BOX_H + GAP_Y) - GAP_Y
    places: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        left = (width - len(row) * (BOX_W + GAP_X) + GAP_X) / 2
        for place, key in enumerate(row):
            places[key] = (left + place * (BOX_W + GAP_X), EDGE + number * (BOX_H + GAP_Y))
    language = ' xmlns="http://www.w3.org/2000/svg"' if is_alone else ""
    parts = [
        f'<svg{language} class="trace" role="img" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" style="background:#fff">',
        f"<style>{_STYLE}</style>",
        *(_arrow(link, places) for link in chain.links),
        *(_box(node, places[key], key == chain.start.key) for key, node in nodes.items()),
        "</svg>",
    ]
    return "\n".join(parts)


def _rows(nodes: Mapping[str, Node], links: tuple[Link, ...]) -> list[list[str]]:
    """Nodes by row: each below everything that it came of. Within a row near the middle of those above."""
    level = dict.fromkeys(nodes, 0)
    # As often as there are nodes is enough for any chain; a ring of links would otherwise sink for ever.
    for _ in nodes:
        moved = False
        for link in links:
            if level[link.below] <= level[link.above] < len(nodes):
                level[link.below], moved = level[link.above] + 1, True
        if not moved:
            break
    # What has nothing above it stands right above the first that came of it, not at the top.
    for link in links:
        if not any(other.below == link.above for other in links):
            firsts = [level[other.below] for other in links if other.above == link.above]
            level[link.above] = max(0, min(firsts) - 1)
    used = sorted(set(level.values()))
    rows = [[key for key in nodes if level[key] == one] for one in used]
    place: dict[str, float] = {}
    for row in rows:
        for key in row:
            above = [place[link.above] for link in links if link.below == key and link.above in place]
            place[key] = sum(above) / len(above) if above else 0.5
        row.sort(key=lambda key: (place[key], KINDS.index(nodes[key].kind)))
        for number, key in enumerate(row):
            place[key] = (number + 0.5) / len(row)
    return rows


def _arrow(link: Link, places: Mapping[str, tuple[float, float]]) -> str:
    (x1, y1), (x2, y2) = places[link.above], places[link.below]
    x1, y1, x2 = x1 + BOX_W / 2, y1 + BOX_H, x2 + BOX_W / 2
    bend = max(GAP_Y / 2, abs(y2 - y1) / 2)
    # One that passes by other rows goes round their boxes rather than behind them.
    aside = 0.0 if y2 - y1 <= GAP_Y else BOX_W if x2 >= x1 else -BOX_W
    title = f"<title>{escape(link.how)}</title>" if link.how else ""
    towards = f"C{x1 + aside:g} {y1 + bend:g} {x2 + aside:g} {y2 - bend:g} {x2:g} {y2:g}"
    return f'<path d="M{x1:g} {y1:g}{towards}">{title}</path>'


def _box(node: Node, place: tuple[float, float], is_start: bool) -> str:
    x, y = place
    hue, facts = HUES[node.kind], told(node)
    edge = {"good": "#1a7f4b", "bad": "#b3382c", "": f"hsl({hue} 45% 55%)"}[node.mood]
    first, second = [*wrap(facts, LETTERS, max_lines=2, placeholder="…"), "", ""][:2]
    lines = [("id", 17, _cut(node.short, LETTERS - 3)), ("soft", 32, first), ("soft", 45, second)]
    said = "".join(
        f'<text class="{name}" x="{x + 9:g}" y="{y + down:g}">{escape(text)}</text>' for name, down, text in lines
    )
    return (
        f'<g class="{"start" if is_start else "node"}"><title>{escape(node.key)}: {escape(facts)}</title>'
        f'<rect x="{x:g}" y="{y:g}" width="{BOX_W}" height="{BOX_H}" rx="7" fill="hsl({hue} 60% 95%)" '
        f'stroke="{edge}"/>{said}</g>'
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
