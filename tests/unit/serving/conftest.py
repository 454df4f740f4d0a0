"""The front's own modules, imported from the repository as it is written for Triton."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from its_platform.serving.repository import prepare_repository
from its_platform.settings import Settings


@pytest.fixture
def front(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """`front("spool")` imports a module of the front; it is forgotten after the test."""
    prepare_repository(settings)
    folder = settings.model_repository / "traffic_detector" / "1"
    names = [path.stem for path in folder.glob("*.py")]
    monkeypatch.syspath_prepend(str(folder))
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(before)
