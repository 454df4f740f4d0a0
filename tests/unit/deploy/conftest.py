"""The Compose project as it stands in the repository, and secrets for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deployed import COMPOSE, script


@pytest.fixture(scope="session")
def project() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return found


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every secret was drawn."""
    folder = tmp_path_factory.mktemp("drawn")
    script(COMPOSE / "draw_secrets.py").draw(folder)
    return folder
