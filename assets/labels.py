"""Frames get labels that a person stands for: the asset `reviewed_labels` and its check."""

import dagster as dg

from assets.frames import raw_frames
from assets.shown import check_result
from its_platform.resources import StoresResource, picture, told_to_dagster


class Review(dg.Config):
    """What to have reviewed. With a window, a random sample of its frames; else every frame that has no labels yet."""

    window_since: str | None = None
    window_until: str | None = None


@dg.asset(
    group_name="labels",
    owners=["team:data"],
    kinds={"delta"},
    deps=[raw_frames],
    description="Boxes that a reviewer has confirmed. The simulated world reviews its own frames; others wait.",
)
def reviewed_labels(context: dg.AssetExecutionContext, config: Review, stores: StoresResource) -> dg.MaterializeResult:
    from its_platform.dataset import sample_window
    from its_platform.labels.pictures import labelled_sheet
    from its_platform.labels.review import review_simulated, unlabelled_frames
    from its_platform.retraining import record_run
    from its_platform.stores.runs import DECISION_TAG
    from its_platform.telemetry import parse_time

    with told_to_dagster():
        opened = stores.open()
        if decision := context.run.tags.get(DECISION_TAG):
            record_run(opened, decision, context.run.run_id)
        since, until = parse_time(config.window_since), parse_time(config.window_until)
        if since and until:
            settings = opened.settings
            hashes = sample_window(opened, since, until, settings.retraining.sample_frames, settings.dataset.seed)
        else:
            hashes = unlabelled_frames(opened)
        result = review_simulated(opened, hashes)
        sheet = labelled_sheet(opened, hashes)
    context.log.info("%d of %d frames reviewed, %d boxes refused", result.added, len(hashes), len(result.refused))
    metadata: dict[str, dg.MetadataValue] = {
        "frames looked at": dg.MetadataValue.int(len(hashes)),
        "newly reviewed": dg.MetadataValue.int(result.added),
        "refused": dg.MetadataValue.md("\n".join(f"- {r}" for r in result.refused[:50]) or "none"),
    }
    if sheet:
        metadata["sample"] = picture(sheet, "frames with their reviewed boxes")
    return dg.MaterializeResult(metadata=metadata)


@dg.asset_check(
    asset=reviewed_labels, blocking=True, description="Great Expectations: boxes in range, of a known class and origin."
)
def labels_are_sound(stores: StoresResource) -> dg.AssetCheckResult:
    from its_platform.labels.expectations import check_labels

    with told_to_dagster():
        return check_result(check_labels(stores.open()))


ASSETS = [reviewed_labels]
CHECKS = [labels_are_sound]
