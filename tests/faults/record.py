"""What came of each fault: the rows of `faults.json`, and the table that a person reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.table import Table


@dataclass
class FaultRecord:
    """One fault that was injected.

    profile: of the stack that it was injected into. doctor_named: whether `its doctor` named it while it lasted, in
    `doctor_said`. recovered_s: seconds until all was as before, None where it never was. acknowledged: answers of the
    front and frames that an ingest called taken in, from the fault to the recovery; missing and duplicated: of those,
    rows that the tables lack or hold twice. failed_requests: live requests without an answer after the client's own
    retries.
    """

    fault: str
    target: str
    profile: str
    doctor_named: bool = False
    recovered_s: float | None = None
    acknowledged: int = 0
    missing: int = 0
    duplicated: int = 0
    failed_requests: int = 0
    doctor_said: str = ""
    is_kept: bool = False
    began: float = field(default=0.0, repr=False)
    ended: float = field(default=0.0, repr=False)


def write_records(path: Path, records: Sequence[FaultRecord]) -> None:
    """Write `faults.json`, whole or not at all; times of day stay out of it."""
    rows = [{name: value for name, value in asdict(one).items() if name not in ("began", "ended")} for one in records]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    unfinished.replace(path)


def table_of(records: Sequence[FaultRecord]) -> Table:
    """The records as a table for a terminal."""
    table = Table(header_style="bold", title="faults")
    words = ("", "profile", "fault", "target", "doctor")
    for name in (*words, "recovered", "acknowledged", "missing", "twice", "failed"):
        table.add_column(name, justify="left" if name in words else "right")
    for one in records:
        table.add_row(
            "[green]✓[/]" if one.is_kept else "[red]✗[/]",
            one.profile,
            one.fault,
            one.target,
            "named" if one.doctor_named else "[red]silent[/]",
            f"{one.recovered_s:.1f} s" if one.recovered_s is not None else "[red]never[/]",
            *(str(value) for value in (one.acknowledged, one.missing, one.duplicated, one.failed_requests)),
        )
    return table
