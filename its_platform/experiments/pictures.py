"""An experiment as somebody sees it: its interval from look to look as a PNG, and its figures as Markdown.

Values enter; a picture or text leaves. Nothing is read or judged here.
"""

from __future__ import annotations

import numpy as np

from its_platform.charts import png_of
from its_platform.experiments.judging import Finding
from its_platform.experiments.planning import MEASURES, Plan
from its_platform.release.experiment import Experiment
from its_platform.release.pictures import number

BAND, LINE, LIMIT = "#3c7a89", "#222222", "#c8442f"


def sequence(shown: Experiment) -> bytes:
    """The effect and its interval at each look, over the number of blocks, with the smallest effect of interest."""
    from matplotlib.figure import Figure

    plan = Plan(**shown.plan)
    looks = [look for look in shown.looks if look["effect"] is not None]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    if looks:
        blocks, effect, low, high = (
            np.array([look[name] for look in looks], float) for name in ("blocks", "effect", "low", "high")
        )
        axes.fill_between(blocks, low, high, color=BAND, alpha=0.25, linewidth=0, label="interval at every look")
        axes.plot(blocks, effect, color=BAND, marker="o", markersize=3, label="effect")
        # The first intervals are as wide as they can be, and would leave nothing to see of the last.
        most = 1.2 * max(plan.effect, float(np.abs(np.concatenate([low[-1:], high[-1:], effect])).max()))
        axes.set_ylim(-most, most)
        axes.legend(frameon=False, loc="upper right", fontsize=8)
    axes.axhline(0, color=LINE, linewidth=1.2)
    for limit in (-plan.effect, plan.effect):
        axes.axhline(limit, color=LIMIT, linewidth=1, linestyle="--")
    axes.set_xlim(0, plan.blocks * 1.02)
    axes.set_xlabel(f"blocks of one camera and one minute, {plan.blocks} at most")
    axes.set_ylabel(MEASURES[plan.measure].said, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        f"Experiment {shown.id}: version {shown.challenger} less version {shown.control}", fontsize=10, loc="left"
    )
    return png_of(figure)


def experiment_markdown(shown: Experiment, finding: Finding) -> str:
    """Effect and interval over all lights and in each, with what was asked and what follows."""
    lines = [
        f"**{shown.hypothesis}** ({shown.by})",
        "",
        f"{shown.decision or 'running'}: {shown.why_ended or '; '.join(finding.reasons)}",
        "",
        "| light | blocks | effect | from | to |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, effect in {"all": finding.overall, **finding.by_light}.items():
        cells = [name, str(effect.blocks), *(number(value) for value in (effect.effect, effect.low, effect.high))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
