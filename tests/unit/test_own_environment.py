"""What of a person's environment reaches a test: what asks for tests, and none of their settings."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _as_a_person_has_it() -> Iterator[None]:
    """Set before what empties the environment for each test."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ITS_BUILD_MINIO", "1")
        patched.setenv("ITS_TRAINING__EPOCHS", "7")
        yield


def test_what_asks_for_a_server_reaches_its_fixture_and_settings_do_not() -> None:
    assert os.environ["ITS_BUILD_MINIO"] == "1"
    assert "ITS_TRAINING__EPOCHS" not in os.environ
