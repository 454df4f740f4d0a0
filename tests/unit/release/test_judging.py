"""A candidate is measured on the same frames and the same Triton as the served model, and once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from its_platform.dataset.golden import golden_uses
from its_platform.errors import BadInput
from its_platform.release import judging, verdicts
from its_platform.release.asking import promote, stage
from its_platform.release.gates import GateResult, LatencyRounds, is_passed
from its_platform.release.gates.serving import MIB
from its_platform.release.golden import GoldenAnswers
from its_platform.release.judging import judge_candidate
from its_platform.stores import Stores
from its_platform.stores.registry import ModelVersion
from tests.fakes import fake_outside, golden_answers
from tests.unit.release.platform import Faked

STEADY = LatencyRounds((10.0,) * 5, (10.0,) * 5)
WIDE = LatencyRounds((10.0, 4.0, 10.0, 16.0, 10.0), (10.0,) * 5)


CLASSES = ("car", "truck", "tram")


@dataclass
class Scorer:
    """Has each version find the share of the golden boxes that it was told, and remembers what it was asked."""

    shares: dict[int, float]
    asked: list[tuple[int, str, tuple[str, ...]]] = field(default_factory=list)
    swapped: set[int] = field(default_factory=set)

    def __call__(self, onnx: Path, version: ModelVersion, dataset: str, classes: Sequence[str]) -> GoldenAnswers:
        assert onnx.is_file()
        self.asked.append((version.version, dataset, tuple(classes)))
        found = golden_answers(CLASSES, self.shares[version.version], boxes=12).over(classes)
        return permuted(found) if version.version in self.swapped else found


def permuted(answers: GoldenAnswers) -> GoldenAnswers:
    """The same boxes, each called by the next class's name."""
    called = [np.concatenate([rows[:, :5], (rows[:, 5:] + 1) % len(answers.classes)], axis=1) for rows in answers.found]
    return replace(answers, found=tuple(called))


@dataclass
class Bench(Faked):
    """A platform with one served version and a staged candidate."""

    scorer: Scorer
    latencies: list[LatencyRounds]

    def stage(self, version: int) -> None:
        stage(self.stores, version, "tester", "", outside=self.outside)

    def judge(self, version: int) -> list[GateResult]:
        return judge_candidate(self.stores, version, outside=self.outside)


