"""A sweep on real Tritons of its own, in small."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from its_platform.serving.processes import stubs_of_home
from its_platform.serving.repository import place_version, read_routes, route_of, write_routes
from its_platform.serving.sweep import Load, sweep, write_sweep
from its_platform.serving.sweep_page import page_of
from its_platform.serving.tuning import Candidate
from triton_site import PICTURE, settings_at, version_of, write_detector

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(180)]


def test_each_setting_is_measured_apart_from_the_live_server_and_nothing_stays(
    tmp_path: Path, require: Callable[[bool, str], None]
) -> None:
    settings = settings_at(tmp_path / "home")
    require((settings.environments / "tritonserver" / "pytriton").is_dir(), "the bundled Triton")
    onnx = write_detector(tmp_path / "1.onnx", 0.9)
    version = version_of(1, onnx)
    place_version(settings, version, onnx)
    write_routes(settings, {"production": route_of(version)})
    before = sorted(str(path) for path in settings.model_repository.rglob("*"))
    candidates, copies = [Candidate(1, 1), Candidate(2, 1)], set()

    def watch(task: str, done: float, total: float | None = None, note: str = "") -> None:
        for number in range(len(candidates)):
            own = settings.model_copy(update={"home": settings.home / "serving" / "tune" / "work" / str(number)})
            copies.add((number, sum(stub.version == 1 and stub.model == version_model for stub in stubs_of_home(own))))

    version_model = route_of(version).model
    found = sweep(
        settings,
        read_routes(settings)["production"],
        np.stack([PICTURE]),
        candidates,
        Load(2, 2, 0.5),
        60_000,
        2,
        watch,
    )
    assert {(0, 1), (1, 2)} <= copies
    assert [one.candidate for one in found.measured] == candidates
    for one in found.measured:
        assert (len(one.rounds), one.failed) == (2, 0)
        assert one.images_per_s > 0
        assert one.cpu_ms > 0
    assert found.choice.is_within_limit
    table, page = write_sweep(settings, found, page_of)
    assert table.is_file()
    assert "copies of 1 thread" in page.read_text()
    assert not (settings.home / "serving" / "tune" / "work").exists()
    assert sorted(str(path) for path in settings.model_repository.rglob("*")) == before
