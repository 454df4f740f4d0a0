"""Evidently's server, over a workspace in which our project lies before it looks, and without the pictures in memory.

Run as a program, with the words of `evidently`. It looks for projects when it starts and then waits to be told of new
ones by the system, which misses one whose files are written as soon as its folder is there: the page would stay empty.
"""

from __future__ import annotations

from typing import Any

from its_platform.monitoring.pages import ensure_workspace
from its_platform.settings import load_settings


def main() -> None:
    ensure_workspace(load_settings())
    forget_pictures()
    from evidently.cli import app

    app()


def forget_pictures() -> None:
    """Have the server keep of each run what its lists and lines need: one that is opened it reads from its file."""
    from evidently.ui.service.storage.local.base import LocalState

    load = LocalState.reload_snapshot

    def reload_snapshot(state: Any, project: Any, number: Any, skip_errors: bool = True) -> None:
        load(state, project, number, skip_errors)
        run = state.snapshots[project.id].get(number)
        if run is not None:
            run.widgets, run.tests_widgets = [], []
            for result in run.metric_results.values():
                result.widget = []

    LocalState.reload_snapshot = reload_snapshot


if __name__ == "__main__":
    main()
