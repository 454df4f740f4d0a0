"""The jobs: each half of the loop, the way in, and the reconciler.

`ingest` brings footage in. `learn` is the half from labels to a served detector, for the first model and for each
retraining; `release` is its end, for a version that was registered by hand. `watch` is the half from live predictions
to drift reports. `reconcile` makes what Triton serves follow MLflow's aliases, `canary` judges the version that answers
a share of the live traffic, `experiment` the comparison of two. `marts` builds what dbt makes of all of it; nothing
waits for it.
"""

from typing import Any

import dagster as dg

from assets.dataset import dataset_version
from assets.frames import raw_frames
from assets.labels import reviewed_labels
from assets.marts import marts as dbt_build
from assets.model import candidate_model
from assets.monitoring import drift_report, prediction_log, reference_predictions
from assets.release import production_release, staged_release
from its_platform.resources import StoresResource, picture, told_to_dagster

# What a sensor writes into the tag `its/trigger` of its runs, and in whose name they act.
STARTED_BY = {"registry": "registry sensor", "canary": "canary sensor", "experiment": "canary sensor"}

ingest = dg.define_asset_job(
    "ingest", selection=dg.AssetSelection.assets(raw_frames), description="New footage of the cameras becomes frames."
)
learn = dg.define_asset_job(
    "learn",
    selection=dg.AssetSelection.assets(
        reviewed_labels, dataset_version, candidate_model, staged_release, production_release, reference_predictions
    ),
    description="Reviewed labels become a dataset version, a detector, and, when its gates pass, what is served.",
)
release = dg.define_asset_job(
    "release",
    selection=dg.AssetSelection.assets(candidate_model, staged_release, production_release, reference_predictions),
    description="A version that is registered already goes the way of every candidate; `version` in the configuration.",
)
watch = dg.define_asset_job(
    "watch",
    selection=dg.AssetSelection.assets(prediction_log, drift_report),
    description="What the served model saw is collected and compared with its reference.",
)
marts = dg.define_asset_job(
    "marts",
    selection=dg.AssetSelection.assets(dbt_build),
    description="dbt builds and tests the marts over frames, labels, predictions and releases.",
)


@dg.op(description="Make what Triton serves follow MLflow's aliases, where the gates allow it.")
def reconcile_releases(context: dg.OpExecutionContext, stores: StoresResource) -> None:
    from its_platform.release import publish_cards
    from its_platform.release import reconcile as reconcile_now

    with told_to_dagster():
        opened = stores.open()
        changes = reconcile_now(opened, by=_who(context))
        publish_cards(opened, changes)
    for change in changes:
        context.log.info("%s", change)
    context.add_output_metadata({"changes": [str(change) for change in changes] or ["nothing to do"]})


@dg.job(description="What Triton serves follows MLflow's aliases, where the gates allow it.")
def reconcile() -> None:
    reconcile_releases()


@dg.op(description="Judge the canary by what it and production saw in the same pictures, and do what follows.")
def look_at_canary_now(context: dg.OpExecutionContext, stores: StoresResource) -> None:
    from its_platform.release import look_at_canary, publish_cards

    with told_to_dagster():
        opened = stores.open()
        look = look_at_canary(opened, by=_who(context))
        if look is not None and look.change is not None:
            publish_cards(opened, [look.change])
    if look is None:
        context.add_output_metadata({"verdict": "there is no canary"})
        return
    done = str(look.change.kind) if look.change is not None else "nothing changed"
    context.log.info("%s: %s (%s)", look.verdict.action, "; ".join(look.verdict.reasons), done)
    context.add_output_metadata(
        {
            "version": look.version,
            "share of the live traffic": f"{look.percent:g} %",
            "verdict": look.verdict.action,
            "reasons": look.verdict.reasons,
            "labels wanted": ", ".join(look.verdict.labels_wanted) or "none",
            "done": done,
            **{name: float(value) for name, value in look.verdict.numbers.items()},
        }
    )


@dg.job(description="The canary gets more of the live traffic, waits for evidence, or goes back.")
def canary() -> None:
    look_at_canary_now()


@dg.op(description="Judge the experiment by what its two versions answered, and end it where that is due.")
def look_at_experiment_now(context: dg.OpExecutionContext, stores: StoresResource) -> None:
    from its_platform.experiments import look_at_experiment
    from its_platform.experiments.pictures import experiment_markdown, sequence

    with told_to_dagster():
        look = look_at_experiment(stores.open(), by=_who(context))
    if look is None:
        context.add_output_metadata({"decision": "no experiment is running"})
        return
    shown, finding = look.experiment, look.finding
    context.log.info("experiment %d: %s", shown.id, "; ".join(finding.reasons))
    context.add_output_metadata(
        {
            "experiment": shown.id,
            "decision": shown.decision or "running",
            "blocks": f"{finding.overall.blocks} of {finding.of}",
            "found": dg.MetadataValue.md(experiment_markdown(shown, finding)),
            "sequence": picture(sequence(shown), "effect and its interval at each look"),
            **{name: float(value) for name, value in finding.numbers.items()},
        }
    )


@dg.job(description="The experiment in live traffic goes on, or ends with its result.")
def experiment() -> None:
    look_at_experiment_now()


def _who(context: dg.OpExecutionContext) -> str:
    """In whose name a run acts: the sensor that started it, or else whoever did so on Dagster's page."""
    return STARTED_BY.get(context.run.tags.get("its/trigger", ""), "Dagster's page")


JOBS: list[Any] = [ingest, learn, release, watch, reconcile, canary, experiment, marts]
