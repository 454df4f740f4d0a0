"""Golden sets: numbered, judging every later model, growing only by slices, each use counted.

Golden 1 is the held-out blocks of the first dataset. Golden N+1 holds every frame of golden N with the labels that
it had there, and new slices (a condition such as `night+fog` of a camera, or the judging part of a drifted window).
Each list of classes has a chain of its own. The frames themselves lie in the manifest of the dataset version that
made the set.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from its_platform.dataset.manifest import MANIFEST, read_rows
from its_platform.dataset.versions import load_manifest, remaining, version, version_bytes
from its_platform.errors import NotFound
from its_platform.stores import Stores
from its_platform.stores.schema import GoldenSetRow, GoldenUseRow

Row = dict[str, Any]


@dataclass(frozen=True)
class GoldenSet:
    """One numbered set. `slices`: what was added when: name, camera, frames, boxes, since (golden number)."""

    number: int
    dataset: str
    digest: str
    classes: tuple[str, ...]
    slices: tuple[dict[str, Any], ...]
    created_at: datetime | None = None

    @property
    def slice_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(one["name"]) for one in self.slices))

    @property
    def seen(self) -> frozenset[tuple[str, str]]:
        """Pairs of camera and slice name that the set judges already."""
        return frozenset((str(one["camera"]), str(one["name"])) for one in self.slices)


def golden_sets(stores: Stores) -> list[GoldenSet]:
    """Every golden set, oldest first."""
    with stores.database.session() as session:
        rows = session.scalars(select(GoldenSetRow).order_by(GoldenSetRow.number))
        return [_from_row(row) for row in rows]


def current_golden(stores: Stores, classes: Sequence[str] | None = None) -> GoldenSet | None:
    """The newest set, or the newest of this list of classes; None where there is none."""
    found = [one for one in golden_sets(stores) if classes is None or one.classes == tuple(classes)]
    return found[-1] if found else None


def golden_manifest(stores: Stores, number: int) -> pd.DataFrame:
    """The set's rows in the shape of `load_manifest`. Raises `NotFound`."""
    for one in golden_sets(stores):
        if one.number == number:
            table = load_manifest(stores, one.dataset)
            return table[table["split"] == "golden"].reset_index(drop=True)
    raise NotFound(f"There is no golden set {number}.", "`its dataset list` shows the set of each version.")


def golden_rows(stores: Stores, golden: GoldenSet) -> list[Row]:
    """The set's manifest rows as they are stored, without frames that were erased."""
    files = version_bytes(stores, version(stores, golden.dataset))
    return [row for row in remaining(stores, read_rows(files[MANIFEST])).values() if row["split"] == "golden"]


def additions(rows: Sequence[Row], number: int, window: Any) -> list[dict[str, Any]]:
    """What new golden rows add, by slice and camera."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[(row["slice"], row["camera_id"])].append(row)
    return [
        {
            "name": name,
            "camera": camera,
            "frames": len(some),
            "boxes": sum(len(row["boxes"]) for row in some),
            "since": number,
            "window": window,
        }
        for (name, camera), some in sorted(found.items())
    ]


def add_golden(session: Session, golden: GoldenSet) -> None:
    """Record a set in the transaction that records its dataset version."""
    session.add(
        GoldenSetRow(
            number=golden.number,
            dataset=golden.dataset,
            digest=golden.digest,
            slices={"classes": list(golden.classes), "additions": list(golden.slices)},
        )
    )


def record_use(
    stores: Stores, number: int, model_version: int, purpose: str, model_name: str = "traffic-detector"
) -> int:
    """Count one use of the set to judge a model version; gives how often it has been used by now.

    Raises `NotFound` for a number that no set has.
    """
    if all(one.number != number for one in golden_sets(stores)):
        raise NotFound(f"There is no golden set {number}.", "`its dataset list` shows the set of each version.")
    with stores.database.session() as session:
        session.add(GoldenUseRow(golden=number, model_name=model_name, version=model_version, purpose=purpose))
        session.flush()
        return count_uses(session, number)


def count_uses(session: Session, number: int) -> int:
    counted = select(func.count()).select_from(GoldenUseRow).where(GoldenUseRow.golden == number)
    return int(session.execute(counted).scalar_one())


def golden_uses(stores: Stores, number: int) -> int:
    """How often the set has judged."""
    with stores.database.session() as session:
        return count_uses(session, number)


def _from_row(row: GoldenSetRow) -> GoldenSet:
    return GoldenSet(
        number=row.number,
        dataset=row.dataset,
        digest=row.digest,
        classes=tuple(row.slices.get("classes", ())),
        slices=tuple(row.slices.get("additions", ())),
        created_at=row.created_at,
    )
