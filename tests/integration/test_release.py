"""A release on the real Triton, MLflow and PostgreSQL, with live requests going on throughout."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from its_platform.errors import GateNotPassed
from its_platform.release import VersionDoesNotServe, history, promote, reconcile, rollback, stage
from its_platform.serving.client import with_client
from its_platform.stores.registry import MODEL_NAME
from tests.fakes import CORRUPT, tiny_onnx
from tests.integration.site import MODEL, Site

pytestmark = [pytest.mark.services, pytest.mark.slow]

CAMERA = """
import time
import numpy as np
from its_platform.errors import ItsError
from its_platform.release.golden import GoldenAnswers
from its_platform.serving.client import detect_once
from its_platform.settings import load_settings
settings, picture = load_settings(), np.full((48, 64, 3), 90, np.uint8)
while True:
    try:
        print("answer", detect_once(settings, picture, purpose="probe").model_version, flush=True)
    except ItsError as error:
        print("failure", error, flush=True)
    time.sleep(0.2)
"""


@dataclass
class Traffic:
    """A camera that never stops asking: a process of its own, as a real one is."""

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def versions(self) -> list[int]:
        return [int(line.split()[1]) for line in self.lines() if line.startswith("answer ")]

    def failures(self) -> list[str]:
        return [line for line in self.lines() if not line.startswith("answer ")]

    def wait_for(self, version: int, timeout_s: float = 60.0) -> None:
        """Until the camera's latest answer is of this version."""
        end = time.monotonic() + timeout_s
        while self.versions()[-1:] != [version]:
            assert time.monotonic() < end, f"no answer of version {version} in {timeout_s:.0f} s: {self.lines()[-3:]}"
            assert self.process.poll() is None, self.lines()[-3:]
            time.sleep(0.1)


@pytest.fixture
def traffic(site: Site) -> Iterator[Callable[[], Traffic]]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> Traffic:
        settings = site.stores.settings
        environment = {
            **os.environ,
            "ITS_HOME": str(settings.home),
            "ITS_PORTS__TRITON_GRPC": str(settings.ports.triton_grpc),
        }
        log = site.folder / "camera.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", CAMERA], env=environment, stdout=file, stderr=subprocess.STDOUT
            )
        started.append(process)
        return Traffic(process, log)

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_releases_follow_each_other_under_live_requests(site: Site, traffic: Callable[[], Traffic]) -> None:
    first = site.train(tiny_onnx(note="first"))
    site.release(first)
    site.assert_served(first)
    camera = traffic()
    camera.wait_for(first)

    second = site.train(tiny_onnx(((5, 5, 30, 30, 0.8, 1),), note="second"))
    site.release(second)
    site.assert_served(second)
    camera.wait_for(second)

    corrupt = site.train(CORRUPT)
    with pytest.raises(VersionDoesNotServe):
        stage(site.stores, corrupt, "tester", "", outside=site.outside)
    with pytest.raises(GateNotPassed):
        promote(site.stores, corrupt, "production", "tester", "", outside=site.outside)
    site.registry.set_alias(MODEL_NAME, "production", corrupt)
    assert [change.kind for change in reconcile(site.stores, "tester", outside=site.outside)] == ["refused"]
    site.assert_served(second)
    assert site.outside.server.placed() == {MODEL: {first, second}}

    rollback(site.stores, "tester", "it misses buses", outside=site.outside)
    site.assert_served(first)
    camera.wait_for(first)

    assert camera.failures() == []
    assert set(camera.versions()) == {first, second}
    assert [row.version for row in history(site.stores, "production")] == [first, second, first]


def test_a_triton_that_forgot_everything_serves_the_truth_again(site: Site) -> None:
    first = site.train(tiny_onnx(note="first"))
    site.release(first)
    with_client(site.stores.settings, lambda client: client.unload(MODEL))
    assert first not in site.outside.server.ready().get(MODEL, set())
    kinds = [change.kind for change in reconcile(site.stores, "tester", outside=site.outside)]
    assert "restored" in kinds
    site.assert_served(first)
