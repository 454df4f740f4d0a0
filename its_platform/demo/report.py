"""The demo's report: one self-contained HTML page with the pictures, the figures and the way there."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its_platform.demo.run import Demo, segment_times

if TYPE_CHECKING:
    from its_platform.frames.frame import Frame
    from its_platform.release import Release

SHOWN_CONFIDENCE = 0.25


def write_report(demo: Demo, summary: dict[str, Any], releases: tuple[Release, Release]) -> Path:
    """Write `home/demo/report.html` and return its path."""
    from jinja2 import Environment, PackageLoader, select_autoescape

    from its_platform.release import history, latest_judgement
    from its_platform.trace import trace
    from its_platform.trace.picture import section

    environment = Environment(
        loader=PackageLoader("its_platform.demo", "."), autoescape=select_autoescape(["j2", "html"])
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
        drift_chart=_drift_chart(summary),
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
    """Pairs of the same frame as the first and the second version see it, by night and by day.

    Triton keeps the last good version loaded beside the served one; both are asked past the front, which routes to
    the served one alone.
    """
    import cv2

    from its_platform.cameras import get_camera
    from its_platform.detections import Detections
    from its_platform.frames.pictures import draw_boxes
    from its_platform.frames.sources import read_frames
    from its_platform.model.letterbox import letterbox, to_picture
    from its_platform.serving.client import DetectorClient
    from its_platform.serving.repository import route_of

    routes = [route_of(demo.stores.registry.get(release.model_name, release.version)) for release in releases]
    pairs: list[list[dict[str, str]]] = []
    async with DetectorClient(demo.settings) as client:
        for purpose, light in (("live night again", "night and fog"), ("live day", "day")):
            since, until = segment_times(demo, purpose)
            camera = get_camera(demo.stores, demo.scale.views[0])
            frame = _busiest(demo, read_frames(camera, demo.settings, since, _early(since, until)))
            height, width = frame.image.shape[:2]
            pair: list[dict[str, str]] = []
            for route in routes:
                square, fit = letterbox(frame.image, route.image_size)
                rows = await client.infer_detector(route.model, route.version, square)
                found = Detections.from_rows(rows[0]).above(SHOWN_CONFIDENCE)
                boxes = [
                    (float(x1), float(y1), float(x2), float(y2), f"{route.classes[c]} {p:.2f}")
                    for (x1, y1, x2, y2), c, p in zip(
                        to_picture(found.boxes, fit, height, width), found.class_id, found.confidence, strict=True
                    )
                ]
                _, png = cv2.imencode(".png", cv2.cvtColor(draw_boxes(frame.image, boxes), cv2.COLOR_RGB2BGR))
                caption = f"{light}, version {route.version}: {len(boxes)} objects"
                pair.append({"png": base64.b64encode(png.tobytes()).decode(), "caption": caption})
            pairs.append(pair)
    return pairs


def _early(since: datetime, until: datetime) -> datetime:
    return since + (until - since) / 4


def _busiest(demo: Demo, frames: Iterable[Frame]) -> Frame:
    """The frame with the most objects in it, as the simulated world knows them."""
    from its_platform.simulation import truth_at

    return max(frames, key=lambda frame: len(truth_at(demo.settings, frame.camera_id, frame.captured_at)))


def _drift_chart(summary: dict[str, Any]) -> str:
    from matplotlib.figure import Figure

    windows = summary["drift"]["windows"]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    names = [f"{w['window']}\nversion {w['model']}" for w in windows]
    colours = ["#b3382c" if w["score"] > w["threshold"] else "#1a7f4b" for w in windows]
    axes.bar(names, [w["score"] for w in windows], color=colours, width=0.55)
    for place, window in enumerate(windows):
        axes.hlines(window["threshold"], place - 0.4, place + 0.4, color="#1c2430", linestyles="dashed")
    axes.set_ylabel("drift score")
    axes.spines[["top", "right"]].set_visible(False)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=130)
    return base64.b64encode(written.getvalue()).decode()
