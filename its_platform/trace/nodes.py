"""Records become nodes: for each thing its ID and the facts that matter. Pure.

Which of them came of which is in `links`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from its_platform.dataset.splits import SPLITS
from its_platform.trace.graph import Mood, Node

if TYPE_CHECKING:
    from its_platform.labels.labelling import FrameLabels
    from its_platform.stores.registry import ModelVersion, TrainingRun
    from its_platform.stores.runs import DagsterRun
    from its_platform.trace.records import Records

SHORT = 12
_ENDED_WELL = {"SUCCESS", "FINISHED"}
_ENDED_BADLY = {"FAILURE", "FAILED", "KILLED", "CANCELED"}
_REFUSED = {"release_refused", "release_failed"}


def nodes_of(records: Records) -> Iterator[Node]:
    """Every node that the records hold."""
    yield from _footage(records)
    yield from _datasets(records)
    yield from (_training(run) for run in records.trainings)
    yield from (_run(run) for run in records.runs)
    yield from (_model(records, model) for model in records.models)
    yield from _releases(records)
    yield from _predictions(records)
    yield from _reports(records)
    yield from _decisions(records)


def tally_key(entry: Mapping[str, Any]) -> str:
    """The key of all predictions of one version, stage and purpose together."""
    return f"predictions:{entry['version']}/{entry['stage'] or 'by-version'}/{entry['purpose']}"


def labels_key(labels: FrameLabels) -> str:
    return f"labels:{labels.content[:SHORT]}/{labels.created_at:%Y%m%dT%H%M%S.%f}"


def _footage(records: Records) -> Iterator[Node]:
    for camera in records.cameras:
        facts: dict[str, Any] = {"source": camera.public_source, "site": camera.site or None}
        if records.traced == camera.camera_id:
            facts["frames"] = records.frames_there
        yield _node(f"camera:{camera.camera_id}", "camera", facts)
    known: dict[str, dict[str, Any]] = {}
    for contents in records.contents.values():
        known.update({row["frame_hash"]: row for row in contents.rows})
    # A frame's row of the index says more than that of a manifest.
    known.update({row["frame_hash"]: row for row in records.frames})
    for frame_hash, row in known.items():
        yield _frame(frame_hash, row, [r for r in records.frames if r["frame_hash"] == frame_hash])
    for labels in records.labellings:
        yield _node(
            labels_key(labels),
            "labels",
            {
                "boxes": dict(Counter(box.class_name for box in labels.boxes)) or "none",
                "origin": ", ".join(sorted({box.origin for box in labels.boxes})) or None,
                "review": "reviewed" if labels.is_reviewed else "not reviewed",
                "by": labels.source or None,
            },
            at=labels.created_at,
        )


def _frame(frame_hash: str, row: Mapping[str, Any], captures: list[dict[str, Any]]) -> Node:
    number, at = row.get("sequence"), moment(row.get("captured_at"))
    facts = {
        "camera": row["camera_id"],
        "captured": f"number {number}, at no known time" if is_there(number) else at,
        "light": row.get("light"),
        "weather": row.get("weather"),
        "size": f"{row['width']}x{row['height']}" if is_there(row.get("width")) else None,
        "source": row.get("source"),
        "ingested": moment(row.get("ingested_at")),
        "captures": len(captures) if len(captures) > 1 else None,
    }
    return _node(f"frame:{frame_hash}", "frame", facts, f"frame:{frame_hash[:SHORT]}", at)


def _datasets(records: Records) -> Iterator[Node]:
    for one in records.datasets:
        contents = records.contents.get(one.name)
        facts = {
            "digest": one.digest,
            "frames": {split: one.counts[split] for split in SPLITS if one.counts.get(split)},
            "cameras": contents.by_camera or None if contents else None,
            "golden": one.golden,
            "window": one.request.get("window"),
            "commit": one.commit,
        }
        yield _node(f"dataset:{one.name}", "dataset", facts, at=one.created_at)
    for golden in records.goldens:
        frames = sum(int(part.get("frames", 0)) for part in golden.slices)
        facts = {"frames": frames, "slices": ", ".join(golden.slice_names), "digest": golden.digest}
        yield _node(f"golden:{golden.number}", "golden", facts, at=golden.created_at)


def _training(run: TrainingRun) -> Node:
    facts = {
        "tool": "MLflow",
        "name": run.name,
        "status": run.status,
        "took_s": round((run.ended - run.started).total_seconds(), 1) if run.ended else None,
        "epochs": run.parameters.get("epochs"),
        "weights": run.parameters.get("base_weights"),
        "code": run.tags.get("code_commit"),
        "code_is_dirty": "with changes" if run.tags.get("code_is_dirty") == "true" else None,
    }
    return _node(f"run:{run.run_id}", "training", facts, f"run:{run.run_id[:SHORT]}", run.started, _ended(run.status))


def _run(run: DagsterRun) -> Node:
    facts = {
        "tool": "Dagster",
        "job": run.job,
        "status": run.status,
        "trigger": run.tags.get("its/trigger", "by hand"),
        "took_s": round((run.ended - run.started).total_seconds(), 1) if run.ended and run.started else None,
    }
    return _node(f"run:{run.run_id}", "run", facts, f"run:{run.run_id[:8]}", run.started, _ended(run.status))


def _model(records: Records, model: ModelVersion) -> Node:
    judgement = records.judgements.get(model.version)
    facts: dict[str, Any] = {
        "name": f"{model.name}/{model.version}",
        "digest": model.digest,
        "onnx_digest": model.onnx_digest,
        "weights_digest": model.weights_digest or None,
        "gates": "not judged",
    }
    mood: Mood = ""
    if judgement is not None:
        bad = [r.key for r in judgement.results if r.verdict in ("failed", "no_verdict")]
        passed = sum(r.verdict == "passed" for r in judgement.results)
        facts["gates"] = f"{passed} of {len(judgement.results)} passed" + (f", not {', '.join(bad)}" if bad else "")
        facts["against"] = f"model:{judgement.served}" if judgement.served is not None else "nothing served"
        mood = "bad" if bad else "good"
    waived = [f"{waiver.gate} by {waiver.by}" for waiver in records.waivers.get(model.version, ())]
    facts |= {"waived": ", ".join(waived) or None, "rejected": model.tags.get("rejected")}
    return _node(f"model:{model.version}", "model", facts, mood="bad" if facts["rejected"] else mood)


def _releases(records: Records) -> Iterator[Node]:
    for one in records.releases:
        facts = {
            "stage": one.stage,
            "version": one.version,
            "since": moment(one.since),
            "until": moment(one.until) or "now",
            "by": one.by,
            "why": one.why or None,
            "digest": one.digest,
            "endpoint": one.endpoint,
        }
        yield _node(f"release:{one.id}", "release", facts, at=one.since, mood="" if one.until else "good")


def _predictions(records: Records) -> Iterator[Node]:
    for entry in records.tally:
        facts = {name: entry[name] for name in ("purpose", "stage", "rows")}
        facts |= {"first": moment(entry["first"]), "last": moment(entry["last"])}
        yield _node(tally_key(entry), "predictions", facts, at=moment(entry["last"]))
    for row in records.predictions:
        facts = {
            "purpose": row["purpose"],
            "stage": row["stage"] or None,
            "version": int(row["version"]),
            "objects": int(row["n"]),
            "logged": moment(row["logged_at"]),
        }
        yield _node(f"prediction:{row['row_key']}", "prediction", facts, at=moment(row["at"]))


def _reports(records: Records) -> Iterator[Node]:
    moods: dict[str, Mood] = {"drifted": "bad", "stable": "good"}
    for one in records.reports:
        facts = {
            "verdict": one.verdict.replace("_", " "),
            "score": one.score,
            "rows": one.rows,
            "since": one.since,
            "until": one.until,
            "reference_rows": one.details.get("reference_rows"),
            "reason": one.reason,
        }
        yield _node(f"report:{one.id}", "report", facts, at=one.until, mood=moods.get(one.verdict, ""))


def _decisions(records: Records) -> Iterator[Node]:
    for one in records.decisions:
        facts = {
            "action": one.action.replace("_", " "),
            "at": moment(one.at),
            "stage": one.numbers.get("stage"),
            "reason": " ".join(str(reason) for reason in one.reasons),
            "window": one.numbers.get("window"),
            "key": one.numbers.get("key") or None,
        }
        mood: Mood = "bad" if one.action in _REFUSED else ""
        yield _node(f"decision:{one.id}", "decision", facts, at=one.at, mood=mood)


def _node(
    key: str, kind: str, facts: Mapping[str, Any], short: str = "", at: datetime | None = None, mood: Mood = ""
) -> Node:
    kept = {name: value for name, value in facts.items() if is_there(value)}
    return Node(key, kind, short or key, kept, moment(at), mood)


def _ended(status: str) -> Mood:
    return "good" if status in _ENDED_WELL else "bad" if status in _ENDED_BADLY else ""


def is_there(value: Any) -> bool:
    """Whether a cell holds something; pandas' NaN and NaT, unequal to themselves, do not."""
    return value is not None and bool(value == value)


def moment(value: Any) -> datetime | None:
    """A time as a plain datetime in UTC, whatever kind of time it came as."""
    if not is_there(value):
        return None
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if hasattr(value, "to_pydatetime"):
        value = value.to_pydatetime()
    found: datetime = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return found
