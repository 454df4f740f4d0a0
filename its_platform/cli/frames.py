"""`its frames`: footage into frames, and what is stored of it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from its_platform.cli.output import JsonFlag, emit, one_line, rows_table, say, say_warnings

if TYPE_CHECKING:
    from its_platform.stores import Stores

app = typer.Typer(help="Frames taken from footage.", no_args_is_help=True)

Since = Annotated[str | None, typer.Option(help="From this time on (ISO; UTC where no zone is named).")]
Until = Annotated[str | None, typer.Option(help="Before this time.")]

_LIST = ("camera", "captured_at", "frame", "light", "weather", "size")
_STATS = ("camera", "light", "weather", "frames", "brightness", "contrast", "noise", "frozen")
_INGEST = ("camera", "added", "known", "duplicates", "rejected", "frozen", "hidden")


@app.command()
def ingest(
    camera: Annotated[str | None, typer.Argument(help="The camera's name.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every enabled camera.")] = False,
    since: Since = None,
    until: Until = None,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="So long of a live stream. [default: till Ctrl-C; 60 with --all]")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Take in a camera's footage; again is fine, nothing is stored twice."""
    if (camera is None) == (not all_):
        raise typer.BadParameter("Name one camera, or pass --all.")
    earliest, latest = _time(since, "--since"), _time(until, "--until")
    from its_platform.cameras.registry import get_camera, list_cameras
    from its_platform.errors import ItsError
    from its_platform.frames.ingest import ingest as take_in
    from its_platform.frames.sources import WATCH_S, watched_until
    from its_platform.telemetry import terminal_progress

    stores = _stores()
    cameras = [get_camera(stores, camera)] if camera is not None else list_cameras(stores, enabled_only=True)
    watch_s = seconds or (WATCH_S if all_ else None)
    results, failures = [], []
    with terminal_progress() as progress:
        for one in cameras:
            name = one.camera_id
            try:
                results.append(take_in(stores, name, earliest, watched_until(one, latest, watch_s), progress))
            except ItsError as error:
                if camera is not None:
                    raise
                # The other cameras' footage is not to wait for this one.
                failures.append({"camera_id": name, "error": error.message, "hint": error.hint})
    rows = [_shown(asdict(result)) for result in results]
    facts = {"cameras": [*results], "failures": failures}
    emit(facts if all_ else results[0], json, lambda: rows_table(rows, _INGEST))
    for result in results:
        say_warnings(result.camera_id, result.warnings)
    for failure in failures:
        say(f"[red]{failure['camera_id']}[/]: {_plain(failure['error'])} {_plain(failure['hint'])}")
    if failures:
        raise typer.Exit(1)


@app.command("list")
def list_(
    camera: Annotated[list[str] | None, typer.Option(help="Only this camera; may be repeated.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the latest.")] = 50,
    json: JsonFlag = False,
) -> None:
    """The stored frames, the latest last."""
    from its_platform.frames.index import FrameIndex

    frames = FrameIndex(_stores()).query(camera or None, _time(since, "--since"), _time(until, "--until"))
    shown = frames.sort_values(["captured_at", "camera_id"]).tail(limit)
    shown = shown.astype(object).where(shown.notna(), None)
    rows = shown.to_dict("records")
    emit(rows, json, lambda: rows_table([_shown(row) for row in rows], _LIST))
    if len(frames) > limit and not json:
        say(f"{len(frames) - limit} earlier ones are not shown; pass --limit.")


@app.command()
def stats(since: Since = None, until: Until = None, json: JsonFlag = False) -> None:
    """How many frames there are by camera, light and weather, and their mean figures."""
    from its_platform.frames.index import FrameIndex

    rows = FrameIndex(_stores()).summary(_time(since, "--since"), _time(until, "--until"))
    emit(rows, json, lambda: rows_table([_shown(row) for row in rows], _STATS))