@pytest.fixture
def bench(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Bench:
    scorer = Scorer({1: 1.0, 2: 1.0})
    outside = fake_outside(stores.settings, evaluate=scorer)
    latencies: list[LatencyRounds] = []

    def measured(*_: object) -> LatencyRounds:
        return latencies.pop(0) if latencies else STEADY

    monkeypatch.setattr(judging, "measure_until_steady", measured)
    _add_golden(stores, number=1, dataset="v1")
    made = Bench(stores, outside, scorer, latencies)
    first = made.registry.add().version
    made.stage(first)
    made.judge(first)
    promote(stores, first, "production", "tester", "", outside=outside)
    made.registry.add()
    made.stage(2)
    scorer.asked.clear()
    return made


def _add_golden(stores: Stores, number: int, dataset: str) -> None:
    with stores.database.session() as session:
        session.execute(
            sa.text("INSERT INTO golden_sets (number, dataset, digest) VALUES (:n, :d, 'g')"),
            {"n": number, "d": dataset},
        )
        session.execute(
            sa.text("INSERT INTO dataset_versions (name, digest, golden) VALUES (:d, :d, :n)"),
            {"n": number, "d": dataset},
        )


def by_key(results: list[GateResult]) -> dict[str, GateResult]:
    return {result.key: result for result in results}


def test_both_models_are_scored_on_the_golden_frames_of_the_candidates_dataset(bench: Bench) -> None:
    results = bench.judge(2)
    assert is_passed(results)
    assert bench.scorer.asked == [(2, "v1", ("car", "truck")), (1, "v1", ("car", "truck"))]


def test_a_candidate_that_is_worse_than_the_served_model_does_not_pass(bench: Bench) -> None:
    bench.scorer.shares[2] = 0.75
    results = by_key(bench.judge(2))
    regression = results["slice_regression:golden"]
    assert (regression.verdict, regression.value) == ("failed", pytest.approx(0.25, abs=0.01))
    assert results["accuracy_floor"].verdict == "failed"


def test_a_candidate_with_permuted_classes_is_stopped_although_it_finds_everything(bench: Bench) -> None:
    bench.scorer.swapped.add(2)
    results = by_key(bench.judge(2))
    assert results["accuracy_floor"].verdict == "passed"
    assert results["class_floor:golden/class=car"].verdict == "failed"
    assert not is_passed(list(results.values()))


def test_a_version_whose_class_list_is_in_another_order_than_its_datasets_does_not_pass(bench: Bench) -> None:
    bench.registry.versions[2] = replace(bench.registry.versions[2], classes=["truck", "car"])
    results = bench.judge(2)
    assert by_key(results)["class_order"].verdict == "failed"
    assert not is_passed(results)


def test_a_version_without_a_dataset_card_does_not_pass(bench: Bench) -> None:
    object.__setattr__(bench.outside, "card", lambda dataset: None)
    results = bench.judge(2)
    assert by_key(results)["dataset_card"].verdict == "failed"
    assert not is_passed(results)


def test_a_version_that_keeps_twice_the_memory_does_not_pass(bench: Bench) -> None:
    bench.triton.resident[2] = 400 * MIB
    results = bench.judge(2)
    assert (by_key(results)["memory_ratio"].verdict, by_key(results)["memory_ratio"].value) == ("failed", 2.0)
    assert not is_passed(results)


def test_another_file_on_triton_than_the_registered_one_does_not_pass(bench: Bench) -> None:
    registered = bench.registry.versions[2]
    bench.registry.versions[2] = replace(registered, onnx_digest="0" * 64)
    results = bench.judge(2)
    assert by_key(results)["signature"].verdict == "failed"
    assert registered.onnx_digest[:12] in by_key(results)["signature"].detail


def test_the_results_are_recorded_with_the_version_they_were_measured_against(bench: Bench) -> None:
    results = bench.judge(2)
    recorded = verdicts.latest_judgement(bench.stores, 2)
    assert recorded is not None
    assert list(recorded.results) == results
    assert recorded.served == 1


def test_judging_again_measures_nothing_and_uses_no_golden_set(bench: Bench) -> None:
    first, uses = bench.judge(2), golden_uses(bench.stores, 1)
    bench.scorer.asked.clear()
    assert bench.judge(2) == first
    assert bench.scorer.asked == []
    assert golden_uses(bench.stores, 1) == uses


def test_each_judging_counts_one_use_of_the_golden_set(bench: Bench) -> None:
    before = golden_uses(bench.stores, 1)
    bench.judge(2)
    assert golden_uses(bench.stores, 1) == before + 1


def test_a_latency_without_a_verdict_is_measured_again_and_the_golden_set_is_not(bench: Bench) -> None:
    bench.latencies[:] = [WIDE, STEADY]
    first = bench.judge(2)
    assert not is_passed(first)
    uses = golden_uses(bench.stores, 1)
    bench.scorer.asked.clear()
    assert is_passed(bench.judge(2))
    assert bench.scorer.asked == []
    assert golden_uses(bench.stores, 1) == uses


def _other_threshold(bench: Bench) -> Bench:
    gates = bench.stores.settings.gates.model_copy(update={"simulated_floor": 0.8})
    settings = bench.stores.settings.model_copy(update={"gates": gates})
    return replace(bench, stores=replace(bench.stores, settings=settings))


def _other_golden(bench: Bench) -> Bench:
    _add_golden(bench.stores, number=2, dataset="v2")
    known = bench.registry.versions[2]
    bench.registry.versions[2] = replace(known, dataset_version="v2")
    return bench


@pytest.mark.parametrize("change", [_other_threshold, _other_golden])
def test_other_thresholds_or_another_golden_set_ask_for_another_judgement(
    bench: Bench, change: Callable[[Bench], Bench]
) -> None:
    bench.judge(2)
    bench.scorer.asked.clear()
    change(bench).judge(2)
    assert [version for version, *_ in bench.scorer.asked] == [2, 1]


def test_a_new_class_is_no_regression_and_counts_for_the_floor(bench: Bench) -> None:
    known = bench.registry.versions[2]
    bench.registry.versions[2] = replace(known, classes=["car", "truck", "tram"])
    bench.judge(2)
    assert bench.scorer.asked == [
        (2, "v1", ("car", "truck", "tram")),
        (1, "v1", ("car", "truck")),
    ]


def test_the_first_model_is_judged_without_a_comparison(bench: Bench) -> None:
    recorded = verdicts.latest_judgement(bench.stores, 1)
    assert recorded is not None
    assert recorded.served is None
    assert by_key(list(recorded.results))["latency_ratio"].verdict == "not_judged"


def test_a_version_that_is_not_loaded_cannot_be_judged(bench: Bench) -> None:
    bench.registry.add()
    with pytest.raises(BadInput, match="not loaded"):
        bench.judge(3)


@pytest.mark.parametrize("tags", [{}, {"parity": "broken"}])
def test_without_a_parity_figure_a_version_does_not_pass(bench: Bench, tags: dict[str, str]) -> None:
    bench.registry.versions[2] = replace(bench.registry.versions[2], tags=tags)
    results = bench.judge(2)
    assert by_key(results)["export_parity"].verdict == "not_judged"
    assert not is_passed(results)


@pytest.mark.parametrize(
    ("tags", "verdict"),
    [
        ({"accuracy_loss": "0.005", "parity": "0.3"}, "passed"),
        ({"accuracy_loss": "0.2", "parity": "1.0"}, "failed"),
        ({"parity": "1.0"}, "not_judged"),
    ],
)
def test_a_format_that_rounds_is_judged_by_what_it_loses_and_not_by_parity(
    bench: Bench, tags: dict[str, str], verdict: str
) -> None:
    rounded = bench.registry.add(format="onnx-int8", tags=tags).version
    bench.scorer.shares[rounded] = 1.0
    bench.stage(rounded)
    results = bench.judge(rounded)
    assert by_key(results)["format_accuracy"].verdict == verdict
    assert "export_parity" not in by_key(results)
    assert is_passed(results) is (verdict == "passed")
