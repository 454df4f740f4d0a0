"""The examples for live systems, and NVIDIA's load generator, against a real Triton: each knows only the contract."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from its_detector_client import encode_jpeg
from its_platform.serving.repository import read_routes
from needs import need
from triton_site import IN_PICTURE, PICTURE, Platform, running_platform, wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(240)]

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples" / "live"


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with running_platform(tmp_path_factory.mktemp("examples")) as found:
        yield found


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(2):
        (folder / f"{number}.jpg").write_bytes(encode_jpeg(PICTURE if number else 255 - PICTURE))
    return folder


def lines_of(command: list[str], **environment: str) -> list[dict[str, object]]:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(platform: Platform, lines: list[dict[str, object]], camera: str) -> None:
    version = read_routes(platform.settings)["production"].version
    assert [(line["picture"], line["version"]) for line in lines] == [("0.jpg", version), ("1.jpg", version)]
    for line in lines:
        (box,) = line["boxes"]  # type: ignore[misc]
        assert box["class"] == 0
        assert box["box"] == pytest.approx(IN_PICTURE, abs=0.01)
    wait_until(lambda: len(platform.rows(camera)) == 2)


def test_the_python_example_prints_what_it_was_answered(platform: Platform, pictures: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "watch.py"), platform.settings.triton_grpc, str(pictures)]
    lines = lines_of([*command, "--camera", "python"], PYTHONPATH=str(REPOSITORY / "clients" / "python"))
    check(platform, lines, "python")


def test_the_example_in_node_speaks_grpc_alone(platform: Platform, pictures: Path, tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("Node is not installed")
    folder = shutil.copytree(EXAMPLES / "node", tmp_path / "node", ignore=shutil.ignore_patterns("node_modules"))
    install = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
    fetched = subprocess.run(install, cwd=folder, check=False, capture_output=True, text=True, timeout=180)
    if fetched.returncode != 0:
        pytest.skip(f"npm cannot fetch the example's packages: {fetched.stderr.strip()[-300:]}")
    files = [str(path) for path in sorted(pictures.glob("*.jpg"))]
    check(platform, lines_of([node, str(folder / "detect.js"), platform.settings.triton_grpc, "node", *files]), "node")


def test_perf_analyzer_drives_the_front_without_knowing_anything_of_the_platform(platform: Platform) -> None:
    load = platform.settings.environments / "load"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(load / "nvidia" / "cuda_runtime" / "lib")}
    program = load / "bin" / "perf_analyzer"
    need(program.is_file(), "NVIDIA's load generator (make load)")
    asked = ["-m", "traffic_detector", "-i", "grpc", "-u", platform.settings.triton_grpc]
    command = [program, *asked, "--shape", "images:1,360,640,3", "--concurrency-range", "2", "--request-count", "100"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, env=environment)
    need("libb64" not in done.stderr, "a library of perf_analyzer (apt-get install libb64-0d)")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Successful request count: 100" in done.stdout
    assert "Inference count: 100" in done.stdout
