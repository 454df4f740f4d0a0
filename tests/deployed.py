"""Where the files of `deploy/` are, and its scripts, which are no modules of a package, as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from its_platform.settings import REPOSITORY

COMPOSE = REPOSITORY / "deploy" / "compose"
GRAFANA = REPOSITORY / "deploy" / "grafana"


def script(path: Path) -> ModuleType:
    """A file as a module, run without its `main`."""
    spec = importlib.util.spec_from_file_location(f"deployed_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look the words of their annotations up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
