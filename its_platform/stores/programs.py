"""git and DVC as programs, for the data repository: what they are called with, and what their failure is told as.

Neither a person's own configuration nor the checkout around the home folder has a say in what they do here.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from its_platform.errors import PermanentError, ServerUnavailable
from its_platform.settings import Settings
from its_platform.telemetry import SILENT

_TIMEOUT_S = 600


class DataRepositoryBroken(PermanentError):
    """The data repository or its remote does not hold what it should."""


def git(where: Path, *words: str) -> str:
    """What git says. Raises `DataRepositoryBroken` where it fails."""
    # It does not tidy up in the background: whoever comes next removes the locks that are there.
    return _run(["git", "-c", "safe.directory=*", "-c", "gc.autoDetach=false", *words], where, None)


def dvc(settings: Settings, where: Path, *words: str) -> str:
    """What DVC says. Raises `DataRepositoryBroken` where it fails."""
    return _run([str(dvc_program(settings)), *words], where, settings)


def dvc_program(settings: Settings) -> Path:
    """DVC's own program. Raises `ServerUnavailable` when its environment is missing."""
    path = settings.environments / "dvc" / "bin" / "dvc"
    if not path.is_file():
        raise ServerUnavailable(f"DVC is not installed at {path.parent.parent}.", "Run `make install`.")
    return path


def _run(command: list[str], where: Path, settings: Settings | None) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "DVC_"))}
    environment |= {**SILENT, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}
    environment |= {"GIT_CEILING_DIRECTORIES": str(where.parent), "DVC_NO_ANALYTICS": "1", "LC_ALL": "C.UTF-8"}
    if settings is not None:
        # DVC keeps a site cache and its configuration in the home of whoever runs it, unless told otherwise.
        environment["DVC_SITE_CACHE_DIR"] = str(settings.home.absolute() / "dvc-site")
        environment["DVC_GLOBAL_CONFIG_DIR"] = str(settings.home.absolute() / "dvc-site" / "global")
        environment["DVC_SYSTEM_CONFIG_DIR"] = str(settings.home.absolute() / "dvc-site" / "system")
    try:
        done = subprocess.run(
            command, cwd=where, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise ServerUnavailable(f"{command[0]} is not installed.", "Install git and run `make install`.") from error
    except subprocess.TimeoutExpired as error:
        raise ServerUnavailable(f"`{Path(command[0]).name} {command[-1]}` took more than ten minutes.") from error
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).strip().splitlines() if line.strip()]
        told = [line for line in lines if "error" in line.lower()] or lines
        what = " ".join([Path(command[0]).name, *command[1:]])
        raise DataRepositoryBroken(
            f"`{what}` failed in {where}: {told[0] if told else 'no word from it'}", "`its doctor` looks further."
        )
    return done.stdout.strip()
