"""`its labels`: import, make, review, list and export labels."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from its_platform.cli.output import JsonFlag, emit, one_line, rows_table, say

if TYPE_CHECKING:
    import pandas as pd

    from its_platform.labels import LabelResult
    from its_platform.stores import Stores

app = typer.Typer(help="Boxes, who drew them and who reviewed them.", no_args_is_help=True)


class Format(StrEnum):
    yolo = "yolo"
    coco = "coco"


Cameras = Annotated[list[str] | None, typer.Option("--camera", "-c", help="Only frames of this camera; repeatable.")]
Since = Annotated[datetime | None, typer.Option(help="Only frames captured from here on (UTC).")]
Until = Annotated[datetime | None, typer.Option(help="Only frames captured before this (UTC).")]
Classes = Annotated[str | None, typer.Option(help="Class names in order, separated by commas.")]
Mapping = Annotated[list[str] | None, typer.Option("--map", help="Rename a class: old=new; repeatable.")]
SHOWN_REFUSALS = 20


@app.command("import")
def import_labels(
    form: Annotated[Format, typer.Argument(metavar="yolo|coco")],
    source: Annotated[Path, typer.Argument(help="A folder with labels/ or train/labels/ (YOLO), a JSON file (COCO).")],
    camera: Cameras = None,
    classes: Annotated[str | None, typer.Option(help="YOLO's class names in order, separated by commas.")] = None,
    mapping: Mapping = None,
    drop: Annotated[list[str] | None, typer.Option(help="Leave the boxes of this class out; repeatable.")] = None,
    images: Annotated[Path | None, typer.Option(help="Where a COCO file's pictures lie, if not beside it.")] = None,
    unreviewed: Annotated[bool, typer.Option("--unreviewed", help="Nobody has checked these labels yet.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be taken, and take nothing.")] = False,
    json: JsonFlag = False,
) -> None:
    """Take labels of frames that are stored; each one that cannot be used is listed and kept out.

    Exits with 1 when something was refused.
    """
    from its_platform.labels.formats import read_coco, read_yolo, yolo_classes
    from its_platform.labels.labelling import check_class_names, read_mapping, rename_classes
    from its_platform.labels.store import add_labels, current_labels

    if form is Format.coco and classes is not None:
        raise typer.BadParameter("A COCO file names its classes itself; --map renames them, --drop leaves one out.")
    if form is Format.yolo and images is not None:
        raise typer.BadParameter("--images goes with a COCO file; YOLO's pictures lie in images/ beside labels/.")
    stores = _stores()
    renamed, dropped = read_mapping(mapping or []), set(drop or [])
    review = "unreviewed" if unreviewed else "reviewed"
    frames = _frames(stores, camera)
    hashes = set(frames["frame_hash"])
    elsewhere = set(_frames(stores, None)["frame_hash"]) - hashes if camera else set()
    if form is Format.yolo:
        names = _split(classes) or yolo_classes(source)
        read = read_yolo(source, names, frames, review=review, elsewhere=elsewhere)  # type: ignore[arg-type]
    else:
        read = read_coco(source, frames, review=review, images_in=images, elsewhere=elsewhere)  # type: ignore[arg-type]
        names = tuple(dict.fromkeys(name for entry in read.labels for name in entry.classes))
    if read.labels:
        check_class_names([*renamed, *sorted(dropped)], names)
    labels = [rename_classes(entry, renamed, dropped) for entry in read.labels]
    result = add_labels(stores, labels, is_rehearsal=dry_run).with_refusals(read.refused)
    taken = {entry.frame_hash for entry in labels} - {refusal.frame for refusal in result.refused}
    without = len(hashes) - len(taken | set(current_labels(stores, hashes)))
    facts = {"empty_frames": sum(not entry.boxes for entry in labels), "frames_without_labels": without}
    _report(result, json, {**facts, **({"dry_run": True} if dry_run else {})})


@app.command("auto")
def auto(
    weights: Annotated[Path, typer.Option(help="Ultralytics weights, .pt or .onnx.")],
    camera: Cameras = None,
    since: Since = None,
    until: Until = None,
    confidence: Annotated[float, typer.Option(min=0, max=1, help="Boxes below this are dropped.")] = 0.4,
    size: Annotated[int, typer.Option(min=32, help="Picture size that the detector works at.")] = 640,
    mapping: Mapping = None,
    every: Annotated[bool, typer.Option("--all", help="Also frames that have labels already.")] = False,
    json: JsonFlag = False,
) -> None:
    """Label frames with a detector: boxes of origin `model`, unreviewed, which never judge."""
    import hashlib

    from its_platform.frames.erasure import without_erased
    from its_platform.labels.auto import auto_label, ultralytics_detector
    from its_platform.labels.labelling import read_mapping
    from its_platform.labels.store import current_labels
    from its_platform.telemetry import terminal_progress
    from its_platform.weights import check_weights

    check_weights(weights, (".pt", ".onnx"))
    stores = _stores()
    frames, _ = without_erased(stores, _frames(stores, camera, since, until))
    hashes = list(dict.fromkeys(frames["frame_hash"]))
    if not every:
        labelled = current_labels(stores, hashes)
        hashes = [frame_hash for frame_hash in hashes if frame_hash not in labelled]
    detect, names = ultralytics_detector(weights, size)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    with terminal_progress() as progress:
        result = auto_label(
            stores,
            hashes,
            detect,
            names,
            confidence,
            source=f"{weights.name}@{digest}",
            mapping=read_mapping(mapping or []),
            progress=progress,
        )
    _report(result, json)


@app.command()
def review(
    camera: Cameras = None,
    since: Since = None,
    until: Until = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Only a random sample of this many frames of the window.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Have the simulated reviewer label frames of simulated cameras with the world's truth."""
    from its_platform.dataset.sampling import sample_frames
    from its_platform.labels.review import review_simulated
    from its_platform.telemetry import terminal_progress

    stores = _stores()
    frames = _frames(stores, camera, since, until)
    hashes = list(dict.fromkeys(frames["frame_hash"]))
    if sample is not None:
        hashes = sample_frames(frames, sample, stores.settings.dataset)
    with terminal_progress() as progress:
        _report(review_simulated(stores, hashes, progress=progress), json)


