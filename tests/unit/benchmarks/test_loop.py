"""The loop's clock stops where a newer version first answers live traffic; production is told beside it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import loop
import pytest

from its_platform.stores import Stores
from its_platform.stores.registry import MODEL_NAME
from its_platform.stores.schema import ReleaseRow

BEGAN = datetime(2026, 5, 1, tzinfo=UTC)


def add(stores: Stores, *rows: tuple[str, int]) -> None:
    with stores.database.session() as session:
        for number, (stage, version) in enumerate(rows):
            at = BEGAN + timedelta(seconds=number)
            named = {"model_name": MODEL_NAME, "digest": "", "endpoint": "", "model": "", "by": ""}
            session.add(ReleaseRow(stage=stage, version=version, since=at, until=at, **named))


def test_the_first_row_of_the_newer_version_stops_the_clock_and_production_comes_after_all_its_steps(
    stores: Stores,
) -> None:
    add(stores, ("production", 1), ("staging", 2), ("canary", 2), ("canary", 2), ("production", 2), ("canary", 3))
    with stores.database.session() as session:
        first, last = loop.released(session, newer_than=1)
        assert [(row.stage, (row.since - BEGAN).seconds) for row in (first, last)] == [("canary", 2), ("production", 4)]


def test_a_version_that_goes_live_at_once_has_one_row_for_both(stores: Stores) -> None:
    add(stores, ("production", 1), ("production", 2))
    with stores.database.session() as session:
        first, last = loop.released(session, newer_than=1)
        assert first is last


def test_a_canary_that_never_got_to_production_is_no_figure(stores: Stores) -> None:
    add(stores, ("production", 1), ("canary", 2), ("canary", 3), ("production", 3))
    with stores.database.session() as session, pytest.raises(RuntimeError, match="version 2 was a canary"):
        loop.released(session, newer_than=1)
