"""Records become a graph: what came of what, and what one would look for and is not there. Pure.

Each link rests on something that was written when it came about: a tag, a row, a digest, a time. None is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from its_platform.model.origin import DAGSTER_TAG, EXPORTED_FROM
from its_platform.stores.runs import DECISION_TAG, MADE_BY
from its_platform.trace.graph import Direction, Graph, Link, Node
from its_platform.trace.nodes import is_there, labels_key, moment, nodes_of, tally_key

if TYPE_CHECKING:
    from its_platform.stores.runs import DagsterRun
    from its_platform.trace.records import Records

INGEST = "ingest"
# So many characters of the cameras' names does the sensor put into the tag of a run.
_TAG_LENGTH = 250
_ROLES = {"train": "teaches", "val": "tunes", "test": "judges (test)", "golden": "judges (golden)"}
# The front logs an answer a moment before a release's row is written, once it was seen to be right.
_SLACK = timedelta(seconds=60)

Missing = dict[tuple[str, Direction], tuple[str, ...]]


def graph_of(records: Records) -> Graph:
    """All that is known, as nodes and links; how many frames there are where only a few of them are nodes."""
    nodes = {node.key: node for node in nodes_of(records)}
    links = tuple(dict.fromkeys(link for link in _links(records) if link.above in nodes and link.below in nodes))
    counted: dict[tuple[str, Direction, str], int] = {
        (f"dataset:{name}", "above", "frame"): sum(contents.by_camera.values())
        for name, contents in records.contents.items()
    }
    for kind in ("camera", "run"):
        counted[f"{kind}:{records.traced}", "below", "frame"] = records.frames_there
    return Graph(nodes, links, counted, _missing(records, nodes, links))


def _links(records: Records) -> Iterator[Link]:
    yield from _of_frames(records)
    yield from _of_datasets(records)
    yield from _of_models(records)
    yield from _of_predictions(records)
    yield from _of_decisions(records)


def _of_frames(records: Records) -> Iterator[Link]:
    for row in records.frames:
        yield Link(f"camera:{row['camera_id']}", f"frame:{row['frame_hash']}")
        for run in records.runs:
            if run.job == INGEST and has_taken_in(run, row):
                yield Link(f"run:{run.run_id}", f"frame:{row['frame_hash']}", "taken in")
    for labels in records.labellings:
        yield Link(f"frame:{labels.frame_hash}", labels_key(labels))
    for name, contents in records.contents.items():
        for row in contents.rows:
            yield Link(f"camera:{row['camera_id']}", f"frame:{row['frame_hash']}")
            yield Link(f"frame:{row['frame_hash']}", f"dataset:{name}", _ROLES[row["split"]])
        if records.traced in contents.by_camera:
            yield Link(f"camera:{records.traced}", f"dataset:{name}", f"{contents.by_camera[records.traced]} frames")


def has_taken_in(run: DagsterRun, row: Mapping[str, Any]) -> bool:
    """Whether a row of the index was added while this ingest ran, of one of its cameras."""
    at = moment(row.get("ingested_at"))
    if at is None or run.started is None or not run.started <= at <= (run.ended or at):
        return False
    cameras = run.tags.get("its/cameras", "")
    # One that a person started names none and takes all; a long list is cut off.
    return not cameras or len(cameras) >= _TAG_LENGTH or row["camera_id"] in cameras.split(",")


def _of_datasets(records: Records) -> Iterator[Link]:
    for one in records.datasets:
        key = f"dataset:{one.name}"
        if one.previous:
            yield Link(f"dataset:{one.previous}", key, "extended")
        if run := one.request.get("dagster_run"):
            yield Link(f"run:{run}", key)
    is_frame_traced = bool(records.frames) and not records.frames_there
    holding = {
        name
        for name, contents in records.contents.items()
        if any(row["frame_hash"] == records.traced and row["split"] == "golden" for row in contents.rows)
    }
    for golden in records.goldens:
        # A frame that only teaches judges nothing: from it no way leads to the golden set of its dataset.
        if not is_frame_traced or golden.dataset in holding:
            yield Link(f"dataset:{golden.dataset}", f"golden:{golden.number}")
    for use in records.uses:
        yield Link(
            f"golden:{use.golden}", f"model:{use.version}", f"judged, {use.uses} times" if use.uses > 1 else "judged"
        )


def _of_models(records: Records) -> Iterator[Link]:
    trained = {
        model.weights_digest: model.version
        for model in records.models
        if model.weights_digest and EXPORTED_FROM not in model.tags
    }
    for run in records.trainings:
        key = f"run:{run.run_id}"
        yield Link(f"dataset:{run.tags.get('dataset_version')}", key)
        yield Link(f"run:{run.tags.get(DAGSTER_TAG)}", key)
        base = trained.get(run.tags.get("base_weights_digest", ""))
        if base is not None:
            yield Link(f"model:{base}", key, "trained on from")
        if EXPORTED_FROM in run.tags:
            yield Link(f"model:{run.tags[EXPORTED_FROM]}", key, "exported from")
    for model in records.models:
        yield Link(f"run:{model.run_id}", f"model:{model.version}")
    for release in records.releases:
        yield Link(f"model:{release.version}", f"release:{release.id}")
        yield Link(f"run:{release.evidence.get(MADE_BY)}", f"release:{release.id}")


def _of_predictions(records: Records) -> Iterator[Link]:
    for entry in records.tally:
        key = tally_key(entry)
        for release in _that_answered(records, entry, entry["logged_first"], entry["logged_last"]):
            yield Link(release, key)
    for report in records.reports:
        yield Link(f"run:{report.details.get(MADE_BY)}", f"report:{report.id}")
        sides = [(e, e["purpose"]) for e in records.tally if int(e["version"]) == report.model_version]
        for entry, purpose in sides:
            if purpose in ("live", "reference"):
                how = "compared with" if purpose == "reference" else f"{report.rows} rows in its window"
                yield Link(tally_key(entry), f"report:{report.id}", how)
        if not any(purpose == "live" for _, purpose in sides):
            yield Link(f"model:{report.model_version}", f"report:{report.id}")
    yield from _of_single_predictions(records)


def _of_single_predictions(records: Records) -> Iterator[Link]:
    """Rows of the log about the traced frame, and the reports that counted them or whose window it was captured in."""
    frame = f"frame:{records.traced}"
    counted: set[str] = set()
    for row in records.predictions:
        key, at = f"prediction:{row['row_key']}", moment(row["at"])
        yield Link(frame, key)
        for release in _that_answered(records, row, row["logged_at"], row["logged_at"]):
            yield Link(release, key)
        for report in records.reports:
            if report.model_version != int(row["version"]) or at is None:
                continue
            if row["purpose"] == "reference":
                yield Link(key, f"report:{report.id}", "compared with")
            elif row["purpose"] == "live" and report.since <= at < report.until:
                counted.add(report.id)
                yield Link(key, f"report:{report.id}", "in its window")
    for row in records.frames:
        at = None if is_there(row.get("sequence")) else moment(row["captured_at"])
        if at is None or row["frame_hash"] != records.traced:
            continue
        for report in records.reports:
            if report.id not in counted and report.since <= at < report.until:
                yield Link(frame, f"report:{report.id}", "captured in its window, not asked about")


def _that_answered(records: Records, row: Mapping[str, Any], first: Any, last: Any) -> Iterator[str]:
    """The releases that were served while these answers were logged."""
    begin, end = moment(first), moment(last)
    if begin is None or end is None:
        return
    for release in records.releases:
        is_same = release.version == int(row["version"]) and release.stage == row["stage"]
        since = release.since.astimezone(UTC) - _SLACK
        until = (release.until or datetime.max.replace(tzinfo=UTC)).astimezone(UTC)
        if is_same and since <= end and begin <= until:
            yield f"release:{release.id}"


def _of_decisions(records: Records) -> Iterator[Link]:
    started = {run.run_id: run.tags[DECISION_TAG] for run in records.runs if DECISION_TAG in run.tags}
    first: dict[str, int] = {}
    for decision in records.decisions:
        key = f"decision:{decision.id}"
        if decision.report_id:
            yield Link(f"report:{decision.report_id}", key)
        if "version" in decision.numbers and "stage" in decision.numbers:
            yield Link(f"model:{decision.numbers['version']}", key)
        yield Link(f"run:{decision.numbers.get(MADE_BY)}", key)
        if decision.run_id:
            yield Link(key, f"run:{decision.run_id}", "started")
        if decision.numbers.get("key"):
            first.setdefault(str(decision.numbers["key"]), decision.id)
    named = {decision.run_id for decision in records.decisions}
    for run_id, wanted in started.items():
        if run_id not in named and wanted in first:
            yield Link(f"decision:{first[wanted]}", f"run:{run_id}", "started")


# Kind, direction, the kinds of which one is looked for there, and what to say where there is none.
_EXPECTED: tuple[tuple[str, Direction, tuple[str, ...], str], ...] = (
    ("frame", "above", ("camera",), "its camera is no longer registered"),
    ("frame", "below", ("labels",), "no labels yet"),
    ("frame", "below", ("dataset",), "in no dataset version yet"),
    ("frame", "below", ("prediction",), "no predictions logged about it"),
    ("dataset", "above", ("run",), "no Dagster run: built by command"),
    ("dataset", "below", ("training",), "nothing was trained on it yet"),
    ("training", "above", ("dataset",), "its dataset version is not recorded"),
    ("training", "above", ("run",), "no Dagster run: trained by command"),
    ("training", "below", ("model",), "no version was registered"),
    ("model", "above", ("training",), "its MLflow run is gone"),
    ("model", "below", ("release",), "never served"),
    ("release", "above", ("model",), "its version is no longer in the registry"),
    ("release", "below", ("predictions",), "no predictions logged yet"),
    ("predictions", "below", ("report",), "no drift report yet"),
    ("report", "below", ("decision",), "no decision names it"),
    ("run", "above", ("decision",), "no decision: started by hand"),
    ("decision", "below", ("run",), "no run started yet"),
    ("decision", "above", ("report",), "no drift report: nothing was served"),
)
# By job: what is looked for below a run of it, and what to say where there is none.
_LEFT_BY: dict[Any, tuple[tuple[str, ...], str]] = {
    INGEST: (("frame",), "took in no frames"),
    "learn": (("dataset", "training"), "left no dataset and no training"),
    "release": (("release",), "changed nothing that is served"),
    "watch": (("report",), "made no drift report"),
    "reconcile": (("release", "decision"), "changed nothing that is served, refused nothing new"),
    "canary": (("release", "decision"), "came to no new verdict"),
    "experiment": ((), "looked at an experiment (`its experiment status`)"),
    "marts": ((), "built the marts of all that is there (`its monitor marts`)"),
}


def _missing(records: Records, nodes: Mapping[str, Node], links: tuple[Link, ...]) -> Missing:
    there = {(link.above, "below", nodes[link.below].kind) for link in links}
    there |= {(link.below, "above", nodes[link.above].kind) for link in links}
    found: Missing = {}
    for node in nodes.values():
        for kind, direction, wanted, what in _EXPECTED:
            if kind != node.kind or not _is_expected(records, node, direction, wanted):
                continue
            if not any((node.key, direction, one) in there for one in wanted):
                found[node.key, direction] = (*found.get((node.key, direction), ()), what)
        if node.kind == "run" and node.facts["job"] in _LEFT_BY:
            wanted, what = _LEFT_BY[node.facts["job"]]
            if not any((node.key, "below", one) in there for one in wanted):
                found[node.key, "below"] = (what,)
    return found


def _is_expected(records: Records, node: Node, direction: Direction, wanted: tuple[str, ...]) -> bool:
    """Whether such a neighbour could be there at all."""
    if node.kind == "frame" and direction == "below":
        # Of a dataset's other frames the labels and predictions were not read.
        return node.key == f"frame:{records.traced}"
    if node.kind == "run":
        return node.facts["job"] == "learn"
    if node.kind == "decision":
        return node.facts["action"] in (("retrain", "train first") if direction == "below" else ("train first",))
    if node.kind == "predictions":
        return node.facts["purpose"] == "live"
    return True
