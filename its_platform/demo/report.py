"""The demo's report: one self-contained HTML page with the pictures, the figures and the way there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its_platform.demo.run import Demo, segment_times
from its_platform.loop.pictures import drift_chart, seen_by_versions

if TYPE_CHECKING:
    from its_platform.frames.frame import Frame
    from its_platform.release import Release


def write_report(demo: Demo, summary: dict[str, Any], releases: tuple[Release, Release]) -> Path:
    """Write `home/demo/report.html` and return its path."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, select_autoescape

    from its_platform.release import history, latest_judgement
    from its_platform.trace import trace
    from its_platform.trace.picture import section

    environment = Environment(
        loader=ChoiceLoader([PackageLoader("its_platform.demo", "."), PackageLoader("its_platform.loop", ".")]),
        autoescape=select_autoescape(["j2", "html"]),
    )
    rows = [
        {
            "version": r.version,
            "dataset": next((m["dataset"] for m in summary["model_versions"] if m["version"] == r.version), ""),
            "digest": r.digest,
            "why": r.why,
            "since": f"{r.since:%H:%M:%S}",
            "until": f"{r.until:%H:%M:%S}" if r.until else "now",
        }
        for r in history(demo.stores)
        if r.stage == "production"
    ]
    judgement = latest_judgement(demo.stores, releases[1].version)
    chain = trace(demo.stores, f"release:{releases[1].id}")
    page = environment.get_template("report.html.j2").render(
        summary=summary,
        pictures=asyncio.run(_pictures(demo, releases)),
        drift_chart=drift_chart(summary["drift"]["windows"]),
        releases=rows,
        gates=judgement.results if judgement else (),
        chain=chain,
        chain_shown=section(chain),
    )
    path = demo.settings.home / "demo" / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, "utf-8")
    return path


async def _pictures(demo: Demo, releases: tuple[Release, Release]) -> list[list[dict[str, str]]]:
    """The same frame as the first and the second version see it, by night and by day."""
    from its_platform.cameras import get_camera
    from its_platform.frames.sources import read_frames
    from its_platform.serving.client import DetectorClient

    pairs: list[list[dict[str, str]]] = []
    async with DetectorClient(demo.settings) as client:
        for purpose, light in (("live night again", "night and fog"), ("live day", "day")):
            since, until = segment_times(demo, purpose)
            camera = get_camera(demo.stores, demo.scale.views[0])
            frame = _busiest(demo, read_frames(camera, demo.settings, since, _early(since, until)))
            pairs.append(await seen_by_versions(demo.stores, client, frame.image, releases, light))
    return pairs


def _early(since: datetime, until: datetime) -> datetime:
    return since + (until - since) / 4


def _busiest(demo: Demo, frames: Iterable[Frame]) -> Frame:
    """The frame with the most objects in it, as the simulated world knows them."""
    from its_platform.simulation import truth_at

    return max(frames, key=lambda frame: len(truth_at(demo.settings, frame.camera_id, frame.captured_at)))
