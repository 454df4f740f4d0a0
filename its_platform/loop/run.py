"""The loop on real footage: cameras of the day teach a first model, a night comes, drift retrains it.

Enters: a folder of labelled cameras and weights to begin with. Leaves: what came of it, in `home/loop/summary.json` and
`report.html`. As in the demo, Dagster's sensors start every ingest, training, release and report; the play brings the
footage, lets the live camera query Triton, and hands the labels in as a person who labels would: those of the live
camera only after its drift was found. A play that was killed goes on where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its_platform.errors import BadInput
from its_platform.loop.footage import INTERVAL, World, lay_out_live, name_before, read_world
from its_platform.loop.play import (
    Play,
    PlayFailed,
    asked_before,
    first_release,
    has_ended,
    settle,
    wait_for,
    wait_for_release,
    wait_for_report,
)
from its_platform.settings import Settings
from its_platform.telemetry import Progress, no_progress
from its_platform.weights import check_weights

if TYPE_CHECKING:
    from its_platform.labels.formats import ReadLabels
    from its_platform.labels.labelling import Refusal
    from its_platform.monitoring.reports import DriftReport

OWNER = "its loop"
A_NIGHT_LATER = timedelta(days=1)


@dataclass(frozen=True)
class LoopPlan:
    """What a person chooses. image_size: pixels; epochs: of the first training; retraining_epochs: of the second."""

    data: Path
    weights: Path
    live: str | None = None
    judged_from: str | None = None
    image_size: int = 480
    epochs: int = 12
    retraining_epochs: int = 8


@dataclass(kw_only=True)
class RealPlay(Play):
    """A play on a folder of labelled cameras."""

    world: World


def run_loop(
    settings: Settings,
    plan: LoopPlan,
    progress: Progress = no_progress,
    on_step: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Run the loop, or go on with it; returns the summary.

    Raises `BadInput` and `NotFound` for a folder or weights that cannot be used, `PlayFailed` when a step does not
    come to its end or the loop did not close.
    """
    from its_platform.loop.report import write_report
    from its_platform.loop.summary import broken_promises, summarise
    from its_platform.stack import start_stack
    from its_platform.stores import open_stores

    check_weights(plan.weights)
    world = read_world(plan.data, plan.live, plan.judged_from)
    settings = settle(settings, OWNER, settings_for(world, plan))
    play = RealPlay(
        settings, open_stores(settings), settings.home / "loop", progress, on_step, patience_s=3600.0, world=world
    )
    done: dict[str, Any] = {}

    play.step("services", lambda: done.update(parts=start_stack(settings, progress=progress)))
    play.step("first footage", lambda: bring_first_cameras(play))
    play.step("first labels", lambda: import_labels(play, world.first))
    play.step("first model", lambda: done.update(first=first_release(play)))
    play.step("live footage", lambda: bring_live_camera(play))
    play.step("live", lambda: done.update(before=feed_live(play, timedelta(0))))
    play.step("labels of the drifted window", lambda: import_labels(play, (world.live,)))
    play.step("retraining", lambda: done.update(second=wait_for_release(play, done["first"].version)))
    play.step("live again", lambda: done.update(after=feed_live(play, A_NIGHT_LATER)))
    facts: dict[str, Any] = {}
    releases = (done["first"], done["second"])
    play.step("scores", lambda: facts.update(summarise(play, releases, done["before"], done["after"])))
    play.step("report", lambda: facts.update(report=str(write_report(play, facts, releases))))
    facts["seconds"] = [{"step": name, "s": round(s, 1)} for name, s in play.seconds.items()]
    wrong = broken_promises(facts)
    facts["kept"] = not wrong
    path = play.folder / "summary.json"
    path.write_text(json.dumps(facts, indent=2, default=str), "utf-8")
    if wrong:
        raise PlayFailed(f"The loop closed, but {'; and '.join(wrong)}.", f"The figures are in {path}.")
    return facts


def settings_for(world: World, plan: LoopPlan) -> dict[str, Any]:
    """The settings that this footage asks for; whatever is set in the environment still wins.

    One window of drift is one stretch of live footage, and the later stretch judges.
    """
    longest = max(until - since for since, until in world.stretches)
    return {
        "classes": list(world.classes),
        "dataset": {"block_s": 10.0, "guard_s": 1.0, "block_frames": 10, "guard_frames": 1},
        "training": {
            "weights": str(plan.weights.absolute()),
            "epochs": plan.epochs,
            "image_size": plan.image_size,
            # Few frames want few changes: the weights' own view of pictures stays, and each step is small.
            "batch": 8,
            "learning_rate": 0.0005,
            "freeze_layers": 10,
        },
        # The report compares trainings, so that each has one version.
        "serving": {"format": "onnx"},
        # A few hundred boxes, few of them of the rarer classes: a slice scatters by more than the usual tolerance.
        "gates": {"slice_tolerance": 0.08, "class_tolerance": 0.15},
        "drift": {
            "window_s": longest.total_seconds(),
            "minimum_rows": 20,
            "windows": 2,
            "windows_drifted": 2,
        },
        "retraining": {
            "cool_down_s": 0.0,
            "sample_frames": 10 * len(world.names),
            "minimum_reviewed_frames": len(world.names) // 2,
            "judge_blocks": "latest",
            "judge_share": round(world.judge_share, 4),
            "epochs": plan.retraining_epochs,
        },
        # Some dozens of live pictures could prove nothing about a canary: what passed its gates is served at once.
        "canary": {"steps": []},
        "sensors": {"interval_s": 2},
    }


