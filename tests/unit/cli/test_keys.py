"""`its keys destroy`: the key is gone at home and where backups lie, or a person is told that it is not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from its_platform.backup import open_target
from its_platform.backup.keys import mirror_keys
from its_platform.backup.target import claim
from its_platform.cli.keys import app
from its_platform.errors import BadInput, ServerUnavailable
from its_platform.frames.index import FrameIndex
from its_platform.settings import Settings, load_settings
from its_platform.stores import SealedStore, Stores
from its_platform.stores.journal import Journal
from its_platform.stores.keys import Owner
from its_platform.stores.objects import open_keys

NORTH = Owner.of("north", datetime(2026, 5, 1, tzinfo=UTC))
SOUTH = Owner.of("south", datetime(2026, 5, 1, tzinfo=UTC))
DESTROY = ["destroy", "--camera", "north", "--day", "2026-05-01", "--yes"]


@pytest.fixture
def place(tmp_path: Path, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "elsewhere"
    place.mkdir()
    monkeypatch.setenv("ITS_HOME", str(stores.settings.home))
    monkeypatch.setenv("ITS_DATABASE_URL", str(stores.settings.database_url))
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


@pytest.fixture
def second(settings: Settings, tmp_path: Path) -> Path:
    """Another place that a backup was made at once."""
    second = tmp_path / "second"
    second.mkdir()
    target = open_target(settings, second.as_uri())
    claim(settings, target)
    with Journal(settings).step("backup.created", target.name):
        mirror_keys(settings, target)
    return second


def test_a_place_that_is_named_loses_the_key_too(settings: Settings, place: Path, second: Path) -> None:
    done = CliRunner().invoke(app, [*DESTROY, "--from", second.as_uri()])
    assert done.exit_code == 0
    assert (copies(place), copies(second)) == ({"south"}, {"south"})
    assert "Backups were made at" not in done.stderr


def test_a_place_that_was_not_visited_is_told_by_name_until_it_is(settings: Settings, second: Path) -> None:
    done = CliRunner().invoke(app, DESTROY)
    assert done.exit_code == 0
    assert f"Backups were made at {second}, where the key may still lie" in done.stderr
    assert copies(second) == {"north", "south"}
    again = CliRunner().invoke(app, [*DESTROY, "--from", second.as_uri()])
    assert again.exit_code == 0
    assert copies(second) == {"south"}


def test_a_place_that_is_none_or_another_platforms_erases_nothing_there(settings: Settings, second: Path) -> None:
    refused = CliRunner().invoke(app, [*DESTROY, "--from", (second / "nowhere").as_uri()])
    assert isinstance(refused.exception, BadInput)
    assert open_keys(settings).destroyed() == set()
    (second / "platform").write_text("another platform")
    done = CliRunner().invoke(app, [*DESTROY, "--from", second.as_uri()])
    assert "holds the backups of another platform" in done.stderr
    assert copies(second) == {"north", "south"}


def test_a_database_that_is_away_keeps_no_key_and_is_told(
    settings: Settings, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ITS_DATABASE_URL", "postgresql+psycopg2://its@127.0.0.1:1/")
    done = CliRunner().invoke(app, DESTROY)
    assert done.exit_code == 0
    assert "Whether backups lie elsewhere cannot be told" in done.stderr
    assert copies(place) == {"south"}


def test_an_object_store_that_is_away_keeps_no_key_in_the_backups(
    settings: Settings, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> bool:
        raise ServerUnavailable("The object store does not answer.")

    monkeypatch.setattr(FrameIndex, "query", lambda *_, **__: {"object_key": ["frames/a.jpg"]})
    monkeypatch.setattr(SealedStore, "is_sealed", away)
    done = CliRunner().invoke(app, DESTROY)
    assert isinstance(done.exception, ServerUnavailable)
    assert copies(place) == {"south"}
