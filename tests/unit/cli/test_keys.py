"""`its keys destroy`: the key is gone at home and where backups lie, or a person is told that it is not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from its_platform.backup import open_target
from its_platform.backup.keys import mirror_keys
from its_platform.cli.keys import app
from its_platform.settings import Settings, load_settings
from its_platform.stores.keys import Owner
from its_platform.stores.objects import open_keys

NORTH = Owner.of("north", datetime(2026, 5, 1, tzinfo=UTC))
SOUTH = Owner.of("south", datetime(2026, 5, 1, tzinfo=UTC))
DESTROY = ["destroy", "--camera", "north", "--day", "2026-05-01", "--yes"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "elsewhere"
    place.mkdir()
    monkeypatch.setenv("ITS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ITS_BACKUP__URL", place.as_uri())
    return place


@pytest.fixture
def settings(place: Path) -> Settings:
    settings = load_settings()
    for owner in (NORTH, SOUTH):
        open_keys(settings).for_sealing(owner)
    assert mirror_keys(settings, open_target(settings)) == 2
    return settings


def copies(place: Path) -> set[str]:
    return {path.parent.name for path in place.glob("**/keys/data/*/*.json")}


def test_a_destroyed_key_is_gone_from_the_backups_at_once(settings: Settings, place: Path) -> None:
    assert copies(place) == {"north", "south"}
    assert CliRunner().invoke(app, DESTROY).exit_code == 0
    assert copies(place) == {"south"}
    assert open_keys(settings).destroyed() == {NORTH}


def test_where_backups_cannot_be_reached_a_person_is_told_what_still_lies_there(
    settings: Settings, place: Path
) -> None:
    away = place.rename(place.with_name("away"))
    done = CliRunner().invoke(app, DESTROY)
    assert done.exit_code == 0
    assert "its backup create" in done.stderr
    assert open_keys(settings).destroyed() == {NORTH}
    away.rename(place)
    mirror_keys(settings, open_target(settings))
    assert copies(place) == {"south"}
