"""The pages that a person opens show what the loop did."""

from __future__ import annotations

import os

import pytest

from e2e.checkout import Checkout
from e2e.screens import find_chromium, shoot
from its_platform.settings import load_settings

pytestmark = [pytest.mark.slow, pytest.mark.services, pytest.mark.screens, pytest.mark.timeout(900)]


@pytest.fixture
def shown(tiny: Checkout) -> Checkout:
    """A checkout in which a tiny demo has run, with its servers up."""
    if not (tiny.home / "demo" / "summary.json").exists():
        done = tiny.its("demo", "--scale", "tiny", "--keep-up", timeout=800)
        assert done.returncode == 0, done.stderr[-3000:]
    assert tiny.its("up").returncode == 0
    return tiny


def test_every_page_says_what_it_should(shown: Checkout, monkeypatch: pytest.MonkeyPatch):
    if find_chromium() is None:
        if os.environ.get("ITS_REQUIRE_SERVICES") == "1":
            pytest.fail("Chromium is missing: install it (on Debian: apt-get install chromium).")
        pytest.skip("Chromium is missing: install it (on Debian: apt-get install chromium).")
    for name, value in shown.environment.items():
        monkeypatch.setenv(name, value)
    missing = shoot(load_settings(), shown.home / "screens")
    assert missing == {name: [] for name in missing}
    assert len(list((shown.home / "screens").glob("*.png"))) == len(missing)
