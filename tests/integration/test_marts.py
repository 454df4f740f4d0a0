"""dbt builds the marts over rows that the platform's own writers wrote, on DuckDB and on a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from its_platform.labels import Box, FrameLabels
from its_platform.labels.store import add_labels
from its_platform.monitoring import predictions
from its_platform.monitoring.marts import build_marts
from its_platform.monitoring.warehouse import open_warehouse
from its_platform.release.truth import lease, record_release
from its_platform.settings import MartSettings
from its_platform.stores import Stores, open_stores
from tests.unit.dataset.footage import CLASSES, add_frames

DAY = date(2026, 5, 1)
AT = datetime(2026, 5, 1, 8, 59, 30, tzinfo=UTC)
CAR = Box("car", 4, 5, 24, 25, "human", "reviewed")
OTHER_CAR = Box("car", 4, 26, 24, 46, "human", "reviewed")


def on(stores: Stores, target: str) -> Stores:
    """The same stores with the marts at this target."""
    return open_stores(stores.settings.model_copy(update={"marts": MartSettings(target=target)}))  # type: ignore[arg-type]


def log_predictions(stores: Stores, name: str, moments: Sequence[datetime], cars: int, purpose: str = "live") -> None:
    """What the front would have logged, collected as Dagster does."""
    lines = [
        json.dumps(
            {
                "at": at.isoformat(),
                "logged_at": at.isoformat(),
                "camera_id": "north",
                "model": "detector",
                "version": 3,
                "stage": "production",
                "purpose": purpose,
                "counts": {"car": cars, "bus": 0},
                "n": cars,
                "light": "day",
                "latency_ms": 20.0,
            }
        )
        for at in moments
    ]
    stores.settings.spool.mkdir(parents=True, exist_ok=True)
    (stores.settings.spool / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    assert predictions.collect(stores) == len(lines)


def rows(stores: Stores, table: str, columns: str, order: str = "1, 2") -> list[tuple[Any, ...]]:
    with open_warehouse(stores.settings) as warehouse:
        return warehouse.run(f"SELECT {columns} FROM {table} ORDER BY {order}")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["duckdb", "postgres"])
def test_the_marts_hold_what_the_platform_wrote_and_late_rows_reach_their_hour(stores: Stores, target: str) -> None:
    stores = on(stores, target)
    first, second, dark = add_frames(stores, "north", [0, 3600, 5])[:2] + add_frames(
        stores, "south", [7], light="night"
    )
    reviewed = FrameLabels(
        first, (CAR, Box("truck", 30, 5, 50, 25, "human", "reviewed"), OTHER_CAR), CLASSES, review="reviewed"
    )
    guessed = FrameLabels(second, (Box("car", 4, 5, 24, 25, "model", confidence=0.4),), CLASSES)
    empty = FrameLabels(dark, (), CLASSES, review="reviewed")
    assert add_labels(stores, [reviewed, guessed, empty]).added == 3
    with lease(stores) as held:
        for stage, version in (("production", 2), ("production", 3), ("canary", 2)):
            record_release(
                held,
                stage=stage,
                version=version,
                model="detector",
                digest="d" * 64,
                endpoint="127.0.0.1:1",
                by="test",
                why="",
                evidence={},
                action="release.promoted",
            )
    log_predictions(stores, "a", [AT, AT + timedelta(seconds=60)], cars=2)
    log_predictions(stores, "b", [AT], cars=9, purpose="reference")

    built = build_marts(stores)
    assert built.target == target
    assert built.failed == []
    assert {one.kind for one in built.outcomes} == {"model", "test", "unit_test"}
    assert rows(stores, "marts.frames_by_camera_day", "camera_id, day, frames, reviewed_frames, night_frames") == [
        ("north", DAY, 3, 1, 0),
        ("south", DAY, 1, 1, 1),
    ]
    assert rows(stores, "marts.class_balance_by_day", "class_name, boxes, reviewed_boxes, share_of_boxes") == [
        ("car", 3, 2, 0.75),
        ("truck", 1, 1, 0.25),
    ]
    assert rows(stores, "marts.label_throughput", "review, labellings, frames, boxes") == [
        ("reviewed", 2, 2, 3),
        ("unreviewed", 1, 1, 1),
    ]
    assert rows(stores, "marts.model_versions_in_use", "version, is_in_use, predictions, cameras") == [
        (2, False, 0, 0),
        (2, True, 0, 0),
        (3, True, 2, 1),
    ]
    eight, nine = datetime(2026, 5, 1, 8), datetime(2026, 5, 1, 9)  # noqa: DTZ001
    hours = ("marts.detections_by_camera_class_hour", "hour, class_name, frames, detections")
    assert rows(stores, *hours) == [
        (eight, "bus", 1, 0),
        (eight, "car", 1, 2),
        (nine, "bus", 1, 0),
        (nine, "car", 1, 2),
    ]

    log_predictions(stores, "late", [AT - timedelta(seconds=1)], cars=5)
    again = build_marts(stores)
    assert again.failed == []
    assert {one.source: one.rows for one in again.loaded} == {"frames": 0, "labels": 0, "predictions": 1, "releases": 3}
    assert rows(stores, *hours) == [
        (eight, "bus", 2, 0),
        (eight, "car", 2, 7),
        (nine, "bus", 1, 0),
        (nine, "car", 1, 2),
    ]
    assert rows(stores, hours[0], "hour, class_name, load_number") == [
        (eight, "bus", 2),
        (eight, "car", 2),
        (nine, "bus", 1),
        (nine, "car", 1),
    ]