@app.command()
def show(
    frame_hash: Annotated[str, typer.Argument(help="The frame's hash, or its first characters.")],
    out: Annotated[Path | None, typer.Option(help="Write the picture here.")] = None,
    json: JsonFlag = False,
) -> None:
    """One frame, and its picture where --out is given."""
    from its_platform.frames.index import FrameIndex
    from its_platform.frames.ingest import load_jpeg

    stores = _stores()
    row = FrameIndex(stores).find(frame_hash)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(load_jpeg(stores, str(row["object_key"])))
        row["written"] = str(out)
    emit(row, json)


@app.command()
def sheet(
    out: Annotated[Path, typer.Option(help="Where to write the picture (PNG).")],
    camera: Annotated[list[str] | None, typer.Option("--camera", "-c", help="Only this camera; repeatable.")] = None,
    since: Since = None,
    until: Until = None,
    count: Annotated[int, typer.Option(min=1, max=200, help="How many frames, shared out over the cameras.")] = 12,
    labels: Annotated[bool, typer.Option("--labels", help="Draw the boxes in force; only labelled frames.")] = False,
    json: JsonFlag = False,
) -> None:
    """Frames on one picture, spread over the footage of each camera."""
    from its_platform.cameras import get_camera
    from its_platform.errors import NotFound
    from its_platform.frames.index import FrameIndex
    from its_platform.frames.pictures import frames_sheet
    from its_platform.labels.store import current_labels

    stores = _stores()
    for name in camera or ():
        get_camera(stores, name)
    frames = FrameIndex(stores).query(camera or None, _time(since, "--since"), _time(until, "--until"))
    boxes = {}
    if labels:
        current = current_labels(stores, set(frames["frame_hash"]))
        boxes = {name: [(*box.corners, box.class_name) for box in entry.boxes] for name, entry in current.items()}
        frames = frames[frames["frame_hash"].isin(boxes)]
    if not len(frames):
        raise NotFound("There is no such frame.", "`its frames stats` counts them; labels come by `its labels import`.")
    picture, shown = frames_sheet(stores, frames, count, boxes)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(picture)
    emit({"written": out, "frames": shown, "cameras": frames["camera_id"].nunique()}, json)


@app.command()
def check(
    since: Since = None,
    until: Until = None,
    all_: Annotated[bool, typer.Option("--all", help="Read every picture, not fifty of them.")] = False,
    json: JsonFlag = False,
) -> None:
    """Check the rows of the stored frames, and fifty of the pictures; exit code 1 where something is wrong."""
    from its_platform.frames.expectations import SAMPLE_OBJECTS, check_frames
    from its_platform.telemetry import terminal_progress

    start, end = _time(since, "--since"), _time(until, "--until")
    with terminal_progress() as progress:
        result = check_frames(_stores(), start, end, None if all_ else SAMPLE_OBJECTS, progress)
    emit(result, json)
    if not result.passed:
        raise typer.Exit(1)


@app.command()
def optimize(json: JsonFlag = False) -> None:
    """Put the index's small files together."""
    from its_platform.frames.index import FrameIndex

    emit(FrameIndex(_stores()).optimize(), json)


def _time(text: str | None, option: str) -> datetime | None:
    from datetime import UTC

    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time; write 2026-05-01T08:00:00.", param_hint=option) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _shown(row: dict[str, Any]) -> dict[str, object]:
    """A row as it fits a terminal: times to the second in UTC, the hash's beginning, the size in one word."""
    shown = {"camera": row["camera_id"], **row}
    for name in ("first", "last", "captured_at"):
        if row.get(name) is not None:
            shown[name] = f"{row[name]:%Y-%m-%d %H:%M:%S}"
    if "frame_hash" in row:
        shown["frame"] = row["frame_hash"][:12]
        shown["size"] = f"{row['width']}x{row['height']}"
    return shown


def _plain(text: object) -> str:
    from rich.markup import escape

    return escape(one_line(str(text)))


def _stores() -> Stores:
    from its_platform.settings import load_settings
    from its_platform.stores import open_stores

    return open_stores(load_settings())
