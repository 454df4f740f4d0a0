"""Evidently's server, over a workspace in which our project lies before it looks.

Run as a program, with the words of `evidently`. It looks for projects when it starts and then waits to be told of new
ones by the system, which misses one whose files are written as soon as its folder is there: the page would stay empty.
"""

from __future__ import annotations

from its_platform.monitoring.pages import ensure_workspace
from its_platform.settings import load_settings


def main() -> None:
    ensure_workspace(load_settings())
    from evidently.cli import app

    app()


if __name__ == "__main__":
    main()
