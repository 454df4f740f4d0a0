"""The fakes of `tests/fakes.py` and the real Triton and MLflow behave alike where releasing relies on it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from its_platform.errors import NotFound, PermanentError, ServerUnavailable
from its_platform.release.outside import ModelServer, Registry
from its_platform.serving.processes import free_ports
from its_platform.serving.repository import route_of
from its_platform.settings import Ports, Settings, load_settings
from its_platform.stores import Stores
from its_platform.stores.registry import MODEL_NAME, ModelVersion, VersionFacts
from tests.fakes import CORRUPT, FakeRegistry, FakeTriton, onnx_bytes, tiny_onnx

pytestmark = [pytest.mark.services, pytest.mark.slow]
BOXES = ((10, 10, 60, 60, 0.9, 0), (5, 8, 20, 30, 0.4, 1))
PICTURE = np.full((48, 64, 3), 90, np.uint8)
SQUARE = np.full((1, 64, 64, 3), 90, np.uint8)


@dataclass
class Site:
    """One model server, and how it is given a version, restarted and taken away."""

    settings: Settings
    server: ModelServer
    file: Callable[..., bytes]
    restart: Callable[[], None]
    stop: Callable[[], None]
    folder: Path
    numbers: Iterator[int]

    def version(self, content: bytes, number: int) -> tuple[ModelVersion, Path]:
        onnx = self.folder / f"{number}.onnx"
        onnx.write_bytes(content)
        version = ModelVersion(MODEL_NAME, number, "run", "", "v1", "yolo", 64, ["car", "bus"], {}, "")
        return version, onnx

    def serve(self, content: bytes | None = None) -> ModelVersion:
        version, onnx = self.version(self.file(BOXES) if content is None else content, next(self.numbers))
        self.server.place(version, onnx)
        self.server.load(route_of(version).model)
        return version


MODEL = "detector-yolo-onnx-64"


@pytest.fixture(scope="module")
def real_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    from its_platform.release.triton import TritonServer
    from its_platform.serving.server import start_triton, stop_triton

    home = tmp_path_factory.mktemp("triton")
    names = list(Ports.model_fields)
    ports = Ports(**dict(zip(names, free_ports(len(names)), strict=True)))
    settings = load_settings(home=home, ports=ports)
    start_triton(settings)

    def restart() -> None:
        stop_triton(settings)
        start_triton(settings)

    def stop() -> None:
        stop_triton(settings)

    yield Site(settings, TritonServer(settings), tiny_onnx, restart, stop, home, iter(range(1, 100)))
    stop_triton(settings)


@pytest.fixture(scope="module")
def fake_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    home = tmp_path_factory.mktemp("fake")
    settings = load_settings(home=home)
    site = Site(settings, FakeTriton(settings), onnx_bytes, lambda: None, lambda: None, home, iter(range(1, 100)))

    def restart() -> None:
        site.server = FakeTriton(settings)

    def stop() -> None:
        site.server.is_away = True  # type: ignore[attr-defined]

    site.restart, site.stop = restart, stop
    return site


@pytest.fixture(params=["fake", "real"])
def site(request: pytest.FixtureRequest, require: Callable[[bool, str], None]) -> Site:
    if request.param == "real":
        server = load_settings().environments / "tritonserver" / "pytriton"
        require(server.is_dir(), "the bundled Triton")
    return request.getfixturevalue(f"{request.param}_site")


def test_a_placed_version_is_ready_only_after_a_load(site: Site) -> None:
    version, onnx = site.version(site.file(BOXES), next(site.numbers))
    site.server.place(version, onnx)
    assert version.version in site.server.placed()[MODEL]
    assert version.version not in site.server.ready().get(MODEL, set())
    site.server.load(MODEL)
    assert version.version in site.server.ready()[MODEL]


def test_a_detector_answers_what_its_file_says(site: Site) -> None:
    version = site.serve()
    rows = site.server.infer(MODEL, version.version, SQUARE)
    assert rows.shape == (1, 300, 6)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows[0, :2], np.array(BOXES, np.float32), atol=1e-4)
    assert not rows[0, 2:].any()


def test_a_version_is_known_by_its_file_and_its_tensors(site: Site) -> None:
    version = site.serve()
    found = site.server.signature(MODEL, version.version)
    assert found.digest == hashlib.sha256(site.file(BOXES)).hexdigest()
    assert [str(tensor) for tensor in (*found.inputs, *found.outputs)] == [
        "images UINT8 [-1, 64, 64, 3]",
        "detections FP32 [-1, 300, 6]",
    ]


def test_a_loaded_version_keeps_memory_and_an_unknown_one_shows_none(site: Site) -> None:
    version = site.serve()
    kept = site.server.memory_bytes(MODEL, version.version)
    assert kept is not None
    assert kept > 20 * 1024 * 1024
    assert site.server.memory_bytes(MODEL, 999) is None


def test_a_version_that_is_not_loaded_is_a_permanent_error(site: Site) -> None:
    site.serve()
    with pytest.raises(PermanentError):
        site.server.infer(MODEL, 9999, SQUARE)


def test_a_corrupt_version_is_refused_and_the_loaded_ones_go_on(site: Site) -> None:
    good = site.serve()
    bad, onnx = site.version(CORRUPT, next(site.numbers))
    site.server.place(bad, onnx)
    with pytest.raises(PermanentError):
        site.server.load(MODEL)
    assert good.version in site.server.ready()[MODEL]
    assert bad.version not in site.server.ready()[MODEL]
    assert site.server.infer(MODEL, good.version, SQUARE).any()
    site.server.remove(MODEL, bad.version)
    site.server.load(MODEL)
    assert good.version in site.server.ready()[MODEL]


def test_a_removed_version_goes_with_the_next_load(site: Site) -> None:
    stays, goes = site.serve(), site.serve()
    site.server.remove(MODEL, goes.version)
    assert goes.version not in site.server.placed()[MODEL]
    site.server.load(MODEL)
    assert goes.version not in site.server.ready()[MODEL]
    assert stays.version in site.server.ready()[MODEL]


def test_an_unloaded_model_is_not_ready_until_it_is_loaded(site: Site) -> None:
    version = site.serve()
    site.server.unload(MODEL)
    assert not site.server.ready().get(MODEL)
    site.server.load(MODEL)
    assert version.version in site.server.ready()[MODEL]


def test_the_front_answers_by_stage(site: Site) -> None:
    first, second = site.serve(), site.serve()
    routes = {"production": route_of(first), "staging": route_of(second)}
    site.server.route(routes)
    assert site.server.routed() == routes
    assert _settled(site, "production", first.version)
    assert _settled(site, "staging", second.version)
    site.server.route({"production": route_of(second)})
    assert _settled(site, "production", second.version)
    assert _refused(site, "staging")
    with pytest.raises(PermanentError):
        site.server.remove(MODEL, second.version)


def test_routes_that_cannot_be_read_are_none(site: Site) -> None:
    path = site.settings.model_repository.parent / "routes.json"
    site.server.route({})
    path.write_text("{")
    assert site.server.routed() is None
    site.server.route({})
    assert site.server.routed() == {}


def test_a_restarted_server_holds_what_is_routed(site: Site) -> None:
    version = site.serve()
    site.server.route({"production": route_of(version)})
    site.restart()
    assert version.version in site.server.ready()[MODEL]
    assert _settled(site, "production", version.version)
    site.server.route({})


def test_a_server_that_is_away_is_a_transient_error(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each call waits out its deadline for a server that may come back; two minutes of that would show no more.
    monkeypatch.setattr("its_platform.serving.client.LOAD_DEADLINE_S", 2.0)
    monkeypatch.setattr("its_platform.release.triton.INFER_DEADLINE_S", 2.0)
    site.stop()
    for call in (
        site.server.ready,
        lambda: site.server.load(MODEL),
        lambda: site.server.served_version(PICTURE, "production"),
    ):
        with pytest.raises(ServerUnavailable):
            call()
    site.restart()


def _settled(site: Site, stage: str, version: int) -> bool:
    """The front follows its routes within a fraction of a second."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            if site.server.served_version(PICTURE, stage) == version:
                return True
        except PermanentError:
            pass
        time.sleep(0.05)
    return False


