"""A dataset version becomes a trained, evaluated and registered detector: the asset `candidate_model`."""

import dagster as dg

from assets.shown import table
from its_platform.resources import StoresResource, picture, progress_to, told_to_dagster


class Training(dg.Config):
    """What differs from the settings for this run. `base_version` trains on from a registered version.

    `version`: nothing is trained, a version that is registered already is the candidate.
    """

    epochs: int | None = None
    weights: str | None = None
    base_version: int | None = None
    version: int | None = None


@dg.asset(
    group_name="model",
    owners=["team:ml"],
    kinds={"mlflow", "pytorch", "onnx"},
    description="A detector trained on the dataset version, exported to what it is served as, registered in MLflow.",
)
def candidate_model(
    context: dg.AssetExecutionContext, config: Training, stores: StoresResource, dataset_version: str
) -> dg.Output[int]:
    from pathlib import Path

    from its_platform.model.formats import choose_format
    from its_platform.model.pictures import curves, sample_predictions
    from its_platform.model.train import base_weights, registered_candidate, train_candidate
    from its_platform.release import publish_card
    from its_platform.release.card_pages import as_markdown

    with told_to_dagster():
        opened = stores.open()
        weights = Path(config.weights) if config.weights else None
        if config.base_version is not None:
            weights = base_weights(opened, config.base_version)
        if config.version is not None:
            candidate = registered_candidate(opened, config.version)
            version, why = candidate.model_version, "asked for by its number"
        else:
            candidate = train_candidate(
                opened,
                dataset_version,
                progress=progress_to(context.log),
                epochs=config.epochs,
                weights=weights,
                dagster_run=context.run.run_id,
            )
            chosen = choose_format(opened, candidate.model_version.version, progress_to(context.log))
            version, why = chosen.version, chosen.why
        card = publish_card(opened, version.version)
        if candidate.model_version.version != version.version:
            publish_card(opened, candidate.model_version.version)
        pictures = {"predictions": picture(sample_predictions(opened, candidate), "predictions beside the truth")}
        if config.version is None:
            pictures["curves"] = picture(curves(opened, candidate), "training curves")
    rows: list[dict[str, object]] = [
        {"slice": s.slice, "class": s.class_name or "", "boxes": s.boxes, "mAP50": round(s.ap50, 3)}
        for s in candidate.evaluation.slices
        if s.class_name is None
    ]
    return dg.Output(
        version.version,
        metadata={
            "model version": version.version,
            "dataset": version.dataset_version,
            "digest": version.digest,
            "format": f"{version.format}: {why}",
            "MLflow run": candidate.run_id,
            "by slice": table(rows),
            "model card": dg.MetadataValue.md(as_markdown(card)),
            **pictures,
        },
    )


ASSETS = [candidate_model]
CHECKS: list[dg.AssetChecksDefinition] = []
