"""Figures from real tables: what stands there, what is absent, and how many cameras get labels."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
import sqlalchemy as sa
from prometheus_client.core import Metric

from its_platform.errors import ServerUnavailable
from its_platform.metrics.rows import VERDICTS, Rows
from its_platform.release.gates.result import Verdict
from its_platform.settings import load_settings
from its_platform.stores import Stores
from its_platform.stores.schema import CameraRow, DriftReportRow, GateResultRow, IngestMark, ReleaseRow

NOW = datetime(2026, 5, 1, 8, tzinfo=UTC)
SINCE = "its_release_since_timestamp_seconds"
DETECTOR = "detector-yolo-onnx-320"


def values(metrics: Iterable[Metric]) -> dict[tuple[str, ...], float]:
    """`{(figure, label value, ...): value}`."""
    return {(s.name, *s.labels.values()): s.value for metric in metrics for s in metric.samples}


def release(version: int, until: datetime | None) -> ReleaseRow:
    return ReleaseRow(
        stage="production", model_name="traffic-detector", version=version, digest="d", endpoint="e", model=DETECTOR,
        since=NOW, until=until, by="me",
    )  # fmt: skip


def report(name: str, version: int, until: datetime, score: float) -> DriftReportRow:
    return DriftReportRow(
        id=name, model_version=version, since=NOW, until=until, rows=9, score=score, is_drifted=score >= 1,
        verdict="drifted" if score >= 1 else "stable", run_key=name,
    )  # fmt: skip


def test_cameras_have_labels_up_to_the_number_that_is_set(stores: Stores) -> None:
    with stores.database.session() as session:
        for number in range(5):
            source = "rtsp://gate/live" if number else "file:///a.mp4"
            session.add(CameraRow(camera_id=f"c{number}", source=source, enabled=number != 4))
            session.add(IngestMark(camera_id=f"c{number}", mark="m", at=NOW, detail={"frames": 10 * number}))
    most = stores.settings.metrics.model_copy(update={"cameras": 2})
    found = values(Rows(stores.settings.model_copy(update={"metrics": most})).cameras())
    assert found["its_cameras", "rtsp", "true"] == 3
    assert found["its_cameras", "rtsp", "false"] == 1
    assert found["its_cameras", "file", "true"] == 1
    assert {key[1] for key in found if key[0] == "its_camera_taken_timestamp_seconds"} == {"c0", "c1"}
    assert found["its_camera_taken_timestamp_seconds", "c1", "rtsp"] == NOW.timestamp()
    assert found["its_camera_frames", "c1", "rtsp"] == 10


def test_releases_gates_and_drift_are_those_of_what_is_served(stores: Stores) -> None:
    with stores.database.session() as session:
        session.add_all([release(1, NOW), release(2, None)])
        session.add_all([report("a", 1, NOW, 9.0), report("b", 2, NOW, 0.4), report("c", 2, NOW + timedelta(1), 1.5)])
        session.add(
            GateResultRow(
                model_name="traffic-detector", version=2, name="floor", metric="ap50", slice="all", verdict="failed"
            )
        )
    rows = Rows(stores.settings)
    released, drift = values(rows.releases()), values(rows.drift())
    assert released[SINCE, "production", DETECTOR, "2"] == NOW.timestamp()
    assert (SINCE, "production", DETECTOR, "1") not in released
    assert released["its_releases_total", "production"] == 2
    assert released["its_gate_results_total", "failed"] == 1
    assert released["its_gate_results_total", "passed"] == 0
    assert drift["its_drift_score", "2"] == 1.5
    assert drift["its_drift_is_drifted", "2"] == 1
    assert not any(key[-1] == "1" for key in drift)


def test_drift_reports_are_counted_on_whatever_is_served(stores: Stores) -> None:
    rows = Rows(stores.settings)
    with stores.database.session() as session:
        session.add_all([release(1, NOW), release(2, None)])
        session.add_all([report("a", 1, NOW, 9.0), report("b", 1, NOW, 2.0), report("c", 2, NOW, 1.5)])
    assert values(rows.drift())["its_drift_reports_total", "drifted"] == 3
    # What only grows may not fall and rise with a version that is rolled back, or each report would be one anew.
    with stores.database.session() as session:
        session.execute(sa.update(ReleaseRow).where(ReleaseRow.version == 2).values(until=NOW))
        session.add(release(1, None))
    assert values(rows.drift())["its_drift_reports_total", "drifted"] == 3


def test_each_verdict_of_a_gate_is_counted_from_zero() -> None:
    # Not imported there: the gates bring pandas along.
    assert set(VERDICTS) == set(get_args(Verdict))


def test_the_reader_may_not_write(stores: Stores) -> None:
    rows = Rows(stores.settings)
    with pytest.raises(sa.exc.InternalError, match="read-only"):
        rows._all(rows._ours, "CREATE TABLE made_by_a_reader ()")


def test_a_server_that_is_away_is_said_and_not_started() -> None:
    away = load_settings(database_url="postgresql+psycopg2://postgres@127.0.0.1:1/")
    with pytest.raises(ServerUnavailable, match="PostgreSQL does not answer"):
        Rows(away).ask()
    with pytest.raises(sa.exc.OperationalError):
        list(Rows(away).cameras())
