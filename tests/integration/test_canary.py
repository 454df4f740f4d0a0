"""A canary on the real Triton: its share of live requests, the pairs, and the way on or back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pytest

from its_platform.errors import NotFound, PermanentError
from its_platform.monitoring.predictions import collect, query
from its_platform.release import (
    canary_state,
    freeze,
    history,
    hold_canary,
    look_at_canary,
    promote,
    release,
    resume_canary,
    served,
    thaw,
)
from its_platform.release.canary import Verdict
from its_platform.serving.client import DetectorClient
from its_platform.serving.pairs import collect_pairs, read_pairs
from its_platform.stores.registry import MODEL_NAME
from tests.fakes import tiny_onnx
from tests.integration.site import PICTURE, Site

pytestmark = [pytest.mark.services, pytest.mark.slow]
BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
BRIGHT = np.full((64, 64, 3), 230, np.uint8)
ELSEWHERE = ((20, 20, 50, 50, 0.8, 1),)


@pytest.fixture
def canary_site(site: Site) -> Site:
    """Two steps, small blocks of evidence, and every live picture asked of both."""
    canary = site.stores.settings.canary.model_copy(
        update={"steps": [50.0, 100.0], "pairs_percent": 100.0, "minimum_blocks": 4}
    )
    settings = site.stores.settings.model_copy(update={"canary": canary})
    return replace(site, stores=replace(site.stores, settings=settings))


def live(site: Site, minutes: Sequence[int], image: npt.NDArray[np.uint8] = PICTURE) -> dict[int, set[int]]:
    """Three cameras ask twice in each minute; the versions that answered, by minute of all cameras."""

    async def ask() -> dict[int, set[int]]:
        by_block: dict[int, set[int]] = defaultdict(set)
        async with DetectorClient(site.stores.settings, deadline_s=60.0) as client:
            for minute in minutes:
                for camera in range(3):
                    for second in (5, 35):
                        at = BEGIN + timedelta(minutes=minute, seconds=second)
                        answer = await client.detect(image, f"camera-{camera}", at)
                        by_block[minute * 10 + camera].add(answer.model_version)
        return by_block

    return asyncio.run(ask())


def wait_for_pairs(site: Site, production: int, canary: int, rows: int) -> None:
    end = time.monotonic() + 30
    while True:
        collect_pairs(site.stores)
        found = len(read_pairs(site.stores, production, canary, datetime(2020, 1, 1, tzinfo=UTC)))
        if found == rows:
            return
        assert time.monotonic() < end, f"{found} of {rows} pairs"
        time.sleep(0.2)


def test_a_good_canary_gets_more_and_more_and_is_production_in_the_end(canary_site: Site) -> None:
    site = canary_site
    first, second = (site.train(tiny_onnx(note=note)) for note in ("first", "second"))
    assert release_it(site, first) == "production"
    assert release_it(site, second) == "canary"
    assert (site.answering(), versions_of(site)) == (first, {"production": first, "canary": second, "staging": second})

    blocks = live(site, range(8))
    assert all(len(versions) == 1 for versions in blocks.values()), "a block has one version"
    shares = Counter(version for (version,) in blocks.values())
    assert 6 <= shares[second] <= 18, shares
    wait_for_pairs(site, first, second, rows=48)
    pairs = read_pairs(site.stores, first, second, datetime(2020, 1, 1, tzinfo=UTC))
    assert Counter(pair.answered_by for pair in pairs) == {
        "canary": 2 * shares[second],
        "production": 2 * shares[first],
    }
    assert all(pair.canary.boxes == pair.production.boxes and pair.canary.boxes for pair in pairs)
    assert all(pair.canary.ms and pair.production.ms for pair in pairs)

    hold_canary(site.stores, "tester", "the fair is in town")
    assert look(site).action == "wait"
    resume_canary(site.stores, "tester", "it has left")
    assert look(site).action == "advance"
    state = canary_state(site.stores)
    assert state is not None
    assert state.percent == 100
    assert {version for versions in live(site, range(20, 23)).values() for version in versions} == {second}
    wait_for_pairs(site, first, second, rows=66)
    assert look(site).action == "advance"
    assert versions_of(site) == {"production": second, "staging": second}
    assert site.registry.aliases() == {"production": second, "staging": second}
    assert site.answering() == second
    assert history(site.stores, "canary")[0].why.startswith("100 % of the live traffic")

    collect(site.stores)
    logged = query(site.stores, purpose="live")
    assert len(logged) == 66, "each live picture is logged once, by the version that answered"
    assert logged["version"].value_counts().to_dict() == {
        first: 2 * shares[first],
        second: 2 * shares[second] + 18,
    }


def test_a_canary_that_sees_something_else_goes_back_where_production_was_good(canary_site: Site) -> None:
    site = canary_site
    first = site.train(tiny_onnx(note="first"), proven="day")
    second = site.train(tiny_onnx(ELSEWHERE))
    release_it(site, first)
    release_it(site, second)
    bright = np.full((48, 64, 3), 200, np.uint8)
    live(site, range(8), bright)
    wait_for_pairs(site, first, second, rows=48)
    found = look_at_canary(site.stores, "tester", outside=site.outside)
    assert found is not None
    assert found.verdict.action == "roll_back", found
    assert "by day" in found.verdict.reasons[0]
    assert found.change is not None
    assert found.change.kind == "rolled_back"
    assert versions_of(site)["production"] == first
    assert "canary" not in versions_of(site)
    assert "rejected" in site.registry.get(MODEL_NAME, second).tags
    assert site.registry.get(MODEL_NAME, second).tags["stage"] == "retired"
    assert {version for versions in live(site, range(30, 32)).values() for version in versions} == {first}
    with pytest.raises(PermanentError, match="rejected"):
        release(site.stores, second, "tester", "again", outside=site.outside)


def test_where_production_was_never_good_somebody_has_to_look(canary_site: Site) -> None:
    site = canary_site
    first, second = site.train(tiny_onnx(note="first")), site.train(tiny_onnx(ELSEWHERE))
    release_it(site, first)
    release_it(site, second)
    live(site, range(8), np.full((48, 64, 3), 200, np.uint8))
    wait_for_pairs(site, first, second, rows=48)
    verdict = look(site)
    assert (verdict.action, verdict.labels_wanted) == ("advance", ("day",))


def test_production_answers_for_a_canary_that_fails_and_the_canary_goes_back(canary_site: Site) -> None:
    site = canary_site
    first, second = site.train(tiny_onnx(note="first")), site.train(fails_in_white())
    release_it(site, first)
    release_it(site, second)
    blocks = live(site, range(4), BRIGHT)
    assert {version for versions in blocks.values() for version in versions} == {first}, "nobody saw the failure"
    wait_for_pairs(site, first, second, rows=24)
    verdict = look(site)
    assert verdict.action == "roll_back"
    assert "failed for 24 pictures of 24" in verdict.reasons[0]


def test_a_freeze_keeps_everything_as_it_is_until_the_thaw(canary_site: Site) -> None:
    site = canary_site
    first, second = (site.train(tiny_onnx(note=note)) for note in ("first", "second"))
    release_it(site, first)
    site.judge(second)
    freeze(site.stores, "tester", "the day of the race")
    with pytest.raises(PermanentError, match="the day of the race"):
        promote(site.stores, second, "production", "tester", "", outside=site.outside)
    assert versions_of(site)["production"] == first
    thaw(site.stores, "tester", "it is over")
    assert promote(site.stores, second, "production", "tester", "", outside=site.outside).kind == "released"
    with pytest.raises(NotFound):
        thaw(site.stores, "tester", "again")


def look(site: Site) -> Verdict:
    found = look_at_canary(site.stores, "tester", outside=site.outside)
    assert found is not None
    return found.verdict


def release_it(site: Site, version: int) -> str:
    site.judge(version)
    return release(site.stores, version, "tester", "", outside=site.outside).stage


def versions_of(site: Site) -> dict[str, int]:
    rows = {stage: served(site.stores, stage) for stage in ("staging", "canary", "production")}
    return {stage: row.version for stage, row in rows.items() if row is not None}


def fails_in_white() -> bytes:
    """A detector that answers as any other, until a picture has no dark pixel: then its graph fails."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(tiny_onnx(note="fails in white"))
    table = np.zeros(200, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(table, "darkness"))
    extra = [
        helper.make_node("Cast", ["images"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMin", ["numbers"], ["darkest"], keepdims=0),
        helper.make_node("Cast", ["darkest"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["darkness", "place"], ["nothing"], axis=0),
        helper.make_node("Add", ["expanded", "nothing"], ["detections"]),
    ]
    model.graph.node[-1].output[0] = "expanded"
    model.graph.node.extend(extra)
    onnx.checker.check_model(model)
    return model.SerializeToString()
