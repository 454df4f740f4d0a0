"""How a stage's results are shown in Dagster's page."""

from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from its_platform.frames.expectations import CheckResult


def check_result(result: "CheckResult") -> dg.AssetCheckResult:
    """An expectation suite's result as an asset check, each failure on a line of its own."""
    failures = "\n".join(f"- {line}" for line in result.failures) or "none"
    return dg.AssetCheckResult(
        passed=result.passed,
        description="; ".join(result.failures[:3]) or "every expectation was met",
        metadata={"failures": dg.MetadataValue.md(failures), "statistics": dg.MetadataValue.json(result.statistics)},
    )


def table(rows: list[dict[str, object]]) -> dg.MetadataValue:
    """Rows of equal keys as a Markdown table."""
    if not rows:
        return dg.MetadataValue.md("nothing")
    head = list(rows[0])
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(str(row.get(name, "")) for name in head) for row in rows]
    return dg.MetadataValue.md("\n".join(f"| {line} |" for line in lines))
