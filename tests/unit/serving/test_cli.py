"""The commands: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from its_platform import cli
from its_platform.serving import detect, health
from its_platform.serving.detect import DetectResult
from its_platform.serving.health import ProbeResult


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["its", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    code = ended.value.code
    return code if isinstance(code, int) else int(bool(code))


def healthy(is_healthy: bool) -> ProbeResult:
    return ProbeResult("traffic_detector", None, ("production",), is_healthy, 0, 6, 3.0, "" if is_healthy else "dead")


@pytest.mark.parametrize(("is_healthy", "code"), [(True, 0), (False, 1)])
def test_a_probe_fails_when_something_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_healthy: bool, code: int
) -> None:
    monkeypatch.setattr(health, "probe", lambda settings: [healthy(is_healthy)])
    assert run(monkeypatch, "serving", "probe", "--json") == code
    printed = capsys.readouterr()
    assert json.loads(printed.out)["probes"][0]["is_healthy"] is is_healthy
    assert ("dead" in printed.err) is not is_healthy


def test_status_without_a_server_says_how_to_start_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ITS_PORTS__TRITON_GRPC", "1")
    assert run(monkeypatch, "serving", "status") == 1
    assert "its up" in " ".join(capsys.readouterr().err.split())


def test_detect_passes_on_what_was_asked_and_prints_what_was_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given: list[Any] = []

    def detect_file(settings: Any, source: Path, out: Any, asked: Any, every: int, progress: Any) -> DetectResult:
        given.extend([source, out, asked.stage, asked.confidence, every])
        return DetectResult(source, source, 2, 3, {"car": 3}, "detector", 5)

    monkeypatch.setattr(detect, "detect_file", detect_file)
    code = run(monkeypatch, "detect", "a.mp4", "--stage", "staging", "--confidence", "0.3", "--every", "2", "--json")
    assert code == 0
    assert given == [Path("a.mp4"), None, "staging", 0.3, 2]
    assert json.loads(capsys.readouterr().out)["by_class"] == {"car": 3}


def test_detect_with_an_impossible_confidence_is_bad_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "detect", "a.mp4", "--confidence", "2") == 2
