"""Two Tritons that serve the same: requests are spread over both, one dies under load, releases reach the living."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from its_detector_client import ClientError, DetectorClient
from its_platform.release import promote, real_outside, reconcile
from its_platform.serving.client import detect_once, with_client
from its_platform.serving.processes import running, servers, stubs, stubs_of_home
from its_platform.serving.replicas import live_endpoints, replica_settings
from its_platform.serving.server import start_triton, start_tritons, stop_tritons
from its_platform.stores import Stores
from its_platform.stores.registry import Registry
from ports import free_port_range
from tests.fakes import card_of, tiny_onnx
from tests.integration.site import MODEL, PICTURE, Site, even_answers

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def site(stores: Stores, registry: Registry, tmp_path: Path, require: Callable[[bool, str], None]) -> Iterator[Site]:
    update = {"latency_spread": 50.0, "latency_ratio": 20.0, "latency_rounds": 3, "latency_requests": 3}
    settings = stores.settings.model_copy(
        update={
            "gates": stores.settings.gates.model_copy(update=update),
            "serving": stores.settings.serving.model_copy(update={"replicas": 2}),
            "ports": stores.settings.ports.model_copy(update={"triton_replicas": free_port_range(3)}),
        }
    )
    require((settings.environments / "tritonserver" / "pytriton").is_dir(), "the bundled Triton")
    own = replace(stores, settings=settings)
    start_tritons(settings)
    yield Site(own, registry, replace(real_outside(own), evaluate=even_answers, card=card_of), tmp_path)
    stop_tritons(settings)
    assert (servers(settings), stubs_of_home(settings)) == ([], [])


@dataclass
class Load:
    """Three callers that never stop; where each answer came from, and what no retry covered."""

    answered: list[tuple[str, int]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def ask(self, client: DetectorClient, is_over: threading.Event) -> None:
        while not is_over.is_set():
            try:
                answer = client.detect(PICTURE, "load", purpose="gate")
                self.answered.append((answer.endpoint, answer.model_version))
            except ClientError as error:
                self.failures.append(str(error))
            is_over.wait(0.01)


@pytest.fixture
def load(site: Site) -> Iterator[Callable[[], Load]]:
    is_over, threads, seen = threading.Event(), [], Load()
    with DetectorClient(live_endpoints(site.stores.settings), deadline_s=20.0) as client:

        def start() -> Load:
            threads.extend(threading.Thread(target=seen.ask, args=(client, is_over)) for _ in range(3))
            for thread in threads:
                thread.start()
            return seen

        yield start
        is_over.set()
        for thread in threads:
            thread.join(30)


def until(is_so: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.05)


def test_a_replica_killed_under_load_costs_no_answer_and_releases_reach_all_that_live(
    site: Site, load: Callable[[], Load]
) -> None:
    first, second = replica_settings(site.stores.settings)
    version = site.train(tiny_onnx(note="first"))
    site.release(version)
    assert {detect_once(own, PICTURE, purpose="probe").model_version for own in (first, second)} == {version}
    assert len(stubs(first)) == len(stubs(second)) == len(stubs_of_home(first)) / 2

    seen = load()
    until(lambda: len(seen.answered) > 100, "answers come")
    spread = Counter(endpoint for endpoint, _ in seen.answered)
    assert set(spread) == {first.triton_grpc, second.triton_grpc}
    assert min(spread.values()) > 0.3 * sum(spread.values())

    victim = running(second)
    assert victim is not None
    count = len(seen.answered)
    os.kill(victim.pid, signal.SIGKILL)
    until(lambda: len(seen.answered) > count + 100, "the other one answers on")
    assert {endpoint for endpoint, _ in seen.answered[-50:]} == {first.triton_grpc}

    # A release goes on with the one that lives; the other has it when it is back.
    newer = site.train(tiny_onnx(note="second"))
    site.judge(newer)
    promote(site.stores, newer, "production", "tester", "", outside=site.outside)
    start_triton(second, name="triton-2")
    until(lambda: (second.triton_grpc, newer) in seen.answered, "the replica that is back is asked again")

    # What one of them forgot is not called ready, and is loaded there again.
    assert newer in site.outside.server.ready()[MODEL]
    with_client(second, lambda client: client.unload(MODEL))
    assert newer not in site.outside.server.ready().get(MODEL, set())
    assert "restored" in [change.kind for change in reconcile(site.stores, "tester", outside=site.outside)]
    assert newer in site.outside.server.ready()[MODEL]
    answers = {detect_once(own, np.zeros((8, 8, 3), np.uint8), purpose="gate").model_version for own in (first, second)}
    assert answers == {newer}
    site.assert_served(newer)
