"""Which code is running, and what asked for a training: for the trace of a model. Nothing else of git belongs here."""

from __future__ import annotations

import subprocess

from its_platform.settings import REPOSITORY

# The tag of an MLflow run that names the Dagster run which asked for the training.
DAGSTER_TAG = "dagster_run_id"
# The tag of a version, and of its run, that names the version whose weights it is in another format.
EXPORTED_FROM = "exported_from"


def code_commit() -> tuple[str, bool]:
    """The commit of the code and whether tracked files differ from it; `unknown` where there is no repository."""
    commit = _git("rev-parse", "HEAD")
    return (commit, bool(_git("status", "--porcelain", "--untracked-files=no"))) if commit else ("unknown", False)


def _git(*words: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(REPOSITORY), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
