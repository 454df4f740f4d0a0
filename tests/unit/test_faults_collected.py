"""That servers are missing is said before the first fault, not after the half that needs none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def collect(empty: Path, required: str, chosen: str) -> tuple[int, str]:
    """Exit code and words of a run that ends before the first test, on a machine without any server."""
    environment = {**os.environ, "ITS_REQUIRE_SERVICES": required, "ITS_ENVIRONMENTS": str(empty), "PATH": str(empty)}
    words = ["-m", "pytest", str(ROOT / "tests" / "faults" / chosen), "-m", "faults", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *words, "--collect-only"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("required", "code", "said"),
    [
        ("0", 0, "The faults of the services profile will be skipped: a server of the services profile"),
        ("1", pytest.ExitCode.USAGE_ERROR, "is required here and missing"),
    ],
)
def test_missing_servers_are_told_or_refused_before_the_first_fault(
    tmp_path: Path, required: str, code: int, said: str
) -> None:
    ended, words = collect(tmp_path, required, "")
    assert ended == code, words
    assert said in words


def test_who_chose_faults_of_the_embedded_profile_alone_needs_no_server(tmp_path: Path) -> None:
    ended, words = collect(tmp_path, "1", "test_faults.py")
    assert ended == 0, words
    assert "is missing" not in words
