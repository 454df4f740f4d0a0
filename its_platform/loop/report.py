"""The report of a play on real footage: one self-contained page with the pictures, the scores and the way there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its_platform.loop.pictures import drift_chart, score_chart, seen_by_versions

if TYPE_CHECKING:
    from its_platform.loop.run import RealPlay
    from its_platform.release import Release


def write_report(play: RealPlay, facts: dict[str, Any], releases: tuple[Release, Release]) -> Path:
    """Write `home/loop/report.html` and return its path."""
    from jinja2 import Environment, PackageLoader, select_autoescape

    from its_platform.release import latest_judgement
    from its_platform.trace import trace
    from its_platform.trace.picture import section

    environment = Environment(
        loader=PackageLoader("its_platform.loop", "."), autoescape=select_autoescape(["j2", "html"])
    )
    judgement = latest_judgement(play.stores, releases[1].version)
    chain = trace(play.stores, f"release:{releases[1].id}")
    windows = [{**row, "window": f"{row['since']:%d %b %H:%M}"} for row in facts["drift"] if row["score"] is not None]
    page = environment.get_template("report.html.j2").render(
        facts=facts,
        pictures=asyncio.run(_pictures(play, facts, releases)),
        drift_chart=drift_chart(windows),
        score_charts=[score_chart(facts["scores"], what) for what in dict.fromkeys(r["what"] for r in facts["scores"])],
        gates=judgement.results if judgement else (),
        seconds=play.seconds,
        chain=chain,
        chain_shown=section(chain),
    )
    path = play.folder / "report.html"
    path.write_text(page, "utf-8")
    return path


async def _pictures(
    play: RealPlay, facts: dict[str, Any], releases: tuple[Release, Release]
) -> list[list[dict[str, str]]]:
    """The judged picture with the most true boxes of the live camera and of a first one, as both versions see it."""
    from its_platform.dataset import load_manifest
    from its_platform.frames import load_image
    from its_platform.serving.client import DetectorClient

    manifest = load_manifest(play.stores, facts["judged_on"])
    judged = manifest[manifest["split"].isin(["test", "golden"])]
    pairs = []
    async with DetectorClient(play.settings) as client:
        for camera in (play.world.live, play.world.first[0]):
            rows = judged[judged["camera_id"] == camera]
            if rows.empty:
                continue
            busiest = max(rows.itertuples(index=False), key=lambda row: len(row.boxes))
            image = load_image(play.stores, busiest.object_key)
            pairs.append(await seen_by_versions(play.stores, client, image, releases, camera))
    return pairs
