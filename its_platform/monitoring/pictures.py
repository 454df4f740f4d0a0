"""Drift as a picture: PNG bytes for Dagster's page and the demo's report.

Enters: a report or several. Leaves: PNG. Interactive pages belong in `pages`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from its_platform.charts import png_of
from its_platform.monitoring.reports import DriftReport

DRIFTED, STABLE, LINE = "#c8442f", "#3c7a89", "#222222"


def effects(report: DriftReport) -> bytes:
    """Each column's effect as a multiple of its threshold, the worst on top, with the line that counts as drift."""
    from matplotlib.figure import Figure

    names = sorted(report.columns, key=lambda name: _ratio(report, name))
    ratios = [_ratio(report, name) for name in names]
    figure = Figure(figsize=(8, 1.4 + 0.28 * max(1, len(names))), layout="constrained")
    axes = figure.subplots()
    if not names:
        axes.text(0.5, 0.5, report.reason, ha="center", va="center", wrap=True)
        axes.set_axis_off()
    else:
        colours = [DRIFTED if ratio >= 1 else STABLE for ratio in ratios]
        axes.barh(range(len(names)), ratios, color=colours, height=0.7)
        axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axes.axvline(report.threshold, color=LINE, linewidth=1.2, linestyle="--")
        axes.text(report.threshold, -0.9, " threshold", fontsize=8, color=LINE, va="center")
        axes.set_xlabel("effect / threshold")
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        f"Version {report.model_version}, {report.since:%Y-%m-%d %H:%M:%S} to {report.until:%H:%M:%S} UTC, "
        f"{report.rows} frames: {report.verdict.replace('_', ' ')}",
        fontsize=10,
        loc="left",
    )
    return png_of(figure)


def history(reports: Sequence[DriftReport]) -> bytes:
    """The score of each judged window over time, one line a version."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    for version in sorted({report.model_version for report in reports}):
        own = sorted((r for r in reports if r.model_version == version and r.score is not None), key=lambda r: r.until)
        if own:
            axes.plot(
                np.array([r.until.replace(tzinfo=None) for r in own], "datetime64[ms]"),
                np.array([r.score for r in own], float),
                marker="o",
                label=f"version {version}",
            )
            axes.legend(frameon=False)
    axes.axhline(1.0, color=LINE, linewidth=1.2, linestyle="--")
    axes.set_ylabel("worst effect / threshold")
    axes.set_yscale("symlog", linthresh=1.0)
    axes.spines[["top", "right"]].set_visible(False)
    figure.autofmt_xdate()
    return png_of(figure)


def _ratio(report: DriftReport, name: str) -> float:
    return float(report.columns[name]["effect"]) / float(report.columns[name]["threshold"])
