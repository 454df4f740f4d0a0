"""The command tree: every group is there and lazy, errors are one line, exit codes mean what is written."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from its_platform import cli
from its_platform.cli.output import emit, plain
from its_platform.errors import BadInput

HEAVY = {"numpy", "pandas", "cv2", "sqlalchemy", "torch", "mlflow", "dagster", "evidently"}


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main([*words])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom its_platform.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.stderr.write(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert [name for name in cli.ENTRIES if name not in done.stdout] == []
    assert HEAVY & set(done.stderr.split()) == set()


@pytest.mark.parametrize("name", sorted(cli.ENTRIES))
def test_each_command_loads_and_says_what_it_is_for(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, name, "--help")
    assert code == 0
    assert f"its {name}" in out


def test_bad_use_ends_with_two_and_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "statsu")
    assert code == 2
    assert "status" in err


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Root:
        def main(self, **words: object) -> None:
            raise error

    monkeypatch.setattr(cli, "root", Root)


def test_an_error_is_one_line_with_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, BadInput("The video [a] is empty.", "Give another."))
    code, out, err = run(capsys, "camera")
    assert (code, out) == (1, "")
    assert err == "Error: The video [a] is empty. Give another.\n"


def test_an_unforeseen_error_is_one_line_too_and_a_traceback_with_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, KeyError("x"))
    code, _, err = run(capsys, "camera")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "--debug" in err
    with pytest.raises(KeyError):
        cli.main(["camera", "--debug"])


@dataclass(frozen=True)
class Fact:
    at: datetime
    path: Path
    score: float


def test_facts_are_printed_as_json_that_other_programs_read(capsys: pytest.CaptureFixture[str]) -> None:
    emit([Fact(datetime(2026, 1, 2, tzinfo=UTC), Path("a/b"), float("nan"))], json=True)
    read = json.loads(capsys.readouterr().out)
    assert read == [{"at": "2026-01-02T00:00:00+00:00", "path": "a/b", "score": None}]


def test_numbers_of_other_libraries_become_plain_ones() -> None:
    import numpy as np

    assert plain({"n": np.int64(3), "x": np.float32(0.5), "row": np.arange(2)}) == {"n": 3, "x": 0.5, "row": [0, 1]}


def test_a_table_shows_square_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    emit([{"name": "[red]x[/red]"}])
    assert "[red]x[/red]" in capsys.readouterr().out


def test_a_scale_that_does_not_exist_is_bad_use(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        cli.main(["demo", "--scale", "huge"])
    assert ended.value.code == 2
    assert "huge" in capsys.readouterr().err


def test_marts_of_which_one_failed_are_printed_and_end_with_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from its_platform.monitoring.marts import MartsResult, Outcome

    outcomes = (
        Outcome("model", "stg_frames", "success", "OK", 0.1),
        Outcome("test", "unique_row", "fail", "Got 2 results [of 3]", 0.1),
        Outcome("test", "not_null_row", "pass", "", 0.1),
    )
    built = MartsResult("duckdb", (), {"frames_by_camera_day": 7}, outcomes)
    monkeypatch.setattr("its_platform.monitoring.marts.build_marts", lambda *_: built)
    code, out, err = run(capsys, "monitor", "marts")
    assert code == 1
    assert "frames_by_camera_day" in out
    assert "Tests: 1 fail, 1 pass." in err
    assert "unique_row: Got 2 results [of 3]" in err
    code, out, _ = run(capsys, "monitor", "marts", "--json")
    assert code == 1
    assert json.loads(out)["failed"] == ["unique_row: Got 2 results [of 3]"]


def test_an_empty_home_is_not_the_folder_that_one_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    from its_platform.errors import BadInput
    from its_platform.settings import load_settings

    monkeypatch.setenv("ITS_HOME", "")
    with pytest.raises(BadInput, match="ITS_HOME is empty"):
        load_settings()
