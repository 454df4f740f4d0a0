"""Choosing among measured settings, and what is written of the choice."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from its_platform.errors import BadInput, NotFound
from its_platform.serving.repository import Route, write_routes
from its_platform.serving.sweep import Load, Sweep, route_to_tune
from its_platform.serving.sweep_page import page_of
from its_platform.serving.tuning import (
    Candidate,
    Measured,
    TuneRound,
    apply_settings,
    candidates_for,
    choose,
    default_instances,
    settings_lines,
)
from its_platform.settings import Settings


def measured(instances: int, rate: float, p95_ms: float, cpu_ms: float = 20.0, failed: int = 0) -> Measured:
    return Measured(Candidate(instances, 1), (TuneRound(rate, p95_ms / 2, p95_ms, cpu_ms, failed),))


def test_the_fastest_within_the_limit_is_chosen() -> None:
    found = choose([measured(1, 30, 50), measured(2, 60, 90), measured(4, 80, 400)], 100)
    assert (found.best.candidate.instances, found.is_within_limit) == (2, True)


def test_of_those_as_fast_the_one_with_the_least_cpu_is_chosen() -> None:
    found = choose([measured(2, 60, 90, cpu_ms=25), measured(1, 59, 80, cpu_ms=20), measured(4, 50, 80, cpu_ms=5)], 100)
    assert found.best.candidate.instances == 1
    assert "of 2 as fast" in found.why


def test_where_none_is_within_the_limit_the_closest_is_chosen_and_that_is_said() -> None:
    found = choose([measured(1, 30, 500), measured(2, 60, 900)], 100)
    assert (found.best.candidate.instances, found.is_within_limit) == (1, False)
    assert "none is within 100 ms" in found.why


def test_a_setting_that_failed_a_request_is_out() -> None:
    assert choose([measured(1, 30, 50), measured(2, 60, 50, failed=1)], 100).best.candidate.instances == 1
    with pytest.raises(BadInput, match="failed requests"):
        choose([measured(2, 60, 50, failed=1)], 100)


def test_one_slow_round_does_not_decide() -> None:
    rounds = tuple(TuneRound(rate, 20, p95, 20) for rate, p95 in [(60, 60), (5, 900), (61, 62)])
    assert choose([Measured(Candidate(2, 1), rounds), measured(1, 30, 50)], 100).best.candidate.instances == 2


def test_only_what_the_cores_can_run_is_tried() -> None:
    found = candidates_for([1, 2, 4], [1, 2], [False], cores=2)
    assert [(one.instances, one.threads) for one in found] == [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1)]
    with pytest.raises(BadInput, match="2 cores"):
        candidates_for([8], [8], [False], cores=2)
    with pytest.raises(BadInput, match="1 or more"):
        candidates_for([0], [1], [False], cores=2)


@pytest.mark.parametrize(("cores", "expected"), [(1, [2]), (2, [2, 4]), (8, [2, 8, 16])])
def test_without_numbers_copies_go_by_the_cores_and_are_never_one(cores: int, expected: list[int]) -> None:
    assert default_instances(cores) == expected


def test_applying_keeps_the_other_settings_and_a_copy_of_what_was(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("# mine\nserving:\n  max_batch: 4\n  instances: 1\ntraining: {epochs: 2}\n")
    assert apply_settings(tmp_path, Candidate(2, 1, dynamic_batching=True)) == path
    written = yaml.safe_load(path.read_text())
    assert written["training"] == {"epochs": 2}
    assert written["serving"] == {"max_batch": 4, "instances": 2, "threads": 1, "dynamic_batching": True}
    assert "# mine" in (tmp_path / "settings.yaml.before").read_text()


def test_applying_to_a_home_without_a_file_writes_one(tmp_path: Path) -> None:
    apply_settings(tmp_path, Candidate(3, 2))
    assert yaml.safe_load((tmp_path / "settings.yaml").read_text()) == yaml.safe_load(settings_lines(Candidate(3, 2)))


def test_a_file_that_is_no_settings_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("- one\n")
    with pytest.raises(BadInput, match="no groups"):
        apply_settings(tmp_path, Candidate(3, 2))
    assert (tmp_path / "settings.yaml").read_text() == "- one\n"


def test_without_a_production_model_there_is_nothing_to_tune(settings: Settings) -> None:
    with pytest.raises(NotFound, match="in production"):
        route_to_tune(settings, None)
    (settings.model_repository / "detector-yolo-onnx-320" / "4").mkdir(parents=True)
    write_routes(settings, {"production": Route("detector-yolo-onnx-320", 4, 320, ("car",), {})})
    assert route_to_tune(settings, None).version == 4
    assert route_to_tune(settings, 4).version == 4
    with pytest.raises(NotFound, match="not in the repository"):
        route_to_tune(settings, 5)


def test_the_page_shows_each_setting_and_asks_nobody(tmp_path: Path) -> None:
    rounds = [measured(1, 30, 50), measured(2, 60, 90)]
    found = Sweep(
        datetime(2026, 1, 1, tzinfo=UTC), "detector-x", 4, Load(), 100.0, 2, Candidate(1, 1), tuple(rounds),
        choose(rounds, 100),
    )  # fmt: skip
    page = page_of(found)
    assert "1 copy of 1 thread (in force)" in page
    assert 'class="best"><td>2 copies of 1 thread' in page
    assert "limit 100 ms" in page
    assert "http" not in page.replace("http-equiv", "")
    facts = found.as_json()
    assert [one["is_best"] for one in facts["settings"]] == [False, True]
