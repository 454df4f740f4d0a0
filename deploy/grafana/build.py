"""Writes `dashboards/*.json` from `panels.py`: `python deploy/grafana/build.py`, with the tools of `make test`."""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
)

sys.path.insert(0, str(Path(__file__).parent))

from panels import BOARDS, Board, Panel

FOLDER = Path(__file__).with_name("dashboards")
# As the provisioning of `deploy/compose` calls it.
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
WIDTH, HEIGHT, LOW = 8, 8, 5
GOOD, BAD = "green", "red"


def pages() -> dict[str, str]:
    """Grafana's JSON by file name."""
    return {f"{board.name}.json": f"{JSONEncoder(sort_keys=True, indent=1).encode(_page(board))}\n" for board in BOARDS}


def _page(board: Board) -> object:
    page = (
        dashboard.Dashboard(f"its-platform: {board.title}")
        .uid(board.name)
        .tags(["its-platform"])
        .readonly()
        .refresh("30s")
        .time("now-6h", "now")
        .timezone(kinds.TimeZoneBrowser)
        .tooltip(DashboardCursorSync.CROSSHAIR)
    )
    for title, panels in board.rows.items():
        page.with_row(dashboard.Row(title))
        for panel in panels:
            page.with_panel(_panel(panel))
    return page.build()


def _panel(panel: Panel) -> stat.Panel | timeseries.Panel:
    found = _now(panel) if panel.shape == "now" else _over_time(panel)
    found = found.title(panel.title).datasource(SOURCE).unit(panel.unit).span(WIDTH)
    if panel.says:
        found.description(panel.says)
    if panel.bad_from is not None:
        below, above = (BAD, GOOD) if panel.is_bad_below else (GOOD, BAD)
        steps = [Threshold(None, below), Threshold(panel.bad_from, above)]
        found.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    if panel.words:
        words = {value: ValueMappingResult(text=word) for value, word in panel.words.items()}
        found.mappings([ValueMap(options=words)])
    for number, (legend, expression) in enumerate(panel.queries.items()):
        found.with_target(_query(panel, chr(ord("A") + number), legend, expression))
    return found


def _now(panel: Panel) -> stat.Panel:
    last = common.ReduceDataOptions().calcs(["lastNotNull"])
    return (
        stat.Panel()
        .height(LOW)
        .reduce_options(last)
        .graph_mode(kinds.BigValueGraphMode.NONE)
        .text_mode(kinds.BigValueTextMode.VALUE_AND_NAME)
    )


def _over_time(panel: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().show_legend(True).display_mode(kinds.LegendDisplayMode.TABLE)
    legend = legend.placement(kinds.LegendPlacement.BOTTOM).calcs(["lastNotNull", "max"])
    found = timeseries.Panel().height(HEIGHT).legend(legend).min(0)
    if panel.shape == "bars":
        found.draw_style(kinds.GraphDrawStyle.BARS).fill_opacity(60)
    if panel.bad_from is not None:
        found.thresholds_style(common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED))
    return found


def _query(panel: Panel, name: str, legend: str, expression: str) -> prometheus.Dataquery:
    query = prometheus.Dataquery().ref_id(name).expr(expression).legend_format(legend).datasource(SOURCE)
    return query.instant() if panel.shape == "now" else query.range()


def main() -> None:
    """Write all of them, and remove what no board makes any more."""
    made = pages()
    for stale in FOLDER.glob("*.json"):
        if stale.name not in made:
            stale.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
