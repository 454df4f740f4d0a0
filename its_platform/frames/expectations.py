"""What must be true of the frames before anything is built on them, and the one runner of Great Expectations.

Enters: the index and objects, or any DataFrame with expectations on it. Leaves: a `CheckResult`, which the checks of
labels and datasets return too. What happens after a failed check is decided by whoever asked.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from its_platform.errors import BadInput, NotFound, PermanentError
from its_platform.frames.erasure import told, without_erased
from its_platform.frames.index import FrameIndex
from its_platform.frames.ingest import load_jpeg
from its_platform.telemetry import Progress, no_progress, silence_tools

if TYPE_CHECKING:
    import pandas as pd

    from its_platform.stores import Stores

SAMPLE_OBJECTS = 50
FROZEN_SHARE_LIMIT = 0.2
RANGES = {
    "brightness": (0.0, 1.0),
    "contrast": (0.0, 0.51),
    "sharpness": (0.0, 14.0),
    "noise": (0.0, 128.0),
    "overexposed": (0.0, 1.0),
    "underexposed": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of a check: `failures` are lines for a person, `statistics` numbers for a page."""

    passed: bool
    failures: list[str] = field(default_factory=list)
    statistics: dict[str, Any] = field(default_factory=dict)

    def __and__(self, other: CheckResult) -> CheckResult:
        """Both together."""
        return CheckResult(
            self.passed and other.passed,
            [*self.failures, *other.failures],
            {**self.statistics, **other.statistics},
        )


def run_expectations(df: pd.DataFrame, suite_name: str, expectations: Sequence[Any]) -> CheckResult:
    """Run Great Expectations' `expectations` (instances of `gx.expectations.*`) on a DataFrame.

    Nothing is written or sent: the context lives in memory and ends with the call. An expectation that could not be
    computed counts as failed.
    """
    if not expectations:
        raise BadInput(f"The suite {suite_name} expects nothing.", "An empty suite would always pass.")
    silence_tools()
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # Great Expectations reports each of its steps at INFO.
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    source = context.data_sources.add_or_update_pandas(suite_name)
    batch = source.add_dataframe_asset(suite_name).add_batch_definition_whole_dataframe(suite_name)
    suite = context.suites.add(gx.ExpectationSuite(name=suite_name, expectations=list(expectations)))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=suite_name, data=batch, suite=suite))
    checkpoint = context.checkpoints.add(gx.Checkpoint(name=suite_name, validation_definitions=[definition]))
    answer = checkpoint.run(batch_parameters={"dataframe": df})
    results = [result for run in answer.run_results.values() for result in run.results]
    failures = [_told(suite_name, result) for result in results if not result.success]
    statistics = {
        "suite": suite_name,
        "rows": len(df),
        "expectations": len(results),
        "expectations_failed": len(failures),
    }
    return CheckResult(bool(answer.success) and not failures, failures, statistics)


def check_frames(
    stores: Stores,
    since: datetime | None = None,
    until: datetime | None = None,
    most_objects: int | None = SAMPLE_OBJECTS,
    progress: Progress = no_progress,
) -> CheckResult:
    """Check the index from `since` to `until`: keys, ranges, known cameras, objects, and frozen pictures.

    most_objects: how many of the pictures are read and hashed, always the same ones; all of them with None.
    No frames at all is a failure: nothing can be built on them. Raises `IndexUnreadable`.
    """
    df = FrameIndex(stores).query(since=since, until=until)
    if df.empty:
        return CheckResult(False, ["There are no frames to check."], {"suite": "frames", "rows": 0})
    from its_platform.cameras import list_cameras

    known = {camera.camera_id for camera in list_cameras(stores)}
    ruled = run_expectations(df, "frames", frame_expectations())
    objects = _check_objects(stores, df, most_objects, progress)
    frozen = _check_frozen(df)
    # A camera that was removed leaves its frames: that is told, and stops nothing.
    unknown = sorted(set(df["camera_id"]) - known)
    about = {
        "cameras": int(df["camera_id"].nunique()),
        "cameras_removed": unknown,
        "first": df["captured_at"].min().isoformat(),
        "last": df["captured_at"].max().isoformat(),
        "light": {str(k): int(v) for k, v in df["light"].value_counts().items()},
        "weather": {str(k): int(v) for k, v in df["weather"].value_counts().items()},
    }
    return ruled & objects & frozen & CheckResult(True, [], about)


