"""How rounds become a figure and a verdict, and that what is written is what the schema says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

import figures
from figures import Comparison, Round, above_peer, at_most, figure_of, measure, times_peer, verdict_on

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "schemas" / "bench.json").read_text("utf-8"))
COST = Comparison("cost", "raw", "CPU ms", above_peer(4.0), "python benchmarks/serving.py", split_unit="CPU ms")
THROUGHPUT = replace(COST, name="throughput", floor=times_peer(0.95), better="higher")


def rounds(*pairs: tuple[float, float]) -> list[Round]:
    return [Round(ours, peer) for ours, peer in pairs]


def test_the_medians_count_and_the_floor_follows_the_peer_of_the_median_round():
    figure = figure_of(COST, rounds((104, 100), (103, 101), (180, 102)))
    assert (figure.ours, figure.peer, figure.floor) == (104, 101, 104)
    assert figure.spread == pytest.approx((180 - 103) / 104, abs=1e-3)


def test_a_slow_minute_that_slows_both_of_its_rounds_decides_nothing():
    assert verdict_on(COST, rounds((103, 100), (124, 121), (125, 99.9))) == "passed"
    assert verdict_on(COST, rounds((105, 100), (126, 121), (99, 121))) == "failed"


def test_a_lower_figure_passes_up_to_its_floor_and_not_above():
    assert verdict_on(COST, rounds((104, 100))) == "passed"
    assert verdict_on(COST, rounds((104.1, 100))) == "failed"


def test_where_more_is_better_the_floor_is_the_least():
    assert verdict_on(THROUGHPUT, rounds((95, 100))) == "passed"
    assert verdict_on(THROUGHPUT, rounds((94.9, 100))) == "failed"


def test_rounds_far_apart_that_disagree_give_no_verdict_and_do_not_pass():
    figure = figure_of(COST, rounds((80, 100), (90, 100), (140, 100)))
    assert (figure.verdict, figure.passed) == ("no verdict", False)


def test_rounds_far_apart_that_agree_are_a_verdict():
    assert verdict_on(COST, rounds((50, 100), (90, 100), (100, 100))) == "passed"
    assert verdict_on(COST, rounds((110, 100), (150, 100), (200, 100))) == "failed"


def test_rounds_close_together_are_judged_by_their_median_alone():
    assert verdict_on(COST, rounds((103, 100), (103.5, 100), (105, 100))) == "passed"


def test_the_split_and_the_cpu_are_medians_too():
    taken = [Round(3, 1, cpu, cpu / 2, {"decode": cpu, "store": 1.0}) for cpu in (10.0, 30.0, 20.0)]
    figure = figure_of(COST, taken)
    assert (figure.cpu_ms, figure.peer_cpu_ms, figure.split) == (20.0, 10.0, {"decode": 20.0, "store": 1.0})


def taking(*taken: Mapping[str, Round]) -> Iterator[Mapping[str, Round]]:
    return iter(taken)


def test_what_has_not_passed_is_measured_again_and_every_attempt_is_told():
    source = taking({"cost": Round(110, 100)}, {"cost": Round(103, 100)}, {"cost": Round(102, 100)})
    (figure,) = measure([COST], lambda: next(source), rounds=1)
    assert (figure.ours, figure.attempts, figure.passed) == (103, [110, 103], True)


def test_of_attempts_that_never_passed_the_steadiest_is_kept():
    wide, steady = [(110.0, 100.0), (150.0, 100.0)], [(120.0, 100.0), (121.0, 100.0)]
    source = taking(*({"cost": Round(*pair)} for pair in (*wide, *steady, *wide)))
    (figure,) = measure([COST], lambda: next(source), rounds=2)
    assert (figure.ours, figure.passed) == (120.5, False)
    assert figure.attempts == [130, 120.5, 130]


def test_a_figure_that_passed_stays_as_it_was_while_others_are_measured_again():
    source = taking(
        {"cost": Round(101, 100), "throughput": Round(50, 100)},
        {"cost": Round(300, 100), "throughput": Round(99, 100)},
    )
    cost, throughput = measure([COST, THROUGHPUT], lambda: next(source), rounds=1)
    assert (cost.ours, cost.attempts) == (101, [101])
    assert (throughput.ours, throughput.attempts) == (99, [50, 99])


def test_what_is_written_is_what_the_schema_says_and_is_read_back(tmp_path: Path):
    full = figure_of(COST, [Round(101, 100, 5.0, 4.0, {"client": 1.0})])
    bare = figure_of(replace(COST, floor=at_most(1.0), split_unit=None), rounds((2, 1)))
    figures.write([full, bare], tmp_path / "bench.json")
    jsonschema.validate(json.loads((tmp_path / "bench.json").read_text("utf-8")), SCHEMA)
    assert figures.read(tmp_path / "bench.json") == [full, bare]


def test_a_figure_without_a_floor_is_told_and_judged_by_nothing(tmp_path: Path):
    told = replace(COST, name="memory", peer_name=None, floor=None, split_unit="MB")
    source = taking({"memory": Round(300, split={"triton": 200}), "cost": Round(101, 100)})
    memory, _ = measure([told, COST], lambda: next(source), rounds=1)
    assert (memory.verdict, memory.passed, memory.floor, memory.peer) == ("no floor", True, None, None)
    assert memory.split == {"triton": 200}
    figures.write([memory], tmp_path / "bench.json")
    jsonschema.validate(json.loads((tmp_path / "bench.json").read_text("utf-8")), SCHEMA)
    assert figures.read(tmp_path / "bench.json") == [memory]
    shown = StringIO()
    figures.show([memory], Console(file=shown, width=150))
    assert "no floor" in shown.getvalue()
    assert "memory, MB: triton 200" in shown.getvalue()


def test_a_floor_without_a_peer_is_refused():
    with pytest.raises(ValueError, match="peer"):
        verdict_on(COST, [Round(1)])


def test_the_schema_refuses_a_figure_without_its_command():
    entry = {name: value for name, value in vars(figure_of(COST, rounds((1, 1)))).items() if value is not None}
    jsonschema.validate([entry], SCHEMA)
    with pytest.raises(jsonschema.ValidationError, match="command"):
        jsonschema.validate([{name: value for name, value in entry.items() if name != "command"}], SCHEMA)
    with pytest.raises(jsonschema.ValidationError, match="peer"):
        jsonschema.validate([{name: value for name, value in entry.items() if name != "peer"}], SCHEMA)
