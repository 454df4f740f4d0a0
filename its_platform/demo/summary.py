"""What the demo came to: the facts for `summary.json`, read back from where each of them lives."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its_platform.demo.run import Demo
from its_platform.loop.dagster_page import runs_of
from its_platform.loop.play import PlayFailed, duplicates

if TYPE_CHECKING:
    from its_platform.monitoring.reports import DriftReport
    from its_platform.release import Release


def summarise(demo: Demo, first: Release, second: Release, reports: dict[str, DriftReport]) -> dict[str, Any]:
    """The demo's facts. `reports` holds the windows `live day`, `nightfall`, `live night`, `live night again`."""
    from its_platform.dataset.versions import latest, list_versions
    from its_platform.stores.registry import Registry

    registry = Registry(demo.settings)
    versions = list_versions(demo.stores)
    newest = latest(demo.stores)
    if newest is None:
        raise PlayFailed("There is no dataset version after the demo.", "`its dataset list` shows those that exist.")
    before, after = reports["nightfall"], reports["live night again"]
    for name, report in reports.items():
        if report.score is None:
            raise PlayFailed(
                f"The window of the {name} could not be judged: {report.reason}", "See `its monitor list`."
            )
    retraining = [run for run in runs_of(demo.settings, "learn") if run.tags.get("its/trigger") == "retrain"]
    models = [registry.get(release.model_name, release.version) for release in (first, second)]
    return {
        "scale": demo.scale.name,
        "dataset_versions": [
            {"name": v.name, "digest": v.digest, "frames": v.counts, "boxes": v.boxes, "golden": v.golden}
            for v in versions
        ],
        "model_versions": [
            {"version": m.version, "dataset": m.dataset_version, "digest": m.digest, "run_id": m.run_id} for m in models
        ],
        "map50": [_scores(demo, model.version, newest.name) for model in models],
        "starter": starter_scores(demo.settings.training.weights),
        "drift": {
            "before": before.score,
            "threshold_before": before.threshold,
            "after": after.score,
            "threshold_after": after.threshold,
            "columns": before.columns,
            "unseen_strata": before.unseen_strata,
            "report": str(before.html),
            "windows": [
                {
                    "window": name,
                    "model": r.model_version,
                    "score": r.score,
                    "threshold": r.threshold,
                    "verdict": r.verdict,
                }
                for name, r in reports.items()
            ],
        },
        "retrain_run_id": retraining[-1].run_id if retraining else None,
        "served_versions": asyncio.run(_served(demo)),
        "golden": newest.golden,
        "duplicates": duplicates(demo.stores),
        "stages": [{"name": name, "s": round(seconds, 2)} for name, seconds in demo.seconds.items()],
        "seconds": round(sum(demo.seconds.values()), 1),
    }


def starter_scores(weights: Path) -> dict[str, Any] | None:
    """What the starter checkpoint's own training measured, if it lies beside the weights."""
    import json

    beside = weights.with_suffix(".json")
    return json.loads(beside.read_text("utf-8")) if beside.exists() else None


def _scores(demo: Demo, version: int, dataset: str) -> dict[str, Any]:
    """mAP50 of a version on the newest golden set, by light; not measured again where its training did that."""
    from its_platform.model.evaluate import evaluate_version
    from its_platform.model.registered import evaluation_of

    evaluation = evaluation_of(demo.stores, version)
    if evaluation.dataset != dataset:
        evaluation = evaluate_version(demo.stores, version, dataset)
    day, night = evaluation.score("golden/light=day"), evaluation.score("golden/light=night")
    return {
        "version": version,
        "day": round(day.ap50, 4) if day else None,
        "night": round(night.ap50, 4) if night else None,
        "boxes_day": day.boxes if day else 0,
        "boxes_night": night.boxes if night else 0,
    }


async def _served(demo: Demo) -> dict[str, int | None]:
    """The version that answers at each stage, read back from Triton by an inference."""
    from its_platform.serving.client import DetectorClient

    async with DetectorClient(demo.settings) as client:
        return {stage: await client.served_version(stage) for stage in ("staging", "production")}


def check(demo: Demo, summary: dict[str, Any]) -> list[str]:
    """What the demo promised and did not keep, in words; nothing when all is well."""
    wrong: list[str] = []
    drift = summary["drift"]
    if drift["before"] <= drift["threshold_before"]:
        wrong.append(f"drift at nightfall was {drift['before']:.2f}, not above {drift['threshold_before']:.2f}")
    if any(summary["duplicates"].values()):
        wrong.append(f"things are there twice: {summary['duplicates']}")
    newest = summary["model_versions"][-1]["version"]
    if summary["served_versions"]["production"] != newest:
        wrong.append(f"Triton serves version {summary['served_versions']['production']}, not {newest}")
    floors = demo.scale.floors
    if floors is None:
        return wrong
    if drift["windows"][0]["verdict"] != "stable":
        wrong.append(f"the live day, like the days it learnt from, was judged {drift['windows'][0]['verdict']}")
    if drift["after"] >= drift["threshold_after"]:
        wrong.append(f"drift after retraining is {drift['after']:.2f}, not below {drift['threshold_after']:.2f}")
    first, second = summary["map50"]
    if first["day"] < floors.day:
        wrong.append(f"version {first['version']} reaches mAP50 {first['day']:.3f} by day, not {floors.day:.2f}")
    if second["night"] - first["night"] < floors.night_gain:
        wrong.append(f"the night gain is {second['night'] - first['night']:.3f}, not {floors.night_gain:.2f}")
    if first["day"] - second["day"] > floors.day_loss:
        wrong.append(f"the day loss is {first['day'] - second['day']:.3f}, more than {floors.day_loss:.2f}")
    return wrong
