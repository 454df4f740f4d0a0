"""The stores become records: read only, and whole. A store that cannot be read raises; it never leaves a gap.

Enters: the stores, and for the second look the node that was asked for. What the records mean for each other is in
`links`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from its_platform.notifications import NOT_TOLD, TOLD
from its_platform.stores.schema import DecisionRow, GoldenUseRow
from its_platform.trace.links import INGEST, has_taken_in
from its_platform.trace.naming import beginning_of_hash
from its_platform.trace.records import Contents, GoldenUse, RecordedDecision, Records

if TYPE_CHECKING:
    from its_platform.stores import Stores
    from its_platform.stores.runs import DagsterRun

SAMPLED_SPLITS = ("train", "val", "golden")
NAMED_FRAMES = 3


def read_records(stores: Stores) -> Records:
    """Everything but frames and their labels, of which there may be millions."""
    from its_platform.cameras import list_cameras
    from its_platform.dataset.golden import golden_sets
    from its_platform.dataset.versions import list_versions
    from its_platform.monitoring.predictions import tally
    from its_platform.monitoring.reports import list_reports
    from its_platform.release import history, latest_judgement, waivers
    from its_platform.stores.runs import dagster_runs

    models = tuple(stores.registry.list())
    judged = {model.version: latest_judgement(stores, model.version) for model in models}
    return Records(
        cameras=tuple(list_cameras(stores)),
        datasets=tuple(list_versions(stores)),
        goldens=tuple(golden_sets(stores)),
        uses=tuple(_uses(stores)),
        trainings=tuple(stores.registry.runs()),
        runs=tuple(dagster_runs(stores.settings)),
        models=models,
        judgements={version: judgement for version, judgement in judged.items() if judgement is not None},
        waivers={model.version: waivers(stores, model.version) for model in models},
        releases=tuple(history(stores)),
        tally=tuple(tally(stores)),
        reports=tuple(list_reports(stores)),
        decisions=tuple(_decisions(stores)),
    )


def hashes_for(stores: Stores, name: str) -> list[str]:
    """Hashes of the frames that a name may mean. Raises `BadInput` for a `frame:` with too little of a hash."""
    from its_platform.frames.index import FrameIndex

    start = beginning_of_hash(name)
    return FrameIndex(stores).beginning(start) if start else []


def read_start(stores: Stores, records: Records, start: str) -> Records:
    """The records with what is asked for besides where the start is a frame, a camera or a run that took frames in."""
    kind, _, value = start.partition(":")
    if kind == "frame":
        return _read_frame(stores, replace(records, traced=value), value)
    if kind == "camera":
        return _read_camera(stores, replace(records, traced=value), value)
    if kind == "run":
        for run in records.runs:
            if run.run_id == value and run.job == INGEST:
                return _read_ingest(stores, replace(records, traced=value), run)
    return records


def read_contents(stores: Stores, records: Records, datasets: Collection[str]) -> Records:
    """The records with a few frames of each of these datasets, and its frames by camera."""
    from its_platform.dataset.manifest import MANIFEST, read_rows
    from its_platform.dataset.versions import version_bytes

    found = dict(records.contents)
    for one in records.datasets:
        if one.name in datasets and one.name not in found:
            rows = read_rows(version_bytes(stores, one)[MANIFEST])
            firsts = {row["split"]: row for row in reversed(rows)}
            sample = tuple(firsts[split] for split in SAMPLED_SPLITS if split in firsts)
            found[one.name] = Contents(sample, dict(Counter(row["camera_id"] for row in rows)))
    return replace(records, contents=found)


def _read_frame(stores: Stores, records: Records, frame_hash: str) -> Records:
    from its_platform.frames.index import FrameIndex
    from its_platform.labels.store import label_history

    frames = tuple(FrameIndex(stores).query(hashes=[frame_hash]).to_dict("records"))
    return replace(
        records,
        frames=frames,
        labellings=tuple(label_history(stores, frame_hash)),
        contents=dict(_holding(stores, records, frame_hash)),
        predictions=tuple(_predictions_about(stores, frames)),
    )


def _holding(stores: Stores, records: Records, frame_hash: str) -> Iterator[tuple[str, Contents]]:
    """The datasets that hold a frame, with its row alone: the others of a manifest need not even be parsed."""
    from its_platform.dataset.manifest import MANIFEST
    from its_platform.dataset.versions import version_bytes

    sign = f'"frame_hash":"{frame_hash}"'.encode()
    for one in records.datasets:
        lines = [line for line in version_bytes(stores, one)[MANIFEST].splitlines() if sign in line]
        if lines:
            yield one.name, Contents(tuple(json.loads(line) for line in lines), {})


def _predictions_about(stores: Stores, frames: Collection[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of the log about these very frames: the same camera, the same moment of capture."""
    from its_platform.monitoring.predictions import query

    columns = ["row_key", "at", "logged_at", "camera_id", "version", "stage", "purpose", "n"]
    for row in frames:
        at = row["captured_at"].to_pydatetime()
        until = at + timedelta(microseconds=1)
        yield from query(stores, at, until, [row["camera_id"]], columns=columns).to_dict("records")


def _read_camera(stores: Stores, records: Records, camera_id: str) -> Records:
    from its_platform.frames.index import FrameIndex

    columns = ["camera_id", "captured_at", "frame_hash", "sequence", "width", "height", "light", "weather", "source"]
    rows = FrameIndex(stores).query(cameras=[camera_id], columns=columns)
    everything = {one.name for one in records.datasets}
    return replace(
        read_contents(stores, records, everything),
        frames=tuple(rows.tail(NAMED_FRAMES).to_dict("records")),
        frames_there=len(rows),
    )


def _read_ingest(stores: Stores, records: Records, run: DagsterRun) -> Records:
    from its_platform.frames.index import FrameIndex

    index = FrameIndex(stores)
    rows = index.query(columns=["camera_id", "frame_hash", "ingested_at"])
    rows = rows[rows["ingested_at"].between(run.started or datetime.now(UTC), run.ended or datetime.now(UTC))]
    taken = [row for row in rows.to_dict("records") if has_taken_in(run, row)]
    named = index.query(hashes=[row["frame_hash"] for row in taken[-NAMED_FRAMES:]])
    return replace(records, frames=tuple(named.to_dict("records")), frames_there=len(taken))


def _uses(stores: Stores) -> Iterator[GoldenUse]:
    by = (GoldenUseRow.golden, GoldenUseRow.version)
    with stores.database.session() as session:
        for golden, version, uses in session.execute(sa.select(*by, sa.func.count()).group_by(*by).order_by(*by)):
            yield GoldenUse(golden, version, uses)


def _decisions(stores: Stores) -> Iterator[RecordedDecision]:
    with stores.database.session() as session:
        # Who was told of a decision leads nowhere.
        decided = sa.select(DecisionRow).where(DecisionRow.action.not_in((TOLD, NOT_TOLD)))
        for row in session.scalars(decided.order_by(DecisionRow.id)):
            yield RecordedDecision(
                row.id, row.at, row.action, list(row.reasons), dict(row.numbers), row.report_id, row.run_id
            )
