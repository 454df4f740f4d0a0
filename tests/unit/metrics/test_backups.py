"""What is measured of backups: how many, how old the newest may become, and how seldom their place is asked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric

from its_platform.backup import made_at
from its_platform.backup.target import BACKUPS, BackupDamaged
from its_platform.errors import ServerUnavailable
from its_platform.metrics.collecting import Seldom
from its_platform.metrics.machine import backups
from its_platform.settings import Settings

EARLIER, LATER = "20260501T080000.000Z-aaaaaaaaaaaa", "20260502T093015.250Z-bbbbbbbbbbbb"


def measured(settings: Settings) -> dict[str, float]:
    return {metric.name: metric.samples[0].value for metric in backups(settings) if metric.samples}


def settings_with(folder: Path, *names: str) -> Settings:
    place = folder / BACKUPS
    place.mkdir(parents=True)
    for name in names:
        (place / f"{name}.json").write_text("{}")
    return Settings(home=folder / "home", backup={"url": f"file://{folder}", "warn_after_days": 2.0})


def test_the_newest_counts_and_says_when_it_was_made(tmp_path: Path) -> None:
    found = measured(settings_with(tmp_path, LATER, EARLIER))
    assert found["its_backups"] == 2
    assert found["its_backup_newest_timestamp_seconds"] == datetime(2026, 5, 2, 9, 30, 15, 250_000, UTC).timestamp()
    assert found["its_backup_due_seconds"] == 2 * 86_400


def test_an_empty_place_has_none_and_no_time_of_one(tmp_path: Path) -> None:
    found = measured(settings_with(tmp_path))
    assert found == {"its_backups": 0, "its_backup_due_seconds": 2 * 86_400}


def test_without_a_place_nothing_is_said(tmp_path: Path) -> None:
    assert measured(Settings(home=tmp_path)) == {}


def test_a_name_that_no_backup_has_is_told(tmp_path: Path) -> None:
    with pytest.raises(BackupDamaged, match="notes"):
        measured(settings_with(tmp_path, "notes"))
    assert made_at(EARLIER) == datetime(2026, 5, 1, 8, tzinfo=UTC)


def test_a_read_is_made_anew_only_after_a_while_and_at_once_after_a_failure() -> None:
    now, asked, is_away = 0.0, 0, False

    def read() -> Iterator[Metric]:
        nonlocal asked
        asked += 1
        if is_away:
            raise ServerUnavailable("It is away.")
        yield GaugeMetricFamily("its_asked", "How often.", value=asked)

    seldom = Seldom(read, 300.0, lambda: now)
    assert [seldom()[0].samples[0].value for _ in range(3)] == [1, 1, 1]
    now, is_away = 300.0, True
    for _ in range(2):
        with pytest.raises(ServerUnavailable):
            seldom()
    is_away = False
    assert seldom()[0].samples[0].value == 4
