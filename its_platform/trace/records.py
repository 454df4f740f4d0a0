"""What was read of the stores, before it is a graph. Values only; each is the stage's own where it has one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from its_platform.cameras import Camera
    from its_platform.dataset.golden import GoldenSet
    from its_platform.dataset.versions import DatasetVersion
    from its_platform.labels.labelling import FrameLabels
    from its_platform.monitoring.reports import DriftReport
    from its_platform.release import Judgement, Release, Waiver
    from its_platform.stores.registry import ModelVersion, TrainingRun
    from its_platform.stores.runs import DagsterRun


@dataclass(frozen=True)
class RecordedDecision:
    """A row of `decisions`: of the retraining policy, or what the release stage refused."""

    id: int
    at: datetime
    action: str
    reasons: list[str]
    numbers: dict[str, Any]
    report_id: str | None
    run_id: str | None


@dataclass(frozen=True)
class GoldenUse:
    """How often a golden set judged a model version."""

    golden: int
    version: int
    uses: int


@dataclass(frozen=True)
class Contents:
    """What a dataset version holds, as far as it is shown: some rows of its manifest, and frames by camera."""

    rows: tuple[dict[str, Any], ...]
    by_camera: dict[str, int]


@dataclass(frozen=True)
class Records:
    """Everything at once. `frames` are rows of the index, one a capture; `predictions` rows of the log about them.

    traced: hash of the frame, name of the camera, or ID of the ingest run, that is the start; empty otherwise.
    frames_there: how many frames that camera or run has.
    """

    cameras: tuple[Camera, ...] = ()
    datasets: tuple[DatasetVersion, ...] = ()
    goldens: tuple[GoldenSet, ...] = ()
    uses: tuple[GoldenUse, ...] = ()
    trainings: tuple[TrainingRun, ...] = ()
    runs: tuple[DagsterRun, ...] = ()
    models: tuple[ModelVersion, ...] = ()
    judgements: dict[int, Judgement] = field(default_factory=dict)
    waivers: dict[int, list[Waiver]] = field(default_factory=dict)
    releases: tuple[Release, ...] = ()
    tally: tuple[dict[str, Any], ...] = ()
    reports: tuple[DriftReport, ...] = ()
    decisions: tuple[RecordedDecision, ...] = ()
    contents: dict[str, Contents] = field(default_factory=dict)
    frames: tuple[dict[str, Any], ...] = ()
    frames_there: int = 0
    labellings: tuple[FrameLabels, ...] = ()
    predictions: tuple[dict[str, Any], ...] = ()
    traced: str = ""
