"""Gate results and releases as a person reads them: Markdown tables, for Dagster's page and for reports.

Values enter, text leaves. Nothing is read or judged here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from its_platform.release.gates import GateResult, is_passed
from its_platform.release.truth import Release

MARKS = {"passed": "✅", "failed": "❌", "not_judged": "➖", "no_verdict": "❔"}


def gates_markdown(results: Sequence[GateResult], waived: Collection[str] = ()) -> str:
    """A table of all gates with their numbers, what is in the way first, and one line above it with the outcome."""
    if not results:
        return "*Not judged.*\n"
    ordered = sorted(results, key=lambda result: (not result.is_in_the_way, result.name, result.slice))
    outcome = "**Passed**" if is_passed(results, waived) else "**Not passed**"
    lines = [
        f"{outcome}: {sum(r.verdict == 'passed' for r in results)} of {len(results)} gates passed.",
        "",
        "| | gate | slice | value | threshold | boxes | |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for result in ordered:
        is_waived = result.is_in_the_way and result.key in waived
        mark = "🖊 waived" if is_waived else f"{MARKS[result.verdict]} {result.verdict.replace('_', ' ')}"
        cells = [
            mark,
            result.name,
            result.slice,
            number(result.value),
            number(result.threshold),
            "" if result.boxes is None else str(result.boxes),
            result.detail,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def timeline_markdown(releases: Iterable[Release], now: datetime | None = None) -> str:
    """A table of releases, the latest first, with how long each was served."""
    now = now or datetime.now(UTC)
    lines = ["| stage | version | since | for | by | why |", "|---|---:|---|---:|---|---|"]
    for release in releases:
        end = release.until or now
        state = "" if release.until else " (now)"
        since = release.since.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        cells = [release.stage, str(release.version), since, span(end - release.since) + state, release.by, release.why]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def number(value: float | None) -> str:
    """A gate's figure in at most four digits after the point; empty where there is none."""
    return "" if value is None else f"{value:.4g}"


def span(length: timedelta) -> str:
    """A length of time in its two largest units."""
    seconds = int(length.total_seconds())
    for unit, size, below, small in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // small} {below}"
    return f"{seconds} s"