@app.command("list")
def list_labels(
    camera: Cameras = None, since: Since = None, until: Until = None, limit: int = 50, json: JsonFlag = False
) -> None:
    """The labelling in force of each frame, newest frames first."""
    from collections import Counter

    from its_platform.labels.store import current_labels

    stores = _stores()
    frames = _frames(stores, camera, since, until).sort_values("captured_at", ascending=False)
    current = current_labels(stores, set(frames["frame_hash"]))
    rows: list[dict[str, Any]] = []
    for frame in frames.drop_duplicates("frame_hash").itertuples():
        entry = current.get(str(frame.frame_hash))
        if entry is None or len(rows) >= limit:
            continue
        rows.append(
            {
                "frame": entry.frame_hash if json else entry.frame_hash[:12],
                "camera": frame.camera_id,
                "captured_at": frame.captured_at,
                "boxes": dict(Counter(box.class_name for box in entry.boxes)),
                "origin": sorted({box.origin for box in entry.boxes}),
                "is_reviewed": entry.is_reviewed,
                "source": entry.source,
            }
        )
    emit(rows, json, lambda: rows_table(rows, title=f"{len(current)} labelled frames"))


@app.command()
def stats(camera: Cameras = None, since: Since = None, until: Until = None, json: JsonFlag = False) -> None:
    """Counts of labelled frames and boxes by class, origin and review."""
    from its_platform.labels.store import label_statistics

    stores = _stores()
    selected = None
    if camera or since or until:
        selected = set(_frames(stores, camera, since, until)["frame_hash"])
    emit(label_statistics(stores, selected), json)


@app.command()
def export(
    form: Annotated[Format, typer.Argument(metavar="yolo|coco")],
    target: Annotated[Path, typer.Argument(help="A new folder (YOLO) or a JSON file (COCO).")],
    camera: Cameras = None,
    classes: Classes = None,
    images: Annotated[bool, typer.Option("--images", help="Write the pictures too.")] = False,
    reviewed: Annotated[bool, typer.Option("--reviewed", help="Only labellings that were reviewed.")] = False,
    json: JsonFlag = False,
) -> None:
    """Write the labels in force as files, for a labelling tool or a trainer."""
    from its_platform.frames import load_jpeg
    from its_platform.frames.erasure import object_keys, without_erased
    from its_platform.labels.formats import write_coco, write_yolo
    from its_platform.labels.labelling import check_looked_for
    from its_platform.labels.matching import names_of
    from its_platform.labels.store import current_labels

    stores = _stores()
    frames = without_erased(stores, _frames(stores, camera))[0].drop_duplicates("frame_hash")
    current = current_labels(stores, set(frames["frame_hash"]), reviewed_only=reviewed)
    labels = [current[h] for h in frames["frame_hash"] if h in current]
    names = _split(classes) or tuple(dict.fromkeys(name for entry in labels for name in entry.classes))
    check_looked_for(labels, names)
    write = write_yolo if form is Format.yolo else write_coco
    written = write(target, labels, names, frames)
    if images:
        folder = (target if form is Format.yolo else target.parent) / "images"
        folder.mkdir(parents=True, exist_ok=True)
        names_by_hash = names_of(frames, [entry.frame_hash for entry in labels])
        keys = object_keys(stores, names_by_hash)
        for frame_hash, name in names_by_hash.items():
            (folder / f"{name}.jpg").write_bytes(load_jpeg(stores, keys[frame_hash]))
    emit({"frames": written, "classes": names, "path": target}, json)


def _stores() -> Stores:
    from its_platform.settings import load_settings
    from its_platform.stores import open_stores

    return open_stores(load_settings())


def _frames(
    stores: Stores, cameras: list[str] | None, since: datetime | None = None, until: datetime | None = None
) -> pd.DataFrame:
    from its_platform.cameras import get_camera
    from its_platform.frames.index import FrameIndex

    for camera in cameras or ():
        get_camera(stores, camera)
    return FrameIndex(stores).query(cameras=cameras or None, since=utc(since), until=utc(until))


def utc(moment: datetime | None) -> datetime | None:
    """A time from the command line, which is UTC unless it says otherwise."""
    from datetime import UTC

    return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _split(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())


def _report(result: LabelResult, json: bool, more: dict[str, object] | None = None) -> None:
    facts = {
        "added": result.added,
        "unchanged": result.unchanged,
        "refused": len(result.refused),
        "boxes": result.boxes,
        **(more or {}),
    }
    from rich.markup import escape

    from its_platform.labels.matching import NO_FRAME

    if json:
        emit({**facts, "refused": result.refused}, True)
    else:
        emit(facts)
        for refusal in result.refused[:SHOWN_REFUSALS]:
            say(f"kept out: {escape(one_line(str(refusal)))}")
        if len(result.refused) > SHOWN_REFUSALS:
            say(f"and {len(result.refused) - SHOWN_REFUSALS} more; --json lists them all.")
        if result.refused and all(refusal.reason == NO_FRAME for refusal in result.refused):
            say("The pictures of these labels are not stored: is it this --camera, and was `its frames ingest` run?")
    if result.refused:
        raise typer.Exit(1)
