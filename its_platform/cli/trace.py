"""`its trace`: where anything came from, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from its_platform.cli.output import JsonFlag, emit, say

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text
    from rich.tree import Tree

    from its_platform.trace import Branch, Chain

COLOURS = {
    "camera": "blue",
    "frame": "blue",
    "labels": "blue",
    "dataset": "cyan",
    "golden": "cyan",
    "run": "yellow",
    "training": "yellow",
    "model": "magenta",
    "release": "green",
    "predictions": "green",
    "prediction": "green",
    "report": "bright_blue",
    "decision": "bright_yellow",
}
# A line of a chain holds more facts than a row of a table.
PIPE_COLUMNS = 240
MOODS = {"good": "[green]●[/] ", "bad": "[red]●[/] ", "": ""}


def trace(
    name: Annotated[
        list[str],
        typer.Argument(
            metavar="ID",
            show_default=False,
            help="frame:HASH, dataset:v1, model:1, release:1, report:ID, run:ID, decision:1, golden:1, camera:NAME; "
            "the kind may be left out where only one thing has the ID.",
        ),
    ],
    most: Annotated[int, typer.Option(min=1, help="How many of one kind are named; the others are counted.")] = 3,
    depth: Annotated[int, typer.Option(min=1, max=200, help="Steps from the start, in either direction.")] = 12,
    picture: Annotated[Path | None, typer.Option(help="Write the chain as a picture (.svg or .html) here.")] = None,
    json: JsonFlag = False,
) -> None:
    """Show where a frame, dataset, model, release, report or run came from, and what came of it."""
    from its_platform.errors import BadInput
    from its_platform.settings import load_settings
    from its_platform.stores import open_stores
    from its_platform.trace import trace as trace_chain
    from its_platform.trace.picture import written

    if len(name) > 2:
        raise BadInput(f"{' '.join(name)!r} is more than one ID.", "Give one, such as model:3 or `model 3`.")
    if picture is not None and picture.suffix not in (".svg", ".html"):
        raise BadInput(f"A picture of the kind {picture.suffix!r} is not written.", "Call it .svg or .html.")
    chain = trace_chain(open_stores(load_settings()), ":".join(name), most, depth)
    if picture is not None:
        picture.write_text(written(chain, picture.suffix), "utf-8")
        say(f"Picture: {picture}")
    emit(chain.as_dict(), json, lambda: trees(chain), PIPE_COLUMNS)


def trees(chain: Chain) -> RenderableType:
    """Both trees, for a terminal."""
    from rich.console import Group

    return Group(_line(chain.came_from), _tree(chain.came_from, "came from"), _tree(chain.led_to, "led to"))


def _tree(root: Branch, title: str) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(title, style="bold"), guide_style="dim")
    _grow(tree, root)
    if not tree.children:
        tree.add(Text("nothing", style="dim italic"))
    return tree


def _grow(tree: Tree, branch: Branch) -> None:
    from rich.text import Text

    from its_platform.trace.words import remarks

    for child in branch.branches:
        _grow(tree.add(_line(child)), child)
    for remark in remarks(branch):
        tree.add(Text(remark, style="dim italic"))


def _line(branch: Branch) -> Text:
    from rich.text import Text

    from its_platform.trace.words import told

    node = branch.node
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append_text(Text.from_markup(MOODS[node.mood]))
    line.append(node.short, style=f"bold {COLOURS[node.kind]}")
    if branch.how:
        line.append(f" {branch.how}", style="italic")
    if branch.is_repeated:
        line.append(" (shown elsewhere)", style="dim")
    else:
        line.append(f"  {told(node)}", style="dim" if node.kind in ("camera", "frame") else "")
    return line
