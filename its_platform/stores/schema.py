"""The tables of the database `its`, as SQLAlchemy sees them.

Every time is timezone-aware UTC. `releases`, `gate_results`, `golden_uses`, `waivers` and `decisions` are only added
to; what was decided is never rewritten (a release that ends gets its `until`, a decision the run that it started,
nothing else). The tables are made by the migrations beside this file, and a test keeps both the same.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Index, MetaData, Text, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Names of constraints are spelt out, so that a migration can name them too."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        str: Text(),
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(),
        list[Any]: JSONB(),
    }


_NOW = func.now()
_EMPTY_OBJECT = text("'{}'::jsonb")
_EMPTY_LIST = text("'[]'::jsonb")


class CameraRow(Base):
    """A camera that footage comes from."""

    __tablename__ = "cameras"

    camera_id: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str]
    site: Mapped[str] = mapped_column(server_default="")
    privacy: Mapped[str] = mapped_column(server_default="none")
    sample_interval_s: Mapped[float] = mapped_column(server_default=text("1"))
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class IngestMark(Base):
    """How far a camera's footage has been taken in."""

    __tablename__ = "ingest_marks"

    camera_id: Mapped[str] = mapped_column(primary_key=True)
    mark: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=_NOW)
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=_EMPTY_OBJECT)


class ReleaseRow(Base):
    """A version that was seen answering at a stage, since when and until when."""

    __tablename__ = "releases"
    __table_args__ = (
        # The truth holds one version a stage at a time.
        Index("uq_releases_open_stage", "stage", unique=True, postgresql_where=text("until IS NULL")),
        Index("ix_releases_model_name_version", "model_name", "version"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    stage: Mapped[str]
    model_name: Mapped[str]
    version: Mapped[int]
    digest: Mapped[str]
    endpoint: Mapped[str]
    model: Mapped[str]
    since: Mapped[datetime] = mapped_column(server_default=_NOW)
    until: Mapped[datetime | None]
    by: Mapped[str]
    why: Mapped[str] = mapped_column(server_default="")
    fencing: Mapped[int | None] = mapped_column(BigInteger)
    evidence: Mapped[dict[str, Any]] = mapped_column(server_default=_EMPTY_OBJECT)


class ExperimentRow(Base):
    """Two versions compared in live traffic: what was asked, how it was planned, and what came out."""

    __tablename__ = "experiments"
    __table_args__ = (
        # Two at a time would share the traffic that each of them was planned for.
        Index("uq_experiments_open", "model_name", unique=True, postgresql_where=text("until IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    model_name: Mapped[str]
    control: Mapped[int]
    challenger: Mapped[int]
    hypothesis: Mapped[str]
    plan: Mapped[dict[str, Any]] = mapped_column(server_default=_EMPTY_OBJECT)
    by: Mapped[str]
    since: Mapped[datetime] = mapped_column(server_default=_NOW)
    until: Mapped[datetime | None]
    decision: Mapped[str | None]
    why_ended: Mapped[str | None]
    ended_by: Mapped[str | None]
    looks: Mapped[list[Any]] = mapped_column(server_default=_EMPTY_LIST)
    result: Mapped[dict[str, Any] | None]


class GateResultRow(Base):
    """One gate's figure and verdict on a version."""

    __tablename__ = "gate_results"
    __table_args__ = (Index("ix_gate_results_model_name_version", "model_name", "version", "at"),)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    model_name: Mapped[str]
    version: Mapped[int]
    at: Mapped[datetime] = mapped_column(server_default=_NOW)
    round: Mapped[str] = mapped_column(server_default="")
    name: Mapped[str]
    metric: Mapped[str]
    slice: Mapped[str]
    value: Mapped[float | None]
    threshold: Mapped[float | None]
    boxes: Mapped[int | None]
    verdict: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=_EMPTY_OBJECT)


class GoldenSetRow(Base):
    """A numbered golden set; a later number holds all slices of the earlier ones."""

    __tablename__ = "golden_sets"
    __table_args__ = (UniqueConstraint("number"),)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    number: Mapped[int]
    dataset: Mapped[str]
    digest: Mapped[str]
    slices: Mapped[dict[str, Any]] = mapped_column(server_default=_EMPTY_OBJECT)
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)


class GoldenUseRow(Base):
    """One use of a golden set to judge a version."""

    __tablename__ = "golden_uses"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    golden: Mapped[int]
    model_name: Mapped[str] = mapped_column(server_default="")
    version: Mapped[int]
    at: Mapped[datetime] = mapped_column(server_default=_NOW)
    purpose: Mapped[str]


class WaiverRow(Base):
    """A person's word that a version may go on in spite of a gate."""

    __tablename__ = "waivers"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    model_name: Mapped[str] = mapped_column(server_default="")
    version: Mapped[int]
    gate: Mapped[str]
    by: Mapped[str]
    reason: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=_NOW)


class DecisionRow(Base):
    """What the retraining policy decided, and the figures that led to it."""

    __tablename__ = "decisions"
    __table_args__ = (Index("ix_decisions_at", "at"),)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(server_default=_NOW)
    action: Mapped[str]
    reasons: Mapped[list[Any]] = mapped_column(server_default=_EMPTY_LIST)
    numbers: Mapped[dict[str, Any]] = mapped_column(server_default=_EMPTY_OBJECT)
    report_id: Mapped[str | None]
    run_id: Mapped[str | None]


class DriftReportRow(Base):
    """A drift report: the window, the figures, and where its page lies."""

    __tablename__ = "drift_reports"
    __table_args__ = (
        UniqueConstraint("run_key"),
        Index("ix_drift_reports_model_version_until", "model_version", "until"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=_NOW)
    model_version: Mapped[int]
    since: Mapped[datetime]
    until: Mapped[datetime]
    rows: Mapped[int]
    score: Mapped[float | None]
    threshold: Mapped[float | None]
    is_drifted: Mapped[bool] = mapped_column(server_default=text("false"))
    verdict: Mapped[str]
    columns: Mapped[dict[str, Any]] = mapped_column(server_default=_EMPTY_OBJECT)
    unseen: Mapped[list[Any]] = mapped_column(server_default=_EMPTY_LIST)
    html: Mapped[str | None]
    run_key: Mapped[str]


class DatasetVersionRow(Base):
    """An immutable dataset version and where it came from."""

    __tablename__ = "dataset_versions"
    __table_args__ = (UniqueConstraint("digest"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=_NOW)
    classes: Mapped[list[Any]] = mapped_column(server_default=_EMPTY_LIST)
    counts: Mapped[dict[str, Any]] = mapped_column(server_default=_EMPTY_OBJECT)
    boxes: Mapped[dict[str, Any]] = mapped_column(server_default=_EMPTY_OBJECT)
    golden: Mapped[int | None]
    previous: Mapped[str | None]
    request: Mapped[dict[str, Any]] = mapped_column(server_default=_EMPTY_OBJECT)
    commit: Mapped[str | None]


class LeaseRow(Base):
    """Who may do something right now; the fencing number grows with each change of hands."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    fencing: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime]


class AuditRow(Base):
    """One thing that was done: only ever added, and chained to the row before it (`audit.py`).

    The detail is `json`, not `jsonb`, which would not give numbers back as they were hashed.
    """

    __tablename__ = "audit"
    __table_args__ = (UniqueConstraint("event"), Index("ix_audit_at", "at"))

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    event: Mapped[str]
    at: Mapped[datetime]
    by: Mapped[str]
    program: Mapped[str]
    host: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    outcome: Mapped[str]
    why: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)
    previous: Mapped[str]
    digest: Mapped[str]
