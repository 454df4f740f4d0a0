"""The program of `deploy/compose/check`, built once by Go into the user's cache: it reads projects as Compose does."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from deployed import COMPOSE
from its_platform.private_files import alone
from its_platform.settings import REPOSITORY
from needs import need

SOURCES = COMPOSE / "check"
BUILD_S = 280
# The files of a wheel that carries Go, for a machine that has none.
OWN_GO = REPOSITORY / ".venvs" / "go" / "go" / "bin" / "go"


def compose_check() -> Path:
    """The program. Where Go is missing or cannot build it, a visible skip, and a failure where all is required."""
    said = b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir()))
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "its-platform"
    program = cache / f"compose-check-{hashlib.sha256(said).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache / ".compose-check.lock"):
        if program.is_file():
            return program
        go = shutil.which("go") or shutil.which(OWN_GO)
        need(go is not None, "Go, which builds the check of Compose files (make .venvs/go/.done),")
        unfinished = cache / f".building-{os.getpid()}"
        built = subprocess.run(
            [go, "build", "-mod=readonly", "-buildvcs=false", "-o", str(unfinished), "."],
            cwd=SOURCES,
            env={**os.environ, "CGO_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=BUILD_S,
            check=False,
        )
        need(built.returncode == 0, f"the check of Compose files, which Go could not build: {built.stderr[-300:]}")
        unfinished.replace(program)
    return program
