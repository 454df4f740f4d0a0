from __future__ import annotations

import pytest

from its_platform.stores import Stores
from tests.fakes import Steps, fake_outside
from tests.unit.release.platform import Platform


@pytest.fixture
def platform(stores: Stores) -> Platform:
    steps = Steps()
    return Platform(stores, fake_outside(stores.settings, steps=steps), steps)
