"""Frames and labels become an immutable dataset version: the asset `dataset_version` and its check."""

import dagster as dg

from assets.labels import reviewed_labels
from assets.shown import check_result, table
from its_platform.resources import StoresResource, picture, progress_to, told_to_dagster


class Content(dg.Config):
    """What the version holds. `previous` is extended; the window's sample is split into train and judge."""

    cameras: list[str] = []
    since: str | None = None
    until: str | None = None
    previous: str | None = None
    window_since: str | None = None
    window_until: str | None = None


@dg.asset(
    group_name="dataset",
    owners=["team:data"],
    kinds={"dvc"},
    deps=[reviewed_labels],
    description="A content-hashed version with leak-free splits and a golden set, committed and pushed with DVC.",
)
def dataset_version(context: dg.AssetExecutionContext, config: Content, stores: StoresResource) -> dg.Output[str]:
    from its_platform.dataset import DatasetRequest, build_dataset
    from its_platform.dataset.pictures import sample_sheet, summary
    from its_platform.telemetry import parse_time

    with told_to_dagster():
        opened = stores.open()
        window = (parse_time(config.window_since), parse_time(config.window_until))
        request = DatasetRequest(
            classes=opened.settings.classes,
            cameras=tuple(config.cameras),
            since=parse_time(config.since),
            until=parse_time(config.until),
            previous=config.previous,
            window=(window[0], window[1]) if window[0] and window[1] else None,
            judge_blocks=opened.settings.retraining.judge_blocks,
        )
        version = build_dataset(opened, request, progress_to(context.log), dagster_run=context.run.run_id)
        pictures = {"summary": picture(summary(opened, version.name), "classes and splits")}
        pictures["sample"] = picture(sample_sheet(opened, version.name), "sample frames with boxes")
    rows: list[dict[str, object]] = [
        {"split": split, "frames": count, "boxes": version.boxes.get(split, 0)}
        for split, count in version.counts.items()
    ]
    return dg.Output(
        version.name,
        metadata={
            "version": version.name,
            "digest": version.digest,
            "golden set": version.golden,
            "splits": table(rows),
            **pictures,
        },
    )


@dg.asset_check(
    asset=dataset_version, blocking=True, description="Great Expectations: enough boxes, no leak, fit to judge."
)
def dataset_is_sound(stores: StoresResource, dataset_version: str) -> dg.AssetCheckResult:
    from its_platform.dataset.expectations import check_dataset

    with told_to_dagster():
        return check_result(check_dataset(stores.open(), dataset_version))


ASSETS = [dataset_version]
CHECKS = [dataset_is_sound]
