"""What a soak makes of requests, rows and samples: the gap of a kill, lost rows, leaks, the verdict, and its block."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from footprint import Footprint
from soak import __main__ as command
from soak.page import BEGIN, END, Setting, block_of, page_of, put_block, verdict_words, write_block
from soak.reckoning import (
    Growth,
    Minute,
    Request,
    RowCount,
    Sample,
    back_at,
    count_rows,
    growth_of,
    growths,
    is_of_the_gap,
    key_of,
    leaks,
    minutes_of,
    slope_of,
    started_again,
)
from soak.verdict import Repeat, is_watched_long_enough, reasons

KILLED_AT = 100.0
HELD = Footprint(pid=7, memory_mb=500.0, is_shared_out=True, cpu_s=1.0, descriptors=40, threads=10)
STEADY = Growth(500, 505, 900, is_judged=True)
REPEAT = Repeat(
    number=1,
    up_s=30,
    first_version_s=90,
    load_s=600,
    requests=6000,
    failed=3,
    failed_in_gap=3,
    killed_s=300,
    back_s=20,
    p50=10,
    p95=20,
    p99=30,
    minutes=[Minute(0, 600, 3, 10, 20, 30, 9.9, 0.1)],
    rows=RowCount(5997, lost=0, in_memory=4, twice=0),
    duplicates={"frames": 0},
    live=(100, 2),
    frames=400,
    reports=5,
    versions=[1, 2],
    runs={"SUCCESS": 9},
    growths={"triton": {"memory_mb": STEADY, "descriptors": STEADY, "threads": STEADY}},
    started_again=["triton"],
    findings=[],
    database_mb=(30, 40),
    objects_mb=(5, 9),
    problems=[],
)
SETTING = Setting("2 cores", "load average 0.1 before it began", "2026-05-01", "make soak", "services")


def answered(sent: float, took: float = 0.01, camera: str = "a") -> Request:
    return Request(camera, sent, sent + took, version=1)


def unanswered(sent: float, took: float = 10.0) -> Request:
    return Request("a", sent, sent + took, None, "Triton is away")


# Requests


def test_a_minute_counts_what_was_sent_in_it_and_the_last_one_may_be_short() -> None:
    requests = [*(answered(n, took=n / 1000) for n in range(60)), unanswered(61), *(answered(n) for n in range(62, 90))]
    first, second = minutes_of(requests, 0, 90)
    assert (first.requests, first.failed, first.images_s) == (60, 0, 1.0)
    assert first.p50 == pytest.approx(29.5)
    assert (second.requests, second.failed) == (29, 1)
    assert (second.images_s, second.failed_s) == (pytest.approx(28 / 30), pytest.approx(1 / 30))


def test_a_minute_without_an_answer_has_no_latency() -> None:
    (only,) = minutes_of([unanswered(1)], 0, 60)
    assert (only.requests, only.failed, only.p50, only.images_s) == (1, 1, None, 0)


def test_the_new_server_is_back_where_the_long_silence_ends() -> None:
    # The first answer after the kill is one that the old server had sent before.
    requests = [answered(99), answered(100.0, 0.05), unanswered(105), answered(121), answered(121.4), answered(160)]
    assert back_at(requests, KILLED_AT) == pytest.approx(121.01)


def test_a_server_that_never_answers_again_is_not_back() -> None:
    assert back_at([answered(98), unanswered(105)], KILLED_AT) is None


def test_what_was_under_way_while_nobody_could_answer_is_of_the_gap() -> None:
    assert is_of_the_gap(unanswered(95), KILLED_AT, back=120)
    assert is_of_the_gap(unanswered(119), KILLED_AT, back=120)
    assert not is_of_the_gap(unanswered(80), KILLED_AT, back=120)
    assert not is_of_the_gap(unanswered(121), KILLED_AT, back=120)


# Rows


def test_an_answer_without_a_row_is_lost_unless_the_killed_front_still_held_it() -> None:
    requests = [answered(50), answered(98.5), answered(130), answered(140), unanswered(101)]
    held = {key_of("a", 140): 1}
    assert count_rows(requests, held, KILLED_AT, memory_s=3) == RowCount(4, lost=2, in_memory=1, twice=0)


def test_a_row_counts_for_its_own_camera_and_one_too_many_is_told() -> None:
    requests = [answered(50, camera="a"), answered(50, camera="b")]
    held = {key_of("a", 50): 2, key_of("c", 50): 1}
    assert count_rows(requests, held, KILLED_AT, 3) == RowCount(2, lost=1, in_memory=0, twice=1)


# What grows


def test_a_line_is_not_moved_by_a_third_of_outliers() -> None:
    points = [(float(n), 10 + 2.0 * n + (500 if n % 3 == 0 else 0)) for n in range(1, 30)]
    assert slope_of(points) == pytest.approx(2.0)


def test_runs_that_come_and_go_are_no_growth_and_a_rising_ground_is() -> None:
    noise = random.Random(0)
    ragged = [(10.0 * n, 400 + noise.choice([0, 0, 300])) for n in range(100)]
    assert growth_of(ragged).share == pytest.approx(0, abs=0.01)
    rising = [(at, value + 0.2 * at) for at, value in ragged]
    found = growth_of(rising)
    assert found.an_hour == pytest.approx(720, rel=0.05)
    assert found.is_judged


def test_what_a_part_grows_while_it_warms_up_does_not_count() -> None:
    found = growth_of([(10.0 * n, min(100.0 + 20 * n, 600.0)) for n in range(100)])
    assert (found.start, found.share) == (pytest.approx(600), pytest.approx(0))


def test_a_short_watch_judges_nothing() -> None:
    rising = [(10.0 * n, 100.0 + 10 * n) for n in range(20)]
    assert not growth_of(rising).is_judged
    assert leaks({"triton": {"memory_mb": growth_of(rising)}}) == []
    assert growth_of([(5.0, 100.0)]).share == 0


def test_a_leak_is_a_fifth_and_more_than_small_parts_breathe() -> None:
    grown = {
        "leaks": {"memory_mb": Growth(500, 620, 900, is_judged=True)},
        "is small": {"memory_mb": Growth(20, 40, 900, is_judged=True)},
        "is large": {"memory_mb": Growth(1000, 1150, 900, is_judged=True)},
        "opens files": {"descriptors": Growth(40, 90, 900, is_judged=True)},
    }
    told = leaks(grown)
    assert [words.partition(":")[0] for words in told] == ["leaks", "opens files"]
    assert "from 500 to 620 (+24%)" in told[0]


def test_only_the_last_life_of_a_part_is_followed() -> None:
    first = [Sample(10.0 * n, {"triton": replace(HELD, memory_mb=900.0)}) for n in range(50)]
    second = [Sample(500 + 10.0 * n, {"triton": replace(HELD, pid=8, memory_mb=300.0)}) for n in range(50)]
    found = growths([*first, *second])["triton"]["memory_mb"]
    assert (found.start, found.end) == (pytest.approx(300), pytest.approx(300))


def test_the_caches_of_postgresql_fill_and_what_it_holds_beside_them_is_judged() -> None:
    filling = [
        replace(HELD, memory_mb=60.0 + n, segments_mb=float(n), descriptors=40 + n, files=10 + n) for n in range(60)
    ]
    found = growths([Sample(10.0 * n, {"postgres": one, "triton": one}) for n, one in enumerate(filling)])
    assert found["postgres"]["memory_mb"].start == found["postgres"]["memory_mb"].end == pytest.approx(60)
    assert [words.partition(" grew")[0] for words in leaks(found)] == ["triton: memory", "triton: descriptors"]
    leaking = [replace(one, segments_mb=0.0, files=10) for one in filling]
    found = growths([Sample(10.0 * n, {"postgres": one}) for n, one in enumerate(leaking)])
    assert [words.partition(" grew")[0] for words in leaks(found)] == ["postgres: memory", "postgres: descriptors"]


def test_a_part_with_another_process_or_without_one_was_started_again_or_ended() -> None:
    before = Sample(0, {"triton": HELD, "redis": HELD, "mlflow": HELD})
    after = Sample(9, {"triton": replace(HELD, pid=8), "mlflow": HELD})
    assert started_again([before, after]) == {"triton", "redis"}


# The verdict


def test_a_repeat_that_kept_its_promises_has_no_reason_against_it() -> None:
    assert reasons(REPEAT) == []
    assert verdict_words([REPEAT]) == "**Kept.**"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"requests": 0}, "nobody was asked"),
        ({"failed": 5, "problems": ["it said no"]}, "2 requests failed while Triton ran, first: it said no"),
        ({"back_s": None}, "did not answer again"),
        ({"rows": RowCount(9, lost=1, in_memory=0, twice=0)}, "1 answers have no row"),
        ({"rows": RowCount(9, lost=0, in_memory=0, twice=2)}, "2 answers have more than one row"),
        ({"duplicates": {"frames": 3, "models": 0}}, "there twice: 3 frames"),
        ({"versions": [1]}, "no retrained version"),
        ({"started_again": ["mlflow", "triton"]}, "ended meanwhile: mlflow"),
        ({"growths": {"redis": {"memory_mb": Growth(100, 200, 900, is_judged=True)}}}, "redis: memory grew"),
        ({"findings": ["Redis: does not answer"]}, "Redis: does not answer"),
    ],
)
def test_each_broken_promise_is_a_reason(changed: dict[str, object], words: str) -> None:
    (told,) = reasons(replace(REPEAT, **changed))  # type: ignore[arg-type]
    assert words in told
    assert verdict_words([REPEAT, replace(REPEAT, number=2, **changed)]).startswith("**Not kept.** repeat 2: ")  # type: ignore[arg-type]


def test_a_soak_that_was_too_short_to_find_a_leak_says_so() -> None:
    short = replace(REPEAT, growths={"triton": {"memory_mb": replace(STEADY, is_judged=False)}})
    assert not is_watched_long_enough([REPEAT, short])
    assert verdict_words([short]) == "**Kept.** Too short to tell a leak of every part."


# Where it is written


def test_the_block_takes_the_place_of_what_was_there_and_nothing_else_changes(tmp_path: Path) -> None:
    page = tmp_path / "results.md"
    page.write_text(f"before\n\n{BEGIN}\nold figures\n{END}\n\nafter\n", "utf-8")
    block = block_of([REPEAT, replace(REPEAT, number=2)], SETTING)
    write_block(page, block)
    once = page.read_text("utf-8")
    assert once.startswith(f"before\n\n{BEGIN}\n")
    assert once.endswith(f"\n{END}\n\nafter\n")
    assert "old figures" not in once
    assert "`make soak`, 2026-05-01, services profile, 2 cores" in once
    assert "| triton | 500 to 505 (+20 an hour) |" in once
    write_block(page, block)
    assert page.read_text("utf-8") == once


@pytest.mark.parametrize("text", ["", BEGIN, f"{END} {BEGIN}", f"{BEGIN} {BEGIN} {END}"])
def test_a_document_without_its_two_markers_is_left_alone(text: str) -> None:
    with pytest.raises(ValueError, match="soak"):
        put_block(text, "figures")


def test_the_results_page_has_the_markers() -> None:
    text = (Path(__file__).parents[3] / "docs" / "results.md").read_text("utf-8")
    assert "new figures" in put_block(text, "new figures")


def test_a_repeat_that_breaks_off_leaves_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def one_repeat(number: int, seconds: float, profile: str, folder: Path, progress: object) -> Repeat:
        if number == 2:
            raise RuntimeError("the load ended before Triton was killed")
        folder.mkdir(parents=True)
        one = {"at": 1.0, "parts": {"triton": asdict(HELD)}}
        (folder / "samples.jsonl").write_text(json.dumps(one) + "\n" + json.dumps(one | {"at": 2.0}) + "\n")
        return REPEAT

    monkeypatch.setattr(command, "one_repeat", one_repeat)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setenv("ITS_HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["soak", "--minutes", "3", "--repeats", "2"])
    assert command.main() == 1
    assert "broken off: the load ended" in capsys.readouterr().out
    assert [one["requests"] for one in json.loads((tmp_path / "soak" / "soak.json").read_text())] == [6000]
    assert "Repeat 1" in (tmp_path / "soak" / "report.html").read_text()


def test_the_page_needs_nothing_from_outside_and_escapes_what_servers_said() -> None:
    told = replace(REPEAT, findings=["<script>alert(1)</script>"])
    samples = [Sample(float(n), {"triton": HELD}) for n in range(3)]
    page = page_of([told], [samples], SETTING)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page
    assert page.count("data:image/png;base64,") == 1
