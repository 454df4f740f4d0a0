"""The pages that a person opens show what the loop did."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from e2e.checkout import Checkout
from e2e.screens import find_chromium, shoot

from its_platform.settings import load_settings

pytestmark = [pytest.mark.slow, pytest.mark.services, pytest.mark.screens, pytest.mark.timeout(900)]


@pytest.fixture
def shown_home(request: pytest.FixtureRequest) -> Path:
    """The home folder named by ITS_SCREENS_HOME, else that of a tiny demo."""
    if "ITS_SCREENS_HOME" in os.environ:
        return Path(os.environ["ITS_SCREENS_HOME"]).absolute()
    tiny: Checkout = request.getfixturevalue("tiny")
    if not (tiny.home / "demo" / "summary.json").exists():
        done = tiny.its("demo", "--scale", "tiny", "--keep-up", timeout=800)
        assert done.returncode == 0, done.stderr[-3000:]
    return tiny.home


def test_every_page_says_what_it_should(shown_home: Path, request: pytest.FixtureRequest, monkeypatch):
    if find_chromium() is None:
        if os.environ.get("ITS_REQUIRE_SERVICES") == "1":
            pytest.fail("Chromium is missing: install it (on Debian: apt-get install chromium).")
        pytest.skip("Chromium is missing: install it (on Debian: apt-get install chromium).")
    monkeypatch.setenv("ITS_HOME", str(shown_home))
    if "ITS_SCREENS_HOME" not in os.environ:
        tiny: Checkout = request.getfixturevalue("tiny")
        for name, value in tiny.environment.items():
            monkeypatch.setenv(name, value)
        assert tiny.its("up").returncode == 0
    missing = shoot(load_settings(), shown_home / "screens")
    assert missing == {name: [] for name in missing}
    assert len(list((shown_home / "screens").glob("*.png"))) == len(missing)
