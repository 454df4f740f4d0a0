"""MinIO for tests, built once from source by Go into the user's cache: nobody ships its binary any more."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from its_platform.private_files import alone
from ports import free_port_range

# The last state of its repository, which was archived after its last release; only this one is a Go module's version.
VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
BUILD_S = 1500


def minio_program() -> Path:
    """The server. A visible skip where nobody asked for it, or Go is missing or cannot fetch and build it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "its-platform"
    program = cache / f"minio-{VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache / ".minio.lock"):
        if program.is_file():
            return program
        if os.environ.get("ITS_BUILD_MINIO") != "1":
            pytest.skip("MinIO is built from source, half an hour of a core: ITS_BUILD_MINIO=1 asks for it")
        if (go := shutil.which("go")) is None:
            pytest.skip("Go is missing, which would build MinIO")
        place = cache / f".building-{os.getpid()}"
        try:
            built = subprocess.run(
                [go, "install", f"github.com/minio/minio@{VERSION}"],
                env={**os.environ, "GOBIN": str(place), "CGO_ENABLED": "0"},
                capture_output=True,
                text=True,
                timeout=BUILD_S,
                check=False,
            )
            if built.returncode != 0:
                pytest.skip(f"Go cannot build MinIO here: {built.stderr.strip().splitlines()[-1][:200]}")
            (place / "minio").replace(program)
        finally:
            shutil.rmtree(place, ignore_errors=True)
    return program


@contextmanager
def running_minio(folder: Path) -> Iterator[str]:
    """Address of a bucket of a MinIO that runs until the block ends."""
    program, port, secret = minio_program(), free_port_range(2), secrets.token_hex(16)
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "MINIO_ROOT_USER": "its",
        "MINIO_ROOT_PASSWORD": secret,
        "MINIO_KMS_SECRET_KEY": f"its:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "MINIO_UPDATE": "off",
        "MINIO_BROWSER": "off",
    }
    words = [str(program), "server", "--quiet", "--address", f"127.0.0.1:{port}"]
    words += ["--console-address", f"127.0.0.1:{port + 1}", str(folder / "data")]
    with (folder / "minio.log").open("w") as log:
        server = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not _is_well(port):
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"MinIO did not start: {(folder / 'minio.log').read_text()[-500:]}")
            time.sleep(0.2)
        yield f"s3+http://its:{secret}@127.0.0.1:{port}/its"
    finally:
        server.terminate()
        server.wait(30)


def _is_well(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/minio/health/live", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
