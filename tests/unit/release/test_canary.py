"""The verdict on a canary: what sends it back, what lets it go on, and what is not enough."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from its_platform.release.canary import Block, Evidence, judge_canary
from its_platform.release.comparing import evidence_of, f1_of
from its_platform.serving.pairs import Pair, SeenBox, Side
from its_platform.settings import CanarySettings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = CanarySettings(minimum_blocks=10)


def blocks(count: int, light: str = "day", disagreement: float = 0.05, gain: float | None = None) -> tuple[Block, ...]:
    return tuple(Block("north", NOON + timedelta(minutes=n), light, 5, disagreement, gain) for n in range(count))


def evidence(*found: Block, **changed: object) -> Evidence:
    return replace(Evidence(found, len(found), 5 * len(found)), **changed)  # type: ignore[arg-type]


def judged(given: Evidence, proven: tuple[str, ...] = ("day",)) -> tuple[str, str]:
    verdict = judge_canary(given, SETTINGS, 1.5, proven)
    return verdict.action, verdict.reasons[0]


def test_nothing_against_it_and_blocks_enough_lets_it_go_on() -> None:
    assert judged(evidence(*blocks(10)))[0] == "advance"


def test_too_few_blocks_at_this_share_are_not_enough_evidence() -> None:
    action, reason = judged(evidence(*blocks(30), blocks_now=4))
    assert action == "wait"
    assert "not enough evidence: 4 of 10" in reason


def test_failures_send_it_back_before_there_is_evidence_of_anything_else() -> None:
    assert judged(evidence(*blocks(1), failures=2))[0] == "wait"
    action, reason = judged(evidence(*blocks(1), failures=3))
    assert action == "roll_back"
    assert "failed for 3 pictures" in reason


def test_a_slow_one_goes_back_when_it_is_slow_in_both_places() -> None:
    slow, fast = [30.0] * 40, [15.0] * 40
    assert judged(evidence(*blocks(10), latency=((fast, slow), (fast, slow))))[0] == "roll_back"
    assert judged(evidence(*blocks(10), latency=((fast, slow), (fast, fast))))[0] == "advance"
    assert judged(evidence(*blocks(10), latency=((fast[:5], slow[:5]),)))[0] == "advance"


def test_the_truth_sends_it_back_anywhere() -> None:
    worse = evidence(*blocks(20, light="night", gain=-0.4))
    action, reason = judged(worse, proven=())
    assert action == "roll_back"
    assert "it is worse" in reason


def test_a_loss_at_one_camera_of_many_sends_it_back() -> None:
    minutes = range(40)
    fine = [
        Block(f"fine-{camera}", NOON + timedelta(minutes=minute), "day", 5, 0.1, 0.02 * (-1) ** (minute + camera))
        for minute in minutes
        for camera in range(40)
    ]
    blind = [Block("bridge", NOON + timedelta(minutes=minute), "day", 5, 0.9, -0.7) for minute in minutes]
    verdict = judge_canary(evidence(*fine, *blind), SETTINGS, 1.5, ("day",))
    assert verdict.action == "roll_back"
    assert [reason.split(":")[0] for reason in verdict.reasons] == ["it is worse at camera bridge"]
    assert verdict.numbers["gain"] > -SETTINGS.margin, "over all cameras nothing is to be seen"
    assert verdict.numbers["gain/bridge"] == pytest.approx(-0.7)
    slightly = [replace(block, gain=-0.05) for block in blind]
    assert judged(evidence(*fine, *slightly))[0] == "advance", "less than the margin at one camera is no loss"


def test_any_number_of_cameras_share_half_of_the_chance_of_a_wrong_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def sequence(values: list[float], alpha: float) -> tuple[float, float]:
        asked.append(alpha)
        return 0.0, 1.0

    monkeypatch.setattr("its_platform.release.canary.confidence_sequence", sequence)
    worse = [replace(block, camera_id=f"c{n}") for n, block in enumerate(blocks(200, gain=-0.5))]
    judged(evidence(*worse))
    overall, *by_camera = asked
    assert overall == SETTINGS.alpha / 2
    assert len(by_camera) == 200
    assert 0.49 * SETTINGS.alpha < sum(by_camera) < SETTINGS.alpha / 2
    asked.clear()
    judged(evidence(*worse[:3]))
    assert asked[1:] == by_camera[:3], "a camera that comes later changes nothing"


def test_a_small_loss_that_may_be_chance_waits() -> None:
    some = tuple(replace(block, gain=(-0.3, 0.2)[n % 2]) for n, block in enumerate(blocks(12)))
    assert judged(evidence(*some))[0] == "wait"


def test_disagreement_counts_where_production_is_proven_and_asks_for_labels_elsewhere() -> None:
    by_day, by_night = blocks(15, disagreement=0.9), blocks(15, light="night", disagreement=0.9)
    assert judged(evidence(*by_day))[0] == "roll_back"
    verdict = judge_canary(evidence(*by_night), SETTINGS, 1.5, ("day",))
    assert (verdict.action, verdict.labels_wanted) == ("advance", ("night",))


def test_the_lights_share_the_chance_of_a_wrong_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def sequence(values: list[float], alpha: float) -> tuple[float, float]:
        asked.append((len(values), alpha))
        return 0.0, 1.0

    monkeypatch.setattr("its_platform.release.canary.confidence_sequence", sequence)
    by_light = [*blocks(10), *blocks(11, light="dusk"), *blocks(12, light="night"), *blocks(13, gain=0.1)]
    judged(evidence(*by_light))
    assert asked == [(13, SETTINGS.alpha / 2), *((count, pytest.approx(SETTINGS.alpha / 3)) for count in (10, 11, 12))]
    asked.clear()
    judged(evidence(*blocks(10)))
    assert asked == [(10, pytest.approx(SETTINGS.alpha / 3))], "a light that comes later changes nothing"


def test_where_there_is_a_truth_being_different_is_not_being_wrong() -> None:
    better = blocks(15, disagreement=0.9, gain=0.3)
    assert judged(evidence(*better))[0] == "advance"


CAR = SeenBox("car", 0.9, 10, 10, 50, 50)
BUS = replace(CAR, class_name="bus")
FAR = replace(CAR, x1=200, x2=240)


@pytest.mark.parametrize(
    ("seen", "true", "expected"),
    [
        ((), (), 1.0),
        ((CAR,), (), 0.0),
        ((), (CAR,), 0.0),
        ((CAR,), (CAR,), 1.0),
        ((BUS,), (CAR,), 0.0),
        ((CAR, FAR), (CAR,), 2 / 3),
        ((CAR, CAR), (CAR,), 2 / 3),
    ],
)
def test_f1_is_by_class_and_each_box_counts_once(
    seen: tuple[SeenBox, ...], true: tuple[SeenBox, ...], expected: float
) -> None:
    assert f1_of(seen, true) == pytest.approx(expected)


def a_pair(second: int, ours: tuple[SeenBox, ...] = (CAR,), problem: str | None = None, **changed: object) -> Pair:
    at = NOON + timedelta(seconds=second)
    production = Side(1, (CAR,), 10.0, None)
    canary = Side(2, () if problem else ours, None if problem else 12.0, problem)
    return replace(Pair(at, at, "north", "day", "production", production, canary), **changed)  # type: ignore[arg-type]


def test_pairs_of_a_minute_are_one_block() -> None:
    found = evidence_of([a_pair(0), a_pair(30, (FAR,)), a_pair(70)], {}, NOON)
    assert [(block.pairs, block.disagreement, block.gain) for block in found.blocks] == [(2, 0.5, None), (1, 0.0, None)]
    assert (found.blocks_now, found.pictures, found.failures) == (2, 3, 0)


def test_the_gain_is_taken_from_the_pictures_that_have_a_truth() -> None:
    pairs = [a_pair(0, (FAR,)), a_pair(30)]
    found = evidence_of(pairs, {("north", pairs[0].at): [CAR]}, NOON)
    assert found.blocks[0].gain == pytest.approx(-1.0)


def test_failures_of_the_canary_alone_count_and_blocks_of_before_the_step_do_not() -> None:
    both = Side(1, (), None, "Triton is away")
    pairs = [a_pair(0, problem="the graph failed"), a_pair(10, problem="away", production=both), a_pair(90)]
    found = evidence_of(pairs, {}, NOON + timedelta(minutes=2))
    assert (found.failures, found.blocks_now, len(found.blocks)) == (1, 0, 1)


def test_latency_is_compared_in_the_same_place() -> None:
    pairs = [a_pair(0), a_pair(1, answered_by="canary")]
    found = evidence_of(pairs, {}, NOON)
    assert sorted(found.latency) == [([10.0], [12.0]), ([10.0], [12.0])]
    (waited_for,) = evidence_of(pairs[:1], {}, NOON).latency[:1]
    assert waited_for == ([10.0], [])


def test_a_canary_that_has_all_of_the_traffic_is_timed_on_the_same_pictures() -> None:
    before = [a_pair(second) for second in range(30)]
    slow = Side(2, (CAR,), 30.0, None)
    now = [a_pair(60 + second, answered_by="canary", canary=slow) for second in range(30)]
    found = evidence_of(before + now, {}, NOON + timedelta(seconds=60))
    assert found.latency == (([10.0] * 30, [30.0] * 30),)
    action, reason = judged(found)
    assert action == "roll_back"
    assert "3.00 times as long" in reason
