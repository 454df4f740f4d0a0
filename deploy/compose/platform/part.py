#!/opt/its/.venv/bin/python
"""One part of the platform in a container: `its-part prepare`, `its-part serve PART`, `its-part ask PART`.

Serving becomes the very program that `its up` would start, listening on the container's own addresses. What is to be
there before the parts share it is made by `prepare`. Asking is the container's health check.
"""

from __future__ import annotations

import os
import sys

from its_platform import dagster_runs
from its_platform.errors import ItsError
from its_platform.parts import part_named
from its_platform.settings import Settings, load_settings
from its_platform.stores.prepare import dagster_environment, prepare

DAEMON = "dagster-daemon"
# As workspace.yaml asks for it; the platform itself takes it for a part of the same machine.
CODE_HOST = "ITS_DAGSTER_CODE_HOST"


def make_ready(settings: Settings) -> None:
    """Databases, tables and bucket; the front in Triton's repository. Raises `ServerUnavailable`."""
    from dagster._core.nux import set_nux_seen

    from its_platform.serving.repository import prepare_repository

    prepare(settings)
    prepare_repository(settings)
    os.environ.update(dagster_environment(settings))
    # Its page would ask every newcomer for an address to send news to.
    set_nux_seen()


def program(settings: Settings, name: str) -> tuple[list[str], dict[str, str]]:
    """The words and the environment of a part: it listens everywhere, and asks where the settings say."""
    words, _ = part_named(name).command(settings.model_copy(update={"host": "0.0.0.0"}))
    _, environment = part_named(name).command(settings)
    return words, environment | {key: os.environ[key] for key in (CODE_HOST,) if key in os.environ}


def serve(settings: Settings, name: str) -> None:
    """Become the part."""
    if name == DAEMON and dagster_runs.has_runs_under_way(settings):
        # They were processes of a container that is gone.
        dagster_runs.settle(settings)
    words, environment = program(settings, name)
    os.execve(words[0], words, environment)


def answers(settings: Settings, name: str) -> bool:
    """Whether the part in this container does its work."""
    if name == DAEMON:
        words, environment = program(settings, name)
        os.execve(words[0], [words[0], "liveness-check"], environment)
    return part_named(name).is_healthy(settings.model_copy(update={"host": "127.0.0.1"}))


def main(words: list[str]) -> int:
    """The exit status."""
    try:
        settings = load_settings()
        match words:
            case ["prepare"]:
                make_ready(settings)
            case ["serve", name]:
                serve(settings, name)
            case ["ask", name]:
                return 0 if answers(settings, name) else 1
            case _:
                sys.stderr.write(__doc__ or "")
                return 2
    except (ItsError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
