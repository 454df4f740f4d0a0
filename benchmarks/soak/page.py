"""How a soak is shown: a page with pictures that needs nothing from outside, and a block in a document.

Enters: what the repeats came to, and where and how they ran. Leaves: HTML, and the document's text with its block.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from its_platform.charts import in_page, png_of
from its_platform.settings import REPOSITORY
from soak.reckoning import LEAST_GROWTH, Sample
from soak.verdict import Repeat, is_watched_long_enough, reasons

BEGIN, END = "<!-- soak -->", "<!-- /soak -->"
INK, SOFT, BAD = "#1c2430", "#9aa6b2", "#b3382c"
STYLE = REPOSITORY / "its_platform" / "loop" / "style.css"


@dataclass(frozen=True)
class Setting:
    """Where and how a soak ran, in words: the machine, what ran beside it, the day, the command."""

    machine: str
    beside: str
    day: str
    command: str
    profile: str


def put_block(document: str, block: str) -> str:
    """The document with this block between its markers, instead of what was there. Raises `ValueError` without them."""
    if document.count(BEGIN) != 1 or document.count(END) != 1 or document.index(BEGIN) > document.index(END):
        raise ValueError(f"the document has not one {BEGIN} and one {END} after it")
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{block.strip()}\n{END}{after}"


def write_block(path: Path, block: str) -> None:
    """The same in a file, whole or not at all."""
    text = put_block(path.read_text("utf-8"), block)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, "utf-8")
    part.replace(path)


def block_of(repeats: Sequence[Repeat], setting: Setting) -> str:
    """The figures as Markdown."""
    names = [f"repeat {one.number}" for one in repeats]
    lines = [
        f"`{setting.command}`, {setting.day}, {setting.profile} profile, {setting.machine}; {setting.beside}.",
        "",
        verdict_words(repeats),
        "",
        _markdown(["", *names], [[what, *values] for what, values in rows_of(repeats).items()]),
        "",
        "Memory of each part in MB, from the end of its warm-up to the end of its life, by a line through the least of "
        "each twelfth; Triton's life is that of its second process.",
        "",
        _markdown(["part", *names], growth_rows(repeats, "memory_mb")),
    ]
    return "\n".join(lines)


def verdict_words(repeats: Sequence[Repeat]) -> str:
    """Kept or not, and why not, in a sentence or two."""
    told = [f"repeat {one.number}: {why}" for one in repeats for why in reasons(one)]
    words = f"**Not kept.** {'; '.join(told)}." if told else "**Kept.**"
    if not is_watched_long_enough(repeats):
        words += " Too short to tell a leak of every part."
    return words


def rows_of(repeats: Sequence[Repeat]) -> dict[str, list[str]]:
    """Every figure of a repeat by what it is called, one value a repeat."""
    told: dict[str, list[str]] = {}
    for one in repeats:
        figures = {
            "`its up`, first served version": f"{one.up_s:.0f} s, {one.first_version_s:.0f} s",
            "load": f"{one.load_s / 60:.1f} min, {one.images_s:.1f} images/s",
            "requests": f"{one.requests}",
            "latency p50, p95, p99": _milliseconds(one.p50, one.p95, one.p99),
            "worst minute's p99": _milliseconds(max((m.p99 for m in one.minutes if m.p99 is not None), default=None)),
            "kill -9 of Triton: an answer after": "never" if one.back_s is None else f"{one.back_s:.1f} s",
            "failed: while it was away, else": f"{one.failed_in_gap}, {one.failed - one.failed_in_gap}",
            "answers without a row: in its memory, else": f"{one.rows.in_memory}, {one.rows.lost}",
            "rows that are there twice": f"{one.rows.twice + sum(one.duplicates.values())}",
            "simulated cameras: answered, failed": f"{one.live[0]}, {one.live[1]}",
            "frames, drift reports, versions served": f"{one.frames}, {one.reports}, {len(one.versions)}",
            "Dagster's runs": ", ".join(f"{count} {status.lower()}" for status, count in one.runs.items()),
            "database": _grown(*one.database_mb),
            "object store": _grown(*one.objects_mb),
        }
        for what, value in figures.items():
            told.setdefault(what, []).append(value)
    return told


def growth_rows(repeats: Sequence[Repeat], figure: str) -> list[list[str]]:
    """A row a part: its start and end in each repeat, and how much an hour that would be."""
    parts = sorted({part for one in repeats for part in one.growths})
    rows = []
    for part in parts:
        row = [part]
        for one in repeats:
            grown = one.growths.get(part, {}).get(figure)
            hourly = f" ({grown.an_hour:+.0f} an hour)" if grown is not None and grown.is_judged else ""
            row.append("" if grown is None else f"{grown.start:.0f} to {grown.end:.0f}{hourly}")
        rows.append(row)
    return rows


def page_of(repeats: Sequence[Repeat], samples: Sequence[Sequence[Sample]], setting: Setting) -> str:
    """The whole page; `samples` are those of each repeat, in order."""
    names = [f"repeat {one.number}" for one in repeats]
    about = f"{setting.command}, {setting.day}, {setting.profile} profile, {setting.machine}; {setting.beside}."
    sections = [
        f"<h1>Soak</h1><p class='lead'>{escape(about)}</p><p>{escape(verdict_words(repeats).replace('**', ''))}</p>",
        _html(["", *names], [[what.replace("`", ""), *values] for what, values in rows_of(repeats).items()]),
    ]
    for one, seen in zip(repeats, samples, strict=True):
        picture = chart(one, seen)
        sections.append(
            f"<h2>Repeat {one.number}</h2><figure><img alt='repeat {one.number}' "
            f"src='{picture}'><figcaption>The dashed line is the kill -9.</figcaption></figure>"
        )
    for figure in LEAST_GROWTH:
        title = {"memory_mb": "Memory, MB", "descriptors": "Open descriptors", "threads": "Threads"}[figure]
        sections.append(f"<h2>{title}</h2>" + _html(["part", *names], growth_rows(repeats, figure)))
    head = "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>its-platform: soak</title>"
    return f"{head}<style>{STYLE.read_text('utf-8')}</style></head><body><main>{''.join(sections)}</main></body></html>"


def chart(repeat: Repeat, samples: Sequence[Sample]) -> str:
    """Latency, images a second and memory over the minutes of a repeat, as the address of a PNG."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8.5), layout="constrained")
    latency, rate, memory = figure.subplots(3, sharex=True)
    minutes = [one.minute + 0.5 for one in repeat.minutes]
    for name, colour in (("p50", INK), ("p95", SOFT), ("p99", BAD)):
        latency.plot(minutes, [getattr(one, name) for one in repeat.minutes], color=colour, label=name)
    latency.set_yscale("log")
    latency.set_ylabel("latency, ms")
    rate.bar(minutes, [one.images_s for one in repeat.minutes], width=0.9, color=SOFT, label="answered")
    rate.plot(minutes, [one.failed_s for one in repeat.minutes], color=BAD, label="failed")
    rate.set_ylabel("images a second")
    parts = sorted({part for one in samples for part in one.parts})
    for part, colour in zip(parts, itertools.cycle(colormaps["tab20"].colors)):  # type: ignore[attr-defined]
        seen = [(one.at, one.parts[part].memory_mb) for one in samples if part in one.parts]
        memory.plot(
            [(at - samples[0].at) / 60 for at, _ in seen],
            [held for _, held in seen],
            label=part,
            color=colour,
            linewidth=1,
        )
    memory.set_yscale("log")
    memory.set_ylabel("memory, MB")
    memory.set_xlabel("minutes of load")
    for axes in (latency, rate, memory):
        axes.axvline(repeat.killed_s / 60, color=BAD, linestyle="dashed", linewidth=1)
        axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper left", bbox_to_anchor=(1, 1))
        axes.spines[["top", "right"]].set_visible(False)
    return in_page(png_of(figure, dpi=120))


def _milliseconds(*values: float | None) -> str:
    return "no answer" if None in values else ", ".join(f"{value:.0f}" for value in values) + " ms"


def _grown(before: float, after: float) -> str:
    return f"{before:.0f} to {after:.0f} MB"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _html(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<div class='wide'><table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table></div>"
