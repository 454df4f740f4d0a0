"""The one checkout that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.checkout import Checkout, checkout_at


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """The checkout in which the tests of this folder run one demo; all it started is stopped at the end."""
    checkout = checkout_at(tmp_path_factory.mktemp("e2e") / "its")
    try:
        yield checkout
    finally:
        checkout.its("down")