def _refused(site: Site, stage: str) -> bool:
    """Its instances each look at the routes by themselves: one may answer a little longer than the other."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            site.server.served_version(PICTURE, stage)
        except PermanentError:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(params=["fake", "real"])
def filled(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    """A registry with versions 1 and 2."""
    if request.param == "fake":
        fake = FakeRegistry(tmp_path)
        fake.add()
        fake.add()
        return fake
    stores: Stores = request.getfixturevalue("stores")
    real = request.getfixturevalue("registry")
    for number in (1, 2):
        folder = tmp_path / f"version{number}"
        folder.mkdir()
        (folder / "model.onnx").write_bytes(onnx_bytes(note=str(number)))
        run = real.client().create_run(real.experiment())
        facts = VersionFacts("v1", "yolo", 64, ["car", "truck"], {"car": 0.3}, {"parity": "1.0"})
        real.create_version(run.info.run_id, folder, facts)
    assert stores.registry.get(MODEL_NAME, 2).version == 2
    return real


def test_an_alias_names_a_version_until_it_is_moved_or_deleted(filled: Registry) -> None:
    assert filled.by_alias(MODEL_NAME, "production") is None
    for number in (1, 2):
        filled.set_alias(MODEL_NAME, "production", number)
        found = filled.by_alias(MODEL_NAME, "production")
        assert found is not None
        assert found.version == number
    filled.delete_alias(MODEL_NAME, "production")
    filled.delete_alias(MODEL_NAME, "production")
    assert filled.by_alias(MODEL_NAME, "production") is None


def test_an_unknown_version_is_not_found_and_gets_no_alias(filled: Registry) -> None:
    with pytest.raises(NotFound):
        filled.get(MODEL_NAME, 9)
    with pytest.raises(NotFound):
        filled.set_alias(MODEL_NAME, "production", 9)
    with pytest.raises(NotFound):
        filled.set_tag(MODEL_NAME, 9, "rejected", "x")
    assert filled.by_alias(MODEL_NAME, "production") is None


def test_a_tag_is_read_back_and_replaced(filled: Registry) -> None:
    for value in ("one", "two", ""):
        filled.set_tag(MODEL_NAME, 1, "rejected", value)
        assert filled.get(MODEL_NAME, 1).tags["rejected"] == value
    assert "rejected" not in filled.get(MODEL_NAME, 2).tags
    assert filled.get(MODEL_NAME, 1).tags["parity"] == "1.0"


def test_a_download_holds_the_onnx_file_that_was_registered(filled: Registry, tmp_path: Path) -> None:
    for _ in range(2):
        folder = filled.download(MODEL_NAME, 2, tmp_path / "cache" / "2")
        content = (folder / "model.onnx").read_bytes()
        assert hashlib.sha256(content).hexdigest() == filled.get(MODEL_NAME, 2).onnx_digest
