"""Figures that stand in PostgreSQL: cameras, releases, gates, drift, Dagster's runs.

Each question reads an index or a small table. The reader never starts a server, never waits long for one, and may not
write.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from its_platform.errors import ServerUnavailable
from its_platform.settings import Settings
from its_platform.stores.database import database_url

CONNECT_WITHIN_S = 3
ANSWER_WITHIN_MS = 3000
VERDICTS = ("passed", "failed", "not_judged", "no_verdict")
STATUSES = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING", "SUCCESS", "FAILURE", "CANCELED")


class Rows:
    """Our own database and Dagster's, read only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._ours = _engine(settings, "its")
        self._dagster = _engine(settings, "dagster")

    def ask(self) -> None:
        """Raise `ServerUnavailable` unless PostgreSQL answers."""
        try:
            self._all(self._ours, "SELECT 1")
        except sa.exc.OperationalError as error:
            raise ServerUnavailable("PostgreSQL does not answer.") from error

    def cameras(self) -> Iterator[Metric]:
        """How many cameras there are; of so many as the settings say, their frames and when the last ones came in."""
        count = GaugeMetricFamily("its_cameras", "Cameras that are known.", labels=["kind", "is_enabled"])
        taken = GaugeMetricFamily(
            "its_camera_taken_timestamp_seconds",
            "When footage of a camera was last taken in.",
            labels=["camera", "kind"],
        )
        frames = GaugeMetricFamily("its_camera_frames", "Frames of a camera that are kept.", labels=["camera", "kind"])
        kind = "split_part(source, ':', 1)"
        for name, is_enabled, number in self._all(
            self._ours, f"SELECT {kind}, enabled, count(*) FROM cameras GROUP BY 1, 2"
        ):
            count.add_metric([name, str(is_enabled).lower()], number)
        query = f"""
            SELECT c.camera_id, {kind}, extract(epoch FROM m.at), m.detail ->> 'frames'
            FROM cameras c JOIN ingest_marks m USING (camera_id)
            WHERE c.enabled ORDER BY c.camera_id LIMIT :most
        """
        for camera, name, at, number in self._all(self._ours, query, most=self._settings.metrics.cameras):
            taken.add_metric([camera, name], float(at))
            if number is not None:
                frames.add_metric([camera, name], float(number))
        yield from (count, taken, frames)

    def releases(self) -> Iterator[Metric]:
        """Which version answers at which stage, since when, and how the gates judged."""
        since = GaugeMetricFamily(
            "its_release_since_timestamp_seconds", "Since when a version answers at a stage.",
            labels=["stage", "model", "version"],
        )  # fmt: skip
        released = CounterMetricFamily("its_releases", "Versions that came to a stage.", labels=["stage"])
        gates = CounterMetricFamily("its_gate_results", "Verdicts of gates.", labels=["verdict"])
        open_ones = "SELECT stage, model, version, extract(epoch FROM since) FROM releases WHERE until IS NULL"
        for stage, model, version, at in self._all(self._ours, open_ones):
            since.add_metric([stage, model, str(version)], float(at))
        for stage, number in self._all(self._ours, "SELECT stage, count(*) FROM releases GROUP BY 1"):
            released.add_metric([stage], number)
        judged = self._all(self._ours, "SELECT verdict, count(*) FROM gate_results GROUP BY 1")
        for verdict, number in _with_zeros(VERDICTS, judged):
            gates.add_metric([verdict], number)
        yield from (since, released, gates)

    def drift(self) -> Iterator[Metric]:
        """The latest report on each version that is served, and how many reports there are."""
        labels = ["version"]
        score = GaugeMetricFamily("its_drift_score", "The latest report's score; 1 and above is drift.", labels=labels)
        drifted = GaugeMetricFamily("its_drift_is_drifted", "Whether the latest report found drift.", labels=labels)
        at = GaugeMetricFamily(
            "its_drift_report_timestamp_seconds", "The end of the latest report's window.", labels=labels
        )
        # On all versions: a count of those on what is served would fall with each release.
        reports = CounterMetricFamily("its_drift_reports", "Drift reports that were made.", labels=["verdict"])
        served = "(SELECT version FROM releases WHERE until IS NULL)"
        latest = f"""
            SELECT DISTINCT ON (model_version) model_version, score, is_drifted, extract(epoch FROM until)
            FROM drift_reports WHERE model_version IN {served} ORDER BY model_version, until DESC
        """
        for version, found, is_drifted, until in self._all(self._ours, latest):
            if found is not None:
                score.add_metric([str(version)], found)
            drifted.add_metric([str(version)], is_drifted)
            at.add_metric([str(version)], float(until))
        for verdict, number in self._all(self._ours, "SELECT verdict, count(*) FROM drift_reports GROUP BY 1"):
            reports.add_metric([verdict], number)
        yield from (score, drifted, at, reports)

    def runs(self) -> Iterator[Metric]:
        """Dagster's runs by status, and how long the first of the queue has waited."""
        runs = GaugeMetricFamily("its_dagster_runs", "Runs of Dagster.", labels=["status"])
        waits = GaugeMetricFamily("its_dagster_queue_wait_seconds", "How long the oldest queued run has waited.")
        counted = self._all(self._dagster, "SELECT status, count(*) FROM runs GROUP BY 1")
        for status, number in _with_zeros(STATUSES, counted):
            runs.add_metric([status], number)
        oldest = "SELECT extract(epoch FROM min(create_timestamp)) FROM runs WHERE status = 'QUEUED'"
        ((at,),) = self._all(self._dagster, oldest)
        waits.add_metric([], 0.0 if at is None else max(time.time() - float(at), 0.0))
        yield from (runs, waits)

    @staticmethod
    def _all(engine: sa.Engine, query: str, **values: object) -> Sequence[Any]:
        with engine.connect() as connection:
            return connection.execute(sa.text(query), values).all()


def _with_zeros(names: Sequence[str], counted: Sequence[Any]) -> list[tuple[str, int]]:
    """Counts by name; a name that no row has is a true zero, from which a rule sees the first one rise."""
    found = {str(name): int(number) for name, number in counted}
    return [*found.items(), *((name, 0) for name in names if name not in found)]


def _engine(settings: Settings, name: str) -> sa.Engine:
    options = f"-c statement_timeout={ANSWER_WITHIN_MS} -c default_transaction_read_only=on -c timezone=UTC"
    return sa.create_engine(
        database_url(settings, name),
        connect_args={"connect_timeout": CONNECT_WITHIN_S, "options": options},
        pool_size=2,
        pool_pre_ping=True,
        pool_recycle=1800,
    )