def bring_first_cameras(play: RealPlay) -> None:
    """Register the first cameras and wait until the footage sensor's runs have taken them in."""
    for camera_id in play.world.first:
        _add_camera(play, camera_id, str(play.world.folder / camera_id / "images"))
    _wait_for_frames(play, play.world.first)


def bring_live_camera(play: RealPlay) -> None:
    """Lay the live camera's footage out in time, register it and wait until it is taken in."""
    _add_camera(play, play.world.live, lay_out_live(play.world, play.folder / "footage" / play.world.live))
    _wait_for_frames(play, (play.world.live,))


def _add_camera(play: RealPlay, camera_id: str, source: str) -> None:
    from its_platform.cameras import Camera, add_camera, list_cameras

    if camera_id not in {camera.camera_id for camera in list_cameras(play.stores)}:
        interval_s = INTERVAL.total_seconds()
        camera = Camera(camera_id=camera_id, source=source, site="real", privacy="none", sample_interval_s=interval_s)
        add_camera(play.stores, camera)


def _wait_for_frames(play: RealPlay, cameras: Sequence[str]) -> None:
    from its_platform.frames.index import FrameIndex
    from its_platform.frames.ingest import has_new_footage

    def is_there() -> bool:
        rows = FrameIndex(play.stores).query(cameras=list(cameras), columns=["camera_id"])
        play.progress("frames", len(rows), None, ", ".join(cameras))
        is_taken_in = not any(has_new_footage(play.stores, camera) for camera in cameras)
        return is_taken_in and has_ended(play, "ingest")

    wait_for(play, f"footage of {', '.join(cameras)}", is_there, "ingest", since=time.time())


def import_labels(play: RealPlay, cameras: Sequence[str]) -> None:
    """Hand in the labels of these cameras in one commit, so that no training begins with the first of them alone.

    Raises `BadInput`, and hands in nothing, where a camera has labels and not one can be used.
    """
    from its_platform.frames.index import FrameIndex
    from its_platform.labels.formats import read_yolo
    from its_platform.labels.store import add_labels

    world = play.world
    frames = FrameIndex(play.stores).query(cameras=list(cameras))
    # A picture that is no JPEG is stored as one, and is then known by its name alone.
    names = frames["source"].map(name_before)
    frames["source"] = frames["source"].where(frames["camera_id"] != world.live, names)
    read = {
        camera: read_yolo(world.folder / camera, world.classes_of[camera], frames[frames["camera_id"] == camera])
        for camera in cameras
    }
    labels = [entry for found in read.values() for entry in found.labels]
    rehearsed = add_labels(play.stores, labels, is_rehearsal=True)
    for camera, found in read.items():
        _check_usable(world.folder / camera, found, rehearsed.refused)
    result = add_labels(play.stores, labels)
    refused = len(result.refused) + sum(len(found.refused) for found in read.values())
    play.progress("labels", result.added, result.added + refused, f"{refused} refused" if refused else "")


def _check_usable(folder: Path, found: ReadLabels, refused: Sequence[Refusal]) -> None:
    """Raise `BadInput` where not one label of a camera can be used: what waits for labels would wait for good."""
    hashes = {entry.frame_hash for entry in found.labels}
    why = [*found.refused, *(refusal for refusal in refused if refusal.frame in hashes)]
    if why and hashes <= {refusal.frame for refusal in refused}:
        raise BadInput(
            f"{folder}: not one of its labels can be used: {why[0]}.", "Mend them, and start the loop again."
        )


def feed_live(play: RealPlay, shift: timedelta) -> list[DriftReport]:
    """Let the live camera query Triton for its footage, filmed `shift` later; the reports on its two stretches."""
    from its_platform.live.feed import watch_cameras

    stretches = [(since + shift, until + shift) for since, until in play.world.stretches]
    result = watch_cameras(
        play.stores,
        [play.world.live],
        skip=asked_before(play, stretches[0][0], stretches[-1][1]),
        progress=play.progress,
        shift=shift,
    )
    if result.failed:
        raise PlayFailed(f"{result.failed} of {result.frames} live frames got no answer.", "See `its doctor`.")
    window = timedelta(seconds=play.settings.drift.window_s)
    return [wait_for_report(play, f"stretch from {since:%H:%M}", since, since + window) for since, _ in stretches]
