"""What `its serving tune` asks with and prints: a picture of the version's own dataset, the table of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING

from its_platform.cli.output import rows_table, say
from its_platform.errors import ItsError
from its_platform.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from its_platform.serving.client import Images
    from its_platform.serving.sweep import Sweep


def picture_for(settings: Settings, version: int) -> Images:
    """The busiest golden picture of a version's dataset as `[1, H, W, 3]`; a rendered street where it is not there."""
    from its_platform.release.measured import picture_source
    from its_platform.stores import open_stores
    from its_platform.stores.registry import MODEL_NAME

    try:
        stores = open_stores(settings)
        return picture_source(stores)(stores.registry.get(MODEL_NAME, version))[None]
    except ItsError as error:
        from its_platform.simulation import render, views

        say(f"A rendered street is asked about, since the version's own pictures cannot be read: {error.message}")
        return render(views()[0], 7, 30.0).image[None]


def sweep_table(found: Sweep) -> Table:
    """The medians of every setting, the best one marked."""
    best = found.choice.best.candidate
    rows = []
    for one in found.measured:
        marks = ["best"] * (one.candidate == best) + ["in force"] * (one.candidate == found.in_force)
        rows.append({**one.as_row(), "": ", ".join(marks)})
    return rows_table(rows, title=f"{found.model} version {found.version}, {found.load.concurrency} under way")
