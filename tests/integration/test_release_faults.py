"""What the release stage promises when something breaks: live requests are answered, and the state says what happened.

One Triton, one registry and one database for all of it; each fault begins with a good version in production and a
camera that never stops asking.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import faulty_detectors
import numpy as np
import pytest

from its_detector_client import ClientError, DetectorClient
from its_platform.errors import GateNotPassed, ItsError, LeaseHeld, ServerUnavailable
from its_platform.release import (
    VersionDoesNotServe,
    canary_state,
    history,
    judge_candidate,
    look_at_canary,
    promote,
    real_outside,
    reconcile,
    release,
    served,
    stage,
    status,
    stop_canary,
    verdicts,
)
from its_platform.release.gates import failing
from its_platform.serving.pairs import collect_pairs, read_pairs
from its_platform.serving.processes import free_ports, running
from its_platform.serving.server import start_triton, stop_triton
from its_platform.settings import Ports, Settings, load_settings
from its_platform.stores import Stores
from its_platform.stores.registry import MODEL_NAME
from tests.fakes import CORRUPT, card_of, tiny_onnx
from tests.integration.site import MODEL, PICTURE, Site, even_answers

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(240)]
BOXES = ((10, 10, 60, 60, 0.9, 0),)
ELSEWHERE = (20, 20, 50, 50, 0.8, 1)
BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY, NIGHT = (np.full((48, 64, 3), grey, np.uint8) for grey in (200, 12))


@pytest.fixture(scope="module")
def site(
    make_stores: Callable[[Settings], AbstractContextManager[Stores]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("faults")
    names = list(Ports.model_fields)
    settings = load_settings(
        home=folder / "home",
        ports=dict(zip(names, free_ports(len(names)), strict=True)),
        gates={"latency_spread": 50.0, "latency_ratio": 10.0, "latency_rounds": 3, "latency_requests": 3},
        canary={"steps": [50.0, 100.0], "pairs_percent": 100.0, "minimum_blocks": 4},
    )
    if not (settings.environments / "tritonserver" / "pytriton").is_dir():
        if os.environ.get("ITS_REQUIRE_SERVICES") == "1":
            pytest.fail("the bundled Triton is required here and missing")
        pytest.skip("the bundled Triton is missing")
    with make_stores(settings) as stores:
        start_triton(stores.settings)
        try:
            outside = replace(real_outside(stores), evaluate=even_answers, card=card_of)
            made = Site(stores, stores.registry, outside, folder)
            made.release(made.train(tiny_onnx(BOXES, note="first"), proven="day"))
            yield made
        finally:
            stop_triton(stores.settings)


@dataclass
class Camera:
    """Asks all the time; what it was answered, and what no retry of its client covered."""

    versions: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@pytest.fixture
def camera(site: Site) -> Iterator[Camera]:
    with camera_at(site) as found:
        yield found
    assert found.versions
    assert found.failures == []


@contextmanager
def camera_at(site: Site) -> Iterator[Camera]:
    seen, is_over = Camera(), threading.Event()

    def ask() -> None:
        with DetectorClient(site.stores.settings.triton_grpc, deadline_s=60.0) as client:
            while not is_over.is_set():
                try:
                    seen.versions.append(client.detect(PICTURE, "trickle", purpose="probe").model_version)
                except ClientError as error:
                    seen.failures.append(str(error))
                is_over.wait(0.1)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    until(lambda: bool(seen.versions), "the camera is answered")
    try:
        yield seen
        count = len(seen.versions)
        until(lambda: len(seen.versions) > count, "the camera is still answered")
    finally:
        is_over.set()
        thread.join(70)


def until(is_so: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.02)


def said(site: Site, name: str) -> str:
    """Why what an alias asks for is not served."""
    found = next(one for one in status(site.stores, outside=site.outside) if one.stage == name)
    return found.in_the_way or ""


def test_a_corrupt_version_changes_nothing_and_its_failure_is_on_record(site: Site, camera: Camera) -> None:
    good, corrupt = site.answering(), site.train(CORRUPT)
    with pytest.raises(VersionDoesNotServe, match="cannot be loaded"):
        stage(site.stores, corrupt, "tester", "", outside=site.outside)
    event = verdicts.last_event(site.stores, "staging")
    assert event is not None
    assert event[:2] == (verdicts.FAILED, corrupt)
    assert corrupt not in site.outside.server.placed()[MODEL]
    site.assert_served(good)
    assert set(camera.versions) == {good}


def test_a_version_with_another_output_shape_is_not_served(site: Site, camera: Camera) -> None:
    good, wrong = site.answering(), site.train(faulty_detectors.wrong_shape())
    with pytest.raises(VersionDoesNotServe, match="100"):
        stage(site.stores, wrong, "tester", "", outside=site.outside)
    event = verdicts.last_event(site.stores, "staging")
    assert event is not None
    assert event[:2] == (verdicts.FAILED, wrong)
    assert wrong not in site.outside.server.placed()[MODEL]
    site.assert_served(good)
    assert set(camera.versions) == {good}


def test_a_slower_version_is_stopped_by_its_latency_and_by_nothing_else(site: Site, camera: Camera) -> None:
    good, slow = site.answering(), site.train(faulty_detectors.slow())
    stage(site.stores, slow, "tester", "", outside=site.outside)
    assert {result.name for result in failing(judge_candidate(site.stores, slow, outside=site.outside))} == {
        "latency_ratio"
    }
    with pytest.raises(GateNotPassed, match="latency"):
        promote(site.stores, slow, "production", "tester", "", outside=site.outside)
    site.assert_served(good)
    assert set(camera.versions) == {good}


def test_an_alias_set_by_hand_on_a_version_that_was_never_judged_is_refused(site: Site, camera: Camera) -> None:
    good, ungated = site.answering(), site.train(tiny_onnx(BOXES, note="never judged"))
    site.registry.set_alias(MODEL_NAME, "production", ungated)
    assert [change.kind for change in reconcile(site.stores, "tester", outside=site.outside)] == ["refused"]
    assert "not been judged" in said(site, "production")
    assert "production" in site.registry.get(MODEL_NAME, ungated).tags[verdicts.REFUSED_TAG]
    site.assert_served(good)
    site.registry.set_alias(MODEL_NAME, "production", good)
    assert reconcile(site.stores, "tester", outside=site.outside) == []
    assert set(camera.versions) == {good}


def test_a_half_written_version_is_removed_and_the_next_release_goes_through(site: Site, camera: Camera) -> None:
    half = site.stores.settings.model_repository / MODEL / "999"
    half.mkdir()
    (half / "model.onnx").write_bytes(tiny_onnx()[:50])
    good = site.train(tiny_onnx(BOXES, note="after the half one"))
    site.release(good)
    assert not half.exists()
    site.assert_served(good)
    until(lambda: camera.versions[-1] == good, "the camera is answered by the new version")


def test_of_two_promotions_at_once_one_version_is_served_and_the_other_was_told(site: Site, camera: Camera) -> None:
    both = [site.train(tiny_onnx(BOXES, note=note)) for note in ("one", "other")]
    for version in both:
        site.judge(version)
    told: dict[int, object] = {}

    def ask(version: int) -> None:
        try:
            told[version] = promote(site.stores, version, "production", str(version), "", outside=site.outside).kind
        except ItsError as error:
            told[version] = error

    threads = [threading.Thread(target=ask, args=(version,)) for version in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(found == "released" or isinstance(found, LeaseHeld) for found in told.values()), told
    done = [version for version in both if told[version] == "released"]
    open_rows = [row for row in history(site.stores, "production") if row.until is None]
    assert len(open_rows) == 1
    assert open_rows[0].version in done
    site.assert_served(open_rows[0].version)
    assert site.registry.aliases()["production"] == open_rows[0].version


def test_a_triton_killed_while_it_loads_ends_with_the_version_that_was_asked_for(site: Site, camera: Camera) -> None:
    settings, before = site.stores.settings, site.answering()
    wanted = site.train(tiny_onnx(BOXES, note="loaded twice"))
    site.judge(wanted)
    # Out of the repository again, so that production has to place and load it.
    other = site.train(tiny_onnx(BOXES, note="in its place"))
    stage(site.stores, other, "tester", "", outside=site.outside)
    until(lambda: wanted not in site.outside.server.placed()[MODEL], "the version is out of the repository")
    raised: list[ItsError] = []

    def ask() -> None:
        try:
            promote(site.stores, wanted, "production", "tester", "", outside=site.outside)
        except ItsError as error:
            raised.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    until(lambda: wanted in site.outside.server.placed()[MODEL], "the version is placed")
    server = running(settings)
    assert server is not None
    os.kill(server.pid, signal.SIGKILL)
    asking.join(120)
    assert [type(error) for error in raised] == [ServerUnavailable]
    row = served(site.stores)
    assert row is not None
    assert row.version == before, "nothing is called served that was not seen answering"
    # What the supervisor does.
    until(lambda: running(settings) is None, "the server is gone")
    start_triton(settings)
    kinds = {change.stage: change.kind for change in reconcile(site.stores, "tester", outside=site.outside)}
    assert kinds["production"] == "released"
    site.assert_served(wanted)
    until(lambda: camera.versions[-1] == wanted, "the camera is answered by the new version")


class RegistryAway:
    """A registry that does not answer."""

    def __getattr__(self, name: str) -> Any:
        raise ServerUnavailable("The registry does not answer.", "Try again.")


def test_with_the_registry_away_nothing_changes_and_the_wish_is_kept(site: Site, camera: Camera) -> None:
    before, wanted = site.answering(), site.train(tiny_onnx(BOXES, note="wished for"))
    site.judge(wanted)
    site.registry.set_alias(MODEL_NAME, "production", wanted)
    away: Any = RegistryAway()
    with pytest.raises(ServerUnavailable, match="registry"):
        reconcile(site.stores, "tester", outside=replace(site.outside, registry=away))
    site.assert_served(before)
    assert set(camera.versions) == {before}
    assert "released" in [change.kind for change in reconcile(site.stores, "tester", outside=site.outside)]
    site.assert_served(wanted)


def live(site: Site, minutes: range, image: np.ndarray) -> None:
    """Three cameras ask twice in each minute."""
    with DetectorClient(site.stores.settings.triton_grpc, deadline_s=60.0) as client:
        for minute in minutes:
            for number in range(3):
                for second in (5, 35):
                    client.detect(image, f"camera-{number}", BEGIN + timedelta(minutes=minute, seconds=second))


def pairs_of(site: Site, production: int, canary: int) -> int:
    collect_pairs(site.stores)
    return len(read_pairs(site.stores, production, canary, datetime(2020, 1, 1, tzinfo=UTC)))


def canary_of(site: Site, content: bytes) -> int:
    version = site.train(content)
    site.judge(version)
    assert release(site.stores, version, "tester", "", outside=site.outside).stage == "canary"
    return version


def test_a_canary_whose_measurements_are_missing_waits_at_its_share(site: Site, camera: Camera) -> None:
    good = site.answering()
    canary = canary_of(site, tiny_onnx(BOXES, note="without measurements"))
    live(site, range(6), DAY)
    until(lambda: bool(list(site.stores.settings.pairs_spool.glob("*.jsonl"))), "pairs are written")
    time.sleep(site.stores.settings.serving.spool_flush_s * 2)
    for path in site.stores.settings.pairs_spool.glob("*.jsonl"):
        path.unlink()
    found = look_at_canary(site.stores, "tester", outside=site.outside)
    assert found is not None
    assert (found.verdict.action, found.change) == ("wait", None)
    assert "not enough evidence: 0 of 4" in found.verdict.reasons[0]
    state = canary_state(site.stores)
    assert state is not None
    assert (state.version, state.percent) == (canary, 50.0)
    stop_canary(site.stores, "tester", "nothing is known of it", outside=site.outside)
    site.assert_served(good)


def test_a_version_that_is_worse_by_night_alone_goes_back_when_night_falls(site: Site, camera: Camera) -> None:
    good = site.train(tiny_onnx(BOXES, note="good by night"), proven="night")
    site.release(good)
    canary = canary_of(site, faulty_detectors.blind_by_night(BOXES, ELSEWHERE))
    live(site, range(20, 21), DAY)
    until(lambda: pairs_of(site, good, canary) == 6, "pairs by day", 30)
    found = look_at_canary(site.stores, "tester", outside=site.outside)
    assert found is not None
    assert found.verdict.action == "wait", "by day there is nothing against it"
    live(site, range(30, 38), NIGHT)
    until(lambda: pairs_of(site, good, canary) == 54, "pairs by night", 30)
    found = look_at_canary(site.stores, "tester", outside=site.outside)
    assert found is not None
    assert found.verdict.action == "roll_back"
    assert "by night" in found.verdict.reasons[0]
    assert canary_state(site.stores) is None
    assert verdicts.REJECTED in site.registry.get(MODEL_NAME, canary).tags
    site.assert_served(good)


def test_the_repository_holds_no_version_that_nothing_needs(site: Site) -> None:
    """After all that went wrong: what is served at a stage, the last good one, and no file of any other."""
    reconcile(site.stores, "tester", outside=site.outside)
    needed = {row.version for name in ("staging", "production") if (row := served(site.stores, name)) is not None}
    placed = site.outside.server.placed()[MODEL]
    assert needed <= placed
    assert len(placed - needed) <= 1
    left: list[Path] = list((site.stores.settings.home / "triton" / "incoming").glob("*"))
    assert left == []
