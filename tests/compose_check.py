"""The program of `deploy/compose/check`, built once by Go into the user's cache: it reads projects as Compose does."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deployed import COMPOSE
from its_platform.private_files import alone
from needs import need

SOURCES = COMPOSE / "check"
BUILD_S = 280


def compose_check() -> Path:
    """The program. A visible skip where Go is missing or cannot fetch and build it."""
    said = b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir()))
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "its-platform"
    program = cache / f"compose-check-{hashlib.sha256(said).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache / ".compose-check.lock"):
        if program.is_file():
            return program
        if (go := shutil.which("go")) is None:
            pytest.skip("Go is missing, which would build the check of Compose files")
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
