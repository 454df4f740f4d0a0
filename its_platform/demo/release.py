"""What the release stage is for, played on the demo's world: a bad model that a gate stops, one that a canary catches.

Enters: a home in which `its demo` has run to its end. The play registers two versions as a colleague would, starts
Dagster's job `release` for each, brings new cameras, and watches. Nothing in the platform knows that it is played.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its_platform.demo.run import Demo, in_production
from its_platform.errors import NotFound
from its_platform.loop.dagster_page import runs_of, start_run
from its_platform.loop.play import PlayFailed, asked_before, has_ended, settle, wait_for
from its_platform.settings import Settings
from its_platform.telemetry import Progress, no_progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from its_platform.release import Release

NEW_VIEWS = ("crossing", "camera-4", "camera-7", "camera-9", "camera-11")
NEW_INTERVAL_S = 4.0
TRIAL_S = 300.0
FRAMES_A_GROUP = 40


def run_release(
    settings: Settings, progress: Progress = no_progress, on_step: Callable[[str], None] = lambda name: None
) -> dict[str, Any]:
    """Play it, or go on with it, and write `home/demo/release.json` and `release.html`. Returns the facts.

    Raises `NotFound` where there is no finished demo of full scale, `PlayFailed` where a bad model gets through.
    """
    from its_platform.demo.scales import FULL
    from its_platform.release import served
    from its_platform.stack import start_stack
    from its_platform.stores import open_stores

    folder = settings.home / "demo"
    if not (folder / "summary.json").exists():
        raise NotFound("There is no finished demo in this home.", "Run `its demo` first.")
    settings = settle(settings, f"its demo --scale {FULL.name}", FULL.settings)
    demo = Demo(settings, open_stores(settings), folder / "release", progress, on_step, scale=FULL)
    facts: dict[str, Any] = {}

    demo.step("services", lambda: facts.update(parts=start_stack(settings, progress=progress)))
    good = served(demo.stores, "production")
    if good is None:
        raise NotFound("Nothing is served in production.", "Run `its demo` to its end first.")
    demo.step("permuted labels", lambda: facts.update(permuted=_stopped_by_gates(demo, good)))
    demo.step("blind elsewhere", lambda: facts.update(blind=_on_trial(demo, good)))
    demo.step("new cameras", lambda: facts.update(caught=_caught(demo, good, facts["blind"])))
    facts["served"] = in_production(demo)
    facts["seconds"] = round(sum(demo.seconds.values()), 1)
    demo.step("report", lambda: facts.update(report=str(_write_report(demo, facts))))
    (folder / "release.json").write_text(json.dumps(facts, indent=2, default=str), "utf-8")
    if facts["served"] != good.version:
        raise PlayFailed(f"Version {facts['served']} is served, not {good.version}.", "`its release history` says why.")
    return facts


def _stopped_by_gates(demo: Demo, good: Release) -> dict[str, Any]:
    """Register a version with permuted labels and send it to its gates; what they said."""
    from its_platform.demo.accidents import permute_labels
    from its_platform.model.registered import base_weights
    from its_platform.model.train import register_detector
    from its_platform.release import latest_judgement
    from its_platform.release.gates import failing

    weights = demo.folder / "permuted.pt"
    if not weights.exists():
        permute_labels(base_weights(demo.stores, good.version), weights)
    made = register_detector(demo.stores, _dataset(demo, good), weights, progress=demo.progress)
    version = made.model_version.version
    run_id = _send_to_gates(demo, version, "permuted labels")
    judged = latest_judgement(demo.stores, version)
    failed = failing(judged.results) if judged is not None else []
    if not failed:
        raise PlayFailed(
            f"No gate stopped version {version}, whose labels are permuted.", f"`its release gates {version}`"
        )
    return {"version": version, "run_id": run_id, "gates": [asdict(result) for result in failed]}


def _on_trial(demo: Demo, good: Release) -> int:
    """Register a version that is blind in views it does not know; its number, once it answers as a canary."""
    from its_platform.demo.accidents import blind_elsewhere
    from its_platform.model.registered import base_weights, version_folder
    from its_platform.model.train import register_detector
    from its_platform.release import canary_state

    onnx = demo.folder / "blind.onnx"
    if not onnx.exists():
        size = demo.settings.training.image_size
        original = version_folder(demo.stores, good.version) / "model.onnx"
        blind_elsewhere(original, onnx, _known_views(demo, good, size), _new_views(size))
    weights = base_weights(demo.stores, good.version)
    made = register_detector(demo.stores, _dataset(demo, good), weights, onnx, demo.progress)
    version = made.model_version.version
    if not _was_canary(demo, version):
        _send_to_gates(demo, version, "blind elsewhere")
        state = canary_state(demo.stores)
        if state is None or state.version != version:
            raise PlayFailed(f"Version {version} did not come to be the canary.", f"`its release gates {version}`")
    return version


def _caught(demo: Demo, good: Release, blind: int) -> dict[str, Any]:
    """Let cameras that nobody labelled query Triton, until the canary is taken back; why it was, and pictures of it."""
    from its_platform.cameras import Camera, add_camera, list_cameras
    from its_platform.live.feed import watch_cameras
    from its_platform.release import canary_state, history
    from its_platform.simulation import append_segment, read_timeline

    began = time.time()
    known = {camera.camera_id for camera in list_cameras(demo.stores)}
    for view in NEW_VIEWS:
        if view not in known:
            # Live only: what it films is not taken in yet.
            add_camera(
                demo.stores,
                Camera(
                    camera_id=view,
                    source=f"sim://{view}",
                    site="simulated town",
                    privacy="none",
                    sample_interval_s=NEW_INTERVAL_S,
                    enabled=False,
                ),
            )
    shown = demo.folder / "seen.json"
    if canary_state(demo.stores) is not None:
        if len((timeline := read_timeline(demo.settings)).segments) == len(demo.scale.segments):
            append_segment(demo.settings, "day", "clear", TRIAL_S)
            timeline = read_timeline(demo.settings)
        last = timeline.segments[-1]
        since, until = timeline.moment(last.from_s), timeline.moment(last.to_s)
        if not shown.exists():
            shown.write_text(json.dumps(asyncio.run(_seen(demo, good, blind))), "utf-8")
        asked = asked_before(demo, since, until)
        result = watch_cameras(demo.stores, NEW_VIEWS, since, until, skip=asked, progress=demo.progress)
        if result.failed:
            raise PlayFailed(f"{result.failed} of {result.frames} live frames got no answer.", "See `its doctor`.")
    wait_for(
        demo,
        "end of the canary",
        lambda: canary_state(demo.stores) is None and has_ended(demo, "canary"),
        "canary",
        began,
    )
    row = next(row for row in history(demo.stores, "canary") if row.version == blind)
    mark = demo.stores.registry.get(good.model_name, blind).tags.get("rejected", "")
    if not mark:
        raise PlayFailed(f"Version {blind} ended as a canary without being rejected.", "`its release history`")
    pictures = json.loads(shown.read_text("utf-8")) if shown.exists() else []
    return {"since": row.since, "until": row.until, "why": mark, "pictures": pictures}


def _send_to_gates(demo: Demo, version: int, trigger: str) -> str:
    """Run Dagster's job `release` for a version to its end, whatever that is; the run's id."""
    tag = f"{trigger}, version {version}"

    def sent() -> list[Any]:
        return [run for run in runs_of(demo.settings, "release") if run.tags.get("its/trigger") == tag]

    if not sent():
        config = {"ops": {"candidate_model": {"config": {"version": version}}}}
        start_run(demo.settings, "release", config, tag)
    # A run that fails is what is waited for in one of the two cases.
    deadline = time.monotonic() + demo.patience_s
    while not (runs := sent()) or not all(run.is_finished for run in runs):
        if time.monotonic() > deadline:
            raise PlayFailed(f"After {demo.patience_s:.0f} s version {version} is not judged.", "See `its doctor`.")
        time.sleep(0.5)
    return str(runs[-1].run_id)


def _dataset(demo: Demo, good: Release) -> str:
    return demo.stores.registry.get(good.model_name, good.version).dataset_version


def _was_canary(demo: Demo, version: int) -> bool:
    from its_platform.release import history

    return any(row.version == version for row in history(demo.stores, "canary"))


def _known_views(demo: Demo, good: Release, size: int) -> list[list[npt.NDArray[np.uint8]]]:
    """Fitted frames of the dataset, a group for each camera and light."""
    from its_platform.dataset import load_manifest
    from its_platform.frames import load_image
    from its_platform.model.letterbox import letterbox

    manifest = load_manifest(demo.stores, _dataset(demo, good))
    groups = []
    for _, rows in manifest.groupby(["camera_id", "light"]):
        chosen = rows.iloc[:: max(1, len(rows) // FRAMES_A_GROUP)]
        groups.append([letterbox(load_image(demo.stores, key), size)[0] for key in chosen["object_key"]])
    return groups


def _new_views(size: int) -> list[npt.NDArray[np.uint8]]:
    from its_platform.model.letterbox import letterbox
    from its_platform.simulation import render

    return [letterbox(render(view, 1, float(at_s)).image, size)[0] for view in NEW_VIEWS for at_s in range(0, 60, 10)]


async def _seen(demo: Demo, good: Release, blind: int) -> list[dict[str, str]]:
    """A picture of a new camera as production and the canary see it, past the front."""
    from its_platform.loop.pictures import seen_by_versions
    from its_platform.release import history
    from its_platform.serving.client import DetectorClient
    from its_platform.simulation import render

    row = next(row for row in history(demo.stores, "canary") if row.version == blind)
    async with DetectorClient(demo.settings) as client:
        image = render(NEW_VIEWS[0], 1, 30.0).image
        return await seen_by_versions(demo.stores, client, image, (good, row), f"the new camera {NEW_VIEWS[0]}")


def _write_report(demo: Demo, facts: dict[str, Any]) -> Path:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, select_autoescape

    from its_platform.release import history

    environment = Environment(
        loader=ChoiceLoader([PackageLoader("its_platform.demo", "."), PackageLoader("its_platform.loop", ".")]),
        autoescape=select_autoescape(["j2", "html"]),
    )
    rows = [row for row in history(demo.stores) if row.stage in ("canary", "production")]
    page = environment.get_template("release.html.j2").render(facts=facts, rows=rows[::-1])
    path = demo.settings.home / "demo" / "release.html"
    path.write_text(page, "utf-8")
    return path
