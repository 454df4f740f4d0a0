"""The demo: the whole loop on a simulated world, watched from outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from its_platform.errors import BadInput
from its_platform.settings import Settings
from its_platform.telemetry import Progress, no_progress

__all__ = ["run_demo"]


def run_demo(
    settings: Settings,
    scale_name: str,
    progress: Progress = no_progress,
    on_step: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Run the loop, or go on with it, and write `home/demo/summary.json` and `report.html`.

    Returns the summary. Raises `PlayFailed` when a step does not come to its end or a promise is not kept.
    """
    from its_platform.demo import run, summary
    from its_platform.demo.report import write_report
    from its_platform.demo.scales import SCALES
    from its_platform.loop.play import PlayFailed, first_release, settle, wait_for_release
    from its_platform.stack import start_stack
    from its_platform.stores import open_stores

    if scale_name not in SCALES:
        raise BadInput(f"There is no scale {scale_name!r}.", f"Take one of {', '.join(SCALES)}.")
    scale = SCALES[scale_name]
    settings = settle(settings, f"its demo --scale {scale.name}", scale.settings)
    demo = run.Demo(settings, open_stores(settings), settings.home / "demo", progress, on_step, scale=scale)
    done: dict[str, Any] = {}

    demo.step("services", lambda: done.update(parts=start_stack(settings, progress=progress)))
    demo.step("cameras", lambda: run.add_cameras(demo))
    demo.step("day frames", lambda: run.wait_for_frames(demo, "first dataset"))
    demo.step("first model", lambda: done.update(first=first_release(demo)))
    first = done["first"]
    for purpose in ("live day", "nightfall", "live night"):
        demo.step(purpose, lambda p=purpose: done.update({p: run.feed_live(demo, p)}))  # type: ignore[misc]
    demo.step("retraining", lambda: run.wait_for_canary(demo, newer_than=first.version))
    demo.step("canary night", lambda: run.prove_canary(demo, "canary night", newer_than=first.version))
    demo.step("release", lambda: done.update(second=wait_for_release(demo, newer_than=first.version)))
    purpose = "live night again"
    demo.step(purpose, lambda: done.update({purpose: run.feed_live(demo, purpose)}))
    facts: dict[str, Any] = {}
    reports = {p: done[p] for p in ("live day", "nightfall", "live night", "live night again")}
    demo.step("scores", lambda: facts.update(summary.summarise(demo, first, done["second"], reports)))
    demo.step("report", lambda: facts.update(report=str(write_report(demo, facts, (first, done["second"])))))

    wrong = summary.check(demo, facts)
    facts["kept"] = not wrong
    path = settings.home / "demo" / "summary.json"
    path.write_text(json.dumps(facts, indent=2, default=str), "utf-8")
    if wrong:
        raise PlayFailed(f"The loop closed, but {'; and '.join(wrong)}.", f"The figures are in {path}.")
    return facts
