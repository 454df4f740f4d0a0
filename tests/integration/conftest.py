"""What several integration tests need: a platform of its own on real servers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from its_platform import cli
from its_platform.release import real_outside
from its_platform.stores import Stores
from its_platform.stores.registry import Registry
from tests.fakes import card_of
from tests.integration.site import Site, even_answers


@pytest.fixture
def site(stores: Stores, registry: Registry, tmp_path: Path, require: Callable[[bool, str], None]) -> Iterator[Site]:
    from its_platform.serving.server import start_triton, stop_triton

    # A machine that runs the whole suite is restless: the ratio has to be right, its spread is not what is tested.
    gates = stores.settings.gates.model_copy(update={"latency_spread": 50.0, "latency_ratio": 20.0})
    settings = stores.settings.model_copy(update={"gates": gates})
    require((settings.environments / "tritonserver" / "pytriton").is_dir(), "the bundled Triton")
    own = replace(stores, settings=settings)
    start_triton(settings)
    yield Site(own, registry, replace(real_outside(own), evaluate=even_answers, card=card_of), tmp_path)
    stop_triton(settings)


@pytest.fixture
def its(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The `its` command on these stores, as a person gives it: exit code, what it printed, what it told."""
    monkeypatch.setenv("ITS_DATABASE_URL", str(stores.settings.database_url))

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["/usr/bin/its", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        told = capsys.readouterr()
        return int(end.value.code or 0), told.out, told.err

    return run
