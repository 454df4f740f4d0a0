"""The server's command and environment, as they are made; nothing is started."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from its_platform.certificates import make_certificates
from its_platform.errors import BadInput, ServerUnavailable
from its_platform.serving import health, server
from its_platform.serving.processes import running, stubs
from its_platform.serving.repository import Route, state_folder, write_routes
from its_platform.settings import REPOSITORY, Settings, load_settings

is_installed = pytest.mark.skipif(
    not (REPOSITORY / ".venvs" / "tritonserver" / "pytriton").is_dir(), reason="the bundled tritonserver is missing"
)


@is_installed
def test_every_address_is_this_machines_own_and_loading_is_explicit(settings: Settings) -> None:
    command, _ = server.triton_command(settings)
    for kind in ("http", "grpc", "metrics"):
        assert f"--{kind}-address=127.0.0.1" in command
    assert "--model-control-mode=explicit" in command
    assert "--strict-readiness=false" in command
    assert f"--grpc-port={settings.ports.triton_grpc}" in command


@is_installed
def test_with_tls_only_grpc_is_open_and_the_secret_is_in_no_argument(settings: Settings) -> None:
    with pytest.raises(BadInput, match="triton_listen needs triton_tls"):
        load_settings(home=settings.home, security={"triton_listen": "0.0.0.0"})
    secured = load_settings(home=settings.home, security={"triton_tls": True, "triton_listen": "0.0.0.0"})
    make_certificates(secured.certificates, ["localhost"], days=1)
    command, environment = server.triton_command(secured)
    assert {"--allow-http=false", "--grpc-use-ssl-mutual=true", "--grpc-address=0.0.0.0"} <= set(command)
    assert "--metrics-address=127.0.0.1" in command
    secret = (secured.certificates / "repository.secret").read_text()
    assert not [word for word in [*command, *environment.values()] if secret in word]


@is_installed
def test_a_start_loads_the_front_and_what_the_routes_name(settings: Settings) -> None:
    assert _loaded(settings) == ["traffic_detector"]
    (settings.model_repository / "detector-yolo-onnx-320" / "4").mkdir(parents=True)
    write_routes(settings, {"production": Route("detector-yolo-onnx-320", 4, 320, ("car",), {})})
    assert _loaded(settings) == ["traffic_detector", "detector-yolo-onnx-320"]


@is_installed
def test_the_stub_runs_on_the_environment_made_for_it(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    monkeypatch.setenv("VIRTUAL_ENV", "/another")
    _, environment = server.triton_command(settings)
    assert environment["PATH"].split(":")[0] == str(settings.environments / "triton" / "bin")
    assert any(Path(environment["LD_LIBRARY_PATH"].split(":")[0]).glob("libpython3*"))
    assert not {"PYTHONPATH", "VIRTUAL_ENV"} & set(environment)
    backends = state_folder(settings) / "backends"
    assert (backends / "python" / "triton_python_backend_stub").is_file()
    assert (backends / "onnxruntime" / "model.py").is_file()


def test_homes_do_not_share_memory(settings: Settings, tmp_path: Path) -> None:
    other = settings.model_copy(update={"home": tmp_path / "other"})
    assert server.shared_memory_prefix(settings) != server.shared_memory_prefix(other)


def test_a_missing_server_names_what_to_run(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not installed") as caught:
        server.triton_command(settings.model_copy(update={"environments": tmp_path}))
    assert "make install" in caught.value.hint


def test_a_taken_port_is_named_before_anything_starts(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind((settings.host, settings.ports.triton_grpc))
        taken.listen()
        with pytest.raises(BadInput, match=str(settings.ports.triton_grpc)) as caught:
            server.start_triton(settings)
    assert "ITS_PORTS__TRITON_GRPC" in caught.value.hint


def test_without_a_server_the_probe_says_so_and_there_is_nothing_to_revive(settings: Settings) -> None:
    (front,) = health.probe(settings)
    assert not front.is_healthy
    assert front.problem.startswith("No Triton answers")
    with pytest.raises(ServerUnavailable, match="No Triton answers"):
        health.revive(settings)
    assert running(settings) is None
    assert stubs(settings) == []
    assert not server.stop_triton(settings)


def _loaded(settings: Settings) -> list[str]:
    command, _ = server.triton_command(settings)
    return [word.removeprefix("--load-model=") for word in command if word.startswith("--load-model=")]
