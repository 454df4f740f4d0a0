"""An experiment on the real Triton: the challenger's share of live requests, what is found, who answers afterwards."""

from __future__ import annotations

import time

import pytest

from its_platform.experiments import ExperimentLook, Question, look_at_experiment, start_experiment
from its_platform.experiments.blocks import is_challengers
from its_platform.monitoring.predictions import collect, query
from its_platform.release import freeze, promote, served, thaw
from its_platform.serving.pairs import waiting_pairs
from tests.fakes import tiny_onnx
from tests.integration.site import Site
from tests.integration.test_canary import BEGIN, BRIGHT, fails_in_white, live

pytestmark = [pytest.mark.services, pytest.mark.slow]
MORE = ((2, 2, 20, 20, 0.9, 0), (20, 20, 50, 50, 0.8, 1), (5, 30, 15, 45, 0.8, 0))


def start(site: Site, challenger: int) -> int:
    asked = Question(1, challenger, "it sees what the other misses", effect=1.0, deviation=0.5)
    return start_experiment(site.stores, asked, "tester", outside=site.outside).id


def look(site: Site) -> ExperimentLook:
    found = look_at_experiment(site.stores, "tester", outside=site.outside)
    assert found is not None
    return found


def wait_for_rows(site: Site, rows: int) -> None:
    end = time.monotonic() + 30
    while collect(site.stores) or (found := len(query(site.stores, purpose="live", columns=["version"]))) < rows:
        assert time.monotonic() < end, f"{found} of {rows} rows"
        time.sleep(0.2)


def wait_for_failures(site: Site) -> None:
    end = time.monotonic() + 30
    while waiting_pairs(site.stores.settings) < 3:
        assert time.monotonic() < end, "the failures were not kept"
        time.sleep(0.2)


def test_a_difference_is_found_and_failures_end_it_while_production_goes_on(site: Site) -> None:
    first, second, third = (
        site.train(content) for content in (tiny_onnx(note="first"), tiny_onnx(MORE), fails_in_white())
    )
    site.release(first)
    site.judge(second)
    aliases = site.registry.aliases()

    assert start(site, second) == 1
    assert site.answering() == first, "who takes no part meets production"
    blocks = live(site, range(8))
    drawn = {
        minute * 10 + camera: {second if is_challengers(second, 50, f"camera-{camera}", at) else first}
        for minute in range(8)
        for camera in range(3)
        for at in [BEGIN.replace(minute=minute)]
    }
    assert blocks == drawn, "a block has one version, and it is known which"
    wait_for_rows(site, 48)
    found = look(site)
    assert found.finding.decision == "difference", found.finding
    assert found.finding.overall.effect == pytest.approx(2.2, abs=0.2)
    assert found.experiment.result is not None
    assert served(site.stores, "canary") is None
    assert {version for versions in live(site, range(20, 22)).values() for version in versions} == {first}
    assert site.registry.aliases() == aliases

    site.judge(third)
    assert start(site, third) == 2
    blocks = live(site, range(30, 34), BRIGHT)
    assert {version for versions in blocks.values() for version in versions} == {first}, "nobody saw the failure"
    wait_for_failures(site)
    ended = look(site)
    assert ended.experiment.decision == "unsafe"
    assert "that production answered" in str(ended.experiment.why_ended)

    start(site, second)
    freeze(site.stores, "tester", "the day of the race", site.outside)
    assert {version for versions in live(site, range(40, 44)).values() for version in versions} == {first}
    thaw(site.stores, "tester", "it is over")
    start(site, second)
    promote(site.stores, second, "production", "tester", "it sees more", outside=site.outside)
    assert served(site.stores, "canary") is None
    assert site.answering() == second
