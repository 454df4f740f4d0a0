"""What a play on real footage came to, read back from where each fact lives, and what it promised.

Both versions are judged on the same held-out frames: those of the second version's dataset, which are the first
cameras' held-out blocks and the live camera's second stretch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from its_platform.loop.play import PlayFailed, duplicates

if TYPE_CHECKING:
    from pandas import DataFrame

    from its_platform.loop.run import RealPlay
    from its_platform.model.scoring import SliceScore
    from its_platform.monitoring.reports import DriftReport
    from its_platform.release import Release

FIRST_CAMERAS = "first cameras"
ANY_CLASS = "any class"
ALL_CLASSES = "mean of classes"


def summarise(
    play: RealPlay, releases: tuple[Release, Release], before: list[DriftReport], after: list[DriftReport]
) -> dict[str, Any]:
    """The facts. before, after: the reports on the live stretches under the first and the second version."""
    from its_platform.dataset import load_manifest
    from its_platform.dataset.versions import list_versions, version
    from its_platform.model.evaluate import JUDGED_SPLITS

    models = [play.stores.registry.get(release.model_name, release.version) for release in releases]
    judged_on = version(play.stores, models[1].dataset_version)
    manifest = load_manifest(play.stores, judged_on.name)
    judged = manifest[manifest["split"].isin(JUDGED_SPLITS)].reset_index(drop=True)
    slices = slices_of(judged, play.world.live)
    scores = [judge(play, model.version, judged, judged_on.classes, slices) for model in models]
    main = main_class(scores[0])
    return {
        "data": str(play.world.folder),
        "classes": list(play.world.classes),
        "first_cameras": list(play.world.first),
        "live_camera": play.world.live,
        "judged_from": play.world.names[play.world.judged_from],
        "datasets": [
            {"name": v.name, "digest": v.digest, "frames": v.counts, "boxes": v.boxes, "golden": v.golden}
            for v in list_versions(play.stores)
        ],
        "models": [
            {"version": m.version, "dataset": m.dataset_version, "digest": m.digest, "run_id": m.run_id}
            | _training_of(play, m.run_id)
            for m in models
        ],
        "judged_on": judged_on.name,
        "scores": [
            row for model, found in zip(models, scores, strict=True) for row in rows_of(model.version, found, main)
        ],
        "drift": [
            {
                "since": report.since,
                "until": report.until,
                "model": report.model_version,
                "rows": report.rows,
                "score": report.score,
                "threshold": report.threshold,
                "verdict": report.verdict,
                "unseen_strata": report.unseen_strata,
                "reason": report.reason,
            }
            for report in (*before, *after)
        ],
        "served": asyncio.run(_served(play)),
        "duplicates": duplicates(play.stores),
    }


def slices_of(judged: DataFrame, live: str) -> dict[str, npt.NDArray[np.bool_]]:
    """Rows of the judged frames by slice: all, the first cameras together, and each camera."""
    camera = judged["camera_id"].to_numpy()
    slices = {"all": np.ones(len(camera), bool), FIRST_CAMERAS: camera != live}
    return slices | {name: camera == name for name in sorted(set(camera))}


def judge(
    play: RealPlay,
    version: int,
    judged: DataFrame,
    classes: Sequence[str],
    slices: Mapping[str, npt.NDArray[np.bool_]],
) -> list[SliceScore]:
    """Scores of a version's exported file on these frames, blocks of frames drawn anew for the intervals."""
    from its_platform.model.evaluate import block_names, detect_frames, truth_of
    from its_platform.model.registered import exported_file
    from its_platform.model.scoring import score_detections

    found = detect_frames(play.stores, exported_file(play.stores, version), judged, classes, play.progress)
    return score_detections(truth_of(judged, classes), found, classes, slices, block_names(judged))


def main_class(scores: Sequence[SliceScore]) -> str:
    """The class that most of the judged boxes are of."""
    boxes = {s.class_name: s.boxes for s in scores if s.slice == "all" and s.class_name not in (None, "*")}
    if not boxes:
        raise PlayFailed("There are no judged boxes.", "`its dataset show` says what the dataset holds.")
    return str(max(boxes, key=lambda name: boxes[name]))


def rows_of(version: int, scores: Sequence[SliceScore], main: str) -> list[dict[str, Any]]:
    """AP50 with its interval by slice: of the main class, of any class, and the mean over the classes."""
    known = {(score.slice, score.class_name): score for score in scores}
    rows = []
    for name in dict.fromkeys(score.slice for score in scores):
        for shown, class_name in ((main, main), (ANY_CLASS, "*"), (ALL_CLASSES, None)):
            score = known.get((name, class_name))
            if score is not None:
                rows.append(
                    {
                        "version": version,
                        "camera": name,
                        "what": shown,
                        "ap50": score.ap50,
                        "low": score.ap50_low,
                        "high": score.ap50_high,
                        "boxes": score.boxes,
                        "frames": score.frames,
                    }
                )
    return rows


def broken_promises(facts: dict[str, Any]) -> list[str]:
    """What the loop promised and did not keep, in words; nothing when all is well."""
    first, second = (model["version"] for model in facts["models"])
    wrong = [
        f"the stretch from {row['since']:%H:%M} was judged {row['verdict'].replace('_', ' ')}, not drifted"
        for row in facts["drift"]
        if row["model"] == first and row["verdict"] != "drifted"
    ]
    if facts["served"]["production"] != second:
        wrong.append(f"Triton serves version {facts['served']['production']}, not {second}")
    if any(facts["duplicates"].values()):
        wrong.append(f"things are there twice: {facts['duplicates']}")
    live = {
        row["version"]: row["ap50"]
        for row in facts["scores"]
        if row["camera"] == facts["live_camera"] and row["what"] == ANY_CLASS
    }
    if live[second] <= live[first]:
        wrong.append(f"AP50 on {facts['live_camera']} went from {live[first]:.3f} to {live[second]:.3f}")
    return wrong


def _training_of(play: RealPlay, run_id: str) -> dict[str, Any]:
    """Seconds of a version's MLflow run (training, export, evaluation) and of the training batches alone."""
    run = play.stores.registry.client().get_run(run_id)
    known = run.data.metrics
    spent = (run.info.end_time - run.info.start_time) / 1000 if run.info.end_time else None
    return {
        "epochs": int(run.data.params["epochs"]),
        "image_size": int(run.data.params["image_size"]),
        "run_s": spent,
        "images_per_s": known.get("train/images_per_s"),
    }


async def _served(play: RealPlay) -> dict[str, int | None]:
    """The version that answers at each stage, read back from Triton by an inference."""
    from its_platform.serving.client import DetectorClient

    async with DetectorClient(play.settings) as client:
        return {stage: await client.served_version(stage) for stage in ("staging", "production")}
