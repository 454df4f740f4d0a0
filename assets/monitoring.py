"""What the served model sees: its reference, the log of live predictions, and the reports on drift."""

import dagster as dg

from assets.shown import table
from its_platform.resources import StoresResource, picture, progress_to, told_to_dagster


@dg.asset(
    group_name="monitoring",
    owners=["team:mlops"],
    kinds={"triton", "delta"},
    description="The served model's own predictions on held-out frames: what live traffic is compared with.",
)
def reference_predictions(
    context: dg.AssetExecutionContext, stores: StoresResource, production_release: int
) -> dg.MaterializeResult:
    from its_platform.monitoring.reference import record_reference
    from its_platform.release import served

    with told_to_dagster():
        opened = stores.open()
        # A canary's is taken while it is on trial: once it is in production its first window needs it.
        rows_served = [row for stage in ("canary", "production") if (row := served(opened, stage)) is not None]
        release = next((row for row in rows_served if row.version == production_release), None)
        if release is None:
            raise dg.Failure(
                f"Version {production_release} is not served, so there is nothing to take a reference from.",
                allow_retries=False,
            )
        rows = record_reference(opened, release, progress=progress_to(context.log))
    return dg.MaterializeResult(metadata={"version": production_release, "reference rows": rows})


@dg.asset(
    group_name="monitoring",
    owners=["team:mlops"],
    kinds={"delta"},
    description="Every prediction that the front logged, moved from its spool into the table, each once.",
)
def prediction_log(stores: StoresResource) -> dg.MaterializeResult:
    from its_platform.monitoring.predictions import collect

    with told_to_dagster():
        added = collect(stores.open())
    return dg.MaterializeResult(metadata={"rows added": added})


@dg.asset(
    group_name="monitoring",
    owners=["team:mlops"],
    kinds={"evidently"},
    deps=[prediction_log],
    description="Live windows against the served model's reference: effect sizes with calibrated thresholds.",
)
def drift_report(context: dg.AssetExecutionContext, stores: StoresResource) -> dg.MaterializeResult:
    from its_platform.monitoring.drift import report_due_windows
    from its_platform.monitoring.pictures import effects
    from its_platform.monitoring.reference import NoHeldOutFrames, has_reference, record_reference
    from its_platform.monitoring.reports import list_reports
    from its_platform.monitoring.windows import next_window
    from its_platform.release import served

    with told_to_dagster():
        opened = stores.open()
        release = served(opened, "production")
        # A version that a person promoted came without the run in which a reference is recorded.
        if release is not None and next_window(opened) is not None and not has_reference(opened, release.version):
            try:
                record_reference(opened, release, progress=progress_to(context.log))
            except NoHeldOutFrames as error:
                # The report says of the window that it could not be judged.
                context.log.warning("%s", error)
        made = report_due_windows(opened, progress=progress_to(context.log))
        # Where no window was due, the page goes on showing the last report there is.
        reports = made or list_reports(opened, limit=1)
    if not reports:
        return dg.MaterializeResult(metadata={"reports": "no window was due yet"})
    last = reports[-1]
    rows: list[dict[str, object]] = [
        {
            "report": r.id,
            "window": f"{r.since:%H:%M:%S} to {r.until:%H:%M:%S}",
            "rows": r.rows,
            "score": "" if r.score is None else round(r.score, 3),
            "threshold": "" if r.threshold is None else round(r.threshold, 3),
            "verdict": r.verdict,
        }
        for r in reports
    ]
    metadata: dict[str, dg.MetadataValue] = {
        "verdict": dg.MetadataValue.text(last.verdict),
        "new reports": dg.MetadataValue.int(len(made)),
        "reason": dg.MetadataValue.text(last.reason),
        "windows": table(rows),
        "unseen strata": dg.MetadataValue.text(", ".join(last.unseen_strata) or "none"),
    }
    if last.score is not None and last.html is not None:
        metadata["score"] = dg.MetadataValue.float(last.score)
        metadata["threshold"] = dg.MetadataValue.float(last.threshold)
        metadata["report"] = dg.MetadataValue.path(str(last.html))
        metadata["columns"] = picture(effects(last), "effect of each column against its threshold")
    return dg.MaterializeResult(metadata=metadata)


ASSETS = [reference_predictions, prediction_log, drift_report]
CHECKS: list[dg.AssetChecksDefinition] = []
