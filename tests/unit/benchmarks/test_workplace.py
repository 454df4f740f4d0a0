"""The place that a benchmark works in: its own home, with nothing of the person's settings."""

from __future__ import annotations

import os

import pytest

from workplace import own_home


def test_a_benchmark_has_the_machine_as_it_is_and_none_of_the_persons_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITS_TEST_DATA", "/data")
    monkeypatch.setenv("ITS_CANARY__ALPHA", "0.5")
    before = dict(os.environ)
    with own_home() as settings:
        assert os.environ["PATH"] == before["PATH"]
        assert os.environ["ITS_TEST_DATA"] == "/data"
        assert settings.canary.alpha != 0.5
        assert settings.home.is_dir()
        assert settings.ports.dagster == int(os.environ["ITS_PORTS__DAGSTER"])
    assert dict(os.environ) == before
    assert not settings.home.exists()
