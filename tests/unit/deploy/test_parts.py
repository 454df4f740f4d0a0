"""What becomes a server in a container is what `its up` starts, but for where it listens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deployed import COMPOSE, script
from its_platform.serving.repository import Route, routes_path
from its_platform.serving.server import triton_command
from its_platform.settings import Settings

SERVE = script(COMPOSE / "triton" / "serve.py")
PART = script(COMPOSE / "platform" / "part.py")
# What belongs to the bundled server, and what the images decide.
OF_THE_BUNDLE = {"--backend-directory", "--cache-directory", "--backend-config", "--allow-gpu-metrics"}
OF_THE_BUNDLE |= {"--pinned-memory-pool-byte-size", "--model-repository"}
ADDRESSES = {"--http-address", "--grpc-address", "--metrics-address"}


def _options(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words[1:] if not word.startswith("--load-model"))


def test_triton_has_the_options_of_the_bundled_one(settings: Settings) -> None:
    bundled = _options(triton_command(settings)[0])
    here = _options(SERVE.command(Path("/state")))
    assert here["--grpc-port"] == "8101"
    ports = {name for name in bundled if name.endswith("-port")}
    kept = bundled.keys() - OF_THE_BUNDLE - ADDRESSES - ports
    assert {name: here[name] for name in kept} == {name: bundled[name] for name in kept}
    assert here.keys() == kept | ADDRESSES | ports | {"--model-repository"}
    # Over HTTP anyone could load and unload; it is for the health check.
    assert here["--http-address"] == "127.0.0.1"


def test_triton_loads_what_the_routes_name(settings: Settings) -> None:
    state = routes_path(settings).parent
    assert [word for word in SERVE.command(state) if "load-model" in word] == ["--load-model=traffic_detector"]
    state.mkdir(parents=True, exist_ok=True)
    route = {"model": "detector-yolo-onnx-320", "version": 3}
    routes_path(settings).write_text(json.dumps({"stages": {"production": route, "canary": route}}))
    loaded = [word for word in SERVE.command(state) if "load-model" in word]
    assert loaded == ["--load-model=traffic_detector", "--load-model=detector-yolo-onnx-320"]
    assert {"model", "version"} <= Route.__dataclass_fields__.keys()


@pytest.mark.parametrize("name", ["evidently", "dagster-code", "dagster"])
def test_a_part_listens_everywhere_and_asks_where_the_settings_say(
    name: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ITS_DAGSTER_CODE_HOST", "dagster-code")
    inside = settings.model_copy(update={"host": "triton", "database_url": "postgresql+psycopg2://its@postgres/"})
    words, environment = PART.program(inside, name)
    assert "0.0.0.0" in words
    assert "triton" not in words
    assert environment["ITS_HOST"] == "triton"
    assert environment["ITS_DAGSTER_CODE_HOST"] == "dagster-code"


def test_what_does_not_answer_is_ill_in_one_line(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ITS_PORTS__EVIDENTLY", str(settings.ports.evidently))
    assert PART.main(["ask", "evidently"]) == 1
    assert "refused" in capsys.readouterr().err
    assert PART.main(["ask"]) == 2