def frame_expectations() -> list[Any]:
    """What every row of the index has to satisfy."""
    import great_expectations.expectations as gxe

    rules: list[Any] = [
        gxe.ExpectCompoundColumnsToBeUnique(column_list=["camera_id", "captured_at", "frame_hash"]),
        gxe.ExpectColumnValuesToMatchRegex(column="frame_hash", regex="^[0-9a-f]{64}$"),
        gxe.ExpectColumnValuesToBeInSet(column="light", value_set=["day", "dusk", "night"]),
        gxe.ExpectColumnValuesToBeBetween(column="width", min_value=16),
        gxe.ExpectColumnValuesToBeBetween(column="height", min_value=16),
    ]
    required = ["camera_id", "captured_at", "object_key", "weather", "width", "height", "light", *RANGES]
    rules += [gxe.ExpectColumnValuesToNotBeNull(column=name) for name in required]
    rules += [
        gxe.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high)
        for name, (low, high) in RANGES.items()
    ]
    return rules


def _check_objects(
    stores: Stores, df: pd.DataFrame, most: int | None = SAMPLE_OBJECTS, progress: Progress = no_progress
) -> CheckResult:
    """Whether the objects, or `most` of them, are there and hold what their names say. Erased ones are no fault."""
    there, erased = without_erased(stores, df)
    if (days := stores.settings.objects.retention_days) is not None:
        there = there[there["ingested_at"] > datetime.now(UTC) - timedelta(days=days)]
    sample = there if most is None else there.sample(min(most, len(there)), random_state=0)
    failures = []
    for done, row in enumerate(sample.itertuples(), 1):
        try:
            load_jpeg(stores, str(row.object_key))
        except NotFound:
            failures.append(f"frames: the object of {row.camera_id} at {row.captured_at} is missing.")
        except PermanentError as error:
            failures.append(f"frames: {error.message}")
        if done % 20 == 0 or done == len(sample):
            progress("pictures", done, len(sample))
    about: dict[str, Any] = {"objects_checked": len(sample), "objects_wrong": len(failures)}
    if erased:
        about["erased"] = told(erased)
    return CheckResult(not failures, failures, about)


def _check_frozen(df: pd.DataFrame) -> CheckResult:
    """Whether too many of a camera's frames show a picture that stands still."""
    shares = df.groupby("camera_id")["is_frozen"].mean()
    frozen = shares[shares > FROZEN_SHARE_LIMIT]
    failures = [
        f"frames: the picture of {camera} stands still in {share:.0%} of its frames."
        for camera, share in frozen.items()
    ]
    return CheckResult(not failures, failures, {"frozen_share": round(float(df["is_frozen"].mean()), 4)})


def _told(suite_name: str, result: Any) -> str:
    config = result.expectation_config
    words = config.type.removeprefix("expect_").replace("_", " ")
    rule = {k: v for k, v in config.kwargs.items() if k not in ("batch_id", "column", "column_list") and v is not None}
    where = config.kwargs.get("column") or ", ".join(config.kwargs.get("column_list", []))
    found = result.result or {}
    count, examples = found.get("unexpected_count"), found.get("partial_unexpected_list") or []
    seen = f" ({count} rows, such as {examples[:3]})" if count else ""
    wrong = _exception(result.exception_info)
    observed = f" (observed {found['observed_value']})" if not count and "observed_value" in found else ""
    subject = f"{suite_name}: {where}: " if where else f"{suite_name}: "
    return f"{subject}{words}{f' {rule}' if rule else ''}{seen}{observed}{f': {wrong}' if wrong else ''}"


def _exception(info: Any) -> str:
    """The first message in what Great Expectations says went wrong: flat, or one entry a metric."""
    if not isinstance(info, dict):
        return ""
    for entry in [info, *(value for value in info.values() if isinstance(value, dict))]:
        if entry.get("raised_exception") and entry.get("exception_message"):
            return str(entry["exception_message"]).strip().splitlines()[0]
    return ""
