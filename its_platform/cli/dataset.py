"""`its dataset`: build, look at, push and check out dataset versions."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from its_platform.cli.output import JsonFlag, emit, rows_table, say

if TYPE_CHECKING:
    from its_platform.stores import Stores

app = typer.Typer(help="Immutable dataset versions.", no_args_is_help=True)


@app.command()
def build(
    classes: Annotated[str | None, typer.Option(help="Class names in order; by default the settings' classes.")] = None,
    cameras: Annotated[str | None, typer.Option(help="Camera ids, separated by commas; all unless told.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only frames captured from here on (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only frames captured before this (UTC).")] = None,
    previous: Annotated[str | None, typer.Option(help="Version to extend; `latest` names the newest.")] = None,
    window: Annotated[bool, typer.Option(help="Take since and until as a drifted window.")] = False,
    model_labels: Annotated[bool, typer.Option(help="Let unreviewed boxes of a model teach.")] = False,
    json: JsonFlag = False,
) -> None:
    """Make a dataset version of the frames that have reviewed labels, and push it.

    The same frames and labels give the version that is there already.
    """
    from its_platform.cli.labels import utc
    from its_platform.dataset import DatasetRequest, build_dataset, latest
    from its_platform.errors import BadInput
    from its_platform.telemetry import terminal_progress

    stores = _stores()
    for camera in _split(cameras):
        _check_camera(stores, camera)
    start, end = utc(since), utc(until)
    if window and (start is None or end is None):
        raise BadInput("A window has two ends.", "Give --since and --until.")
    if previous == "latest":
        newest = latest(stores)
        previous = newest.name if newest else None
    request = DatasetRequest(
        classes=_split(classes) or tuple(stores.settings.classes),
        cameras=_split(cameras) or None,
        since=None if window else start,
        until=None if window else end,
        previous=previous,
        window=(start, end) if window and start and end else None,
        judge_blocks=stores.settings.retraining.judge_blocks,
        include_model_labels=model_labels,
    )
    with terminal_progress() as progress:
        made = build_dataset(stores, request, progress)
    emit(made, json, lambda: _table(made))


@app.command("list")
def list_all(json: JsonFlag = False) -> None:
    """Every version, oldest first."""
    from its_platform.dataset import list_versions

    found = list_versions(_stores())
    rows = [
        {
            "name": one.name,
            "previous": one.previous,
            "golden": one.golden,
            "frames": one.counts,
            "classes": one.classes,
            "digest": one.digest[:12],
            "created_at": one.created_at,
        }
        for one in found
    ]
    emit(found if json else rows, json, lambda: rows_table(rows))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="For example v1, or latest.")] = "latest",
    picture: Annotated[Path | None, typer.Option(help="Write a summary picture (PNG) here.")] = None,
    sample: Annotated[Path | None, typer.Option(help="Write a sheet of sample frames with boxes (PNG) here.")] = None,
    json: JsonFlag = False,
) -> None:
    """A version's card: what is in which split, and what was left out."""
    import json as json_module

    from its_platform.dataset.golden import golden_uses
    from its_platform.dataset.manifest import CARD
    from its_platform.dataset.pictures import sample_sheet, summary
    from its_platform.dataset.versions import version_bytes

    stores = _stores()
    found = _version(stores, name)
    card: dict[str, Any] = json_module.loads(version_bytes(stores, found)[CARD])
    card["golden_uses"] = golden_uses(stores, found.golden) if found.golden else 0
    card["commit"] = found.commit
    if picture is not None:
        picture.write_bytes(summary(stores, found.name))
    if sample is not None:
        sample.write_bytes(sample_sheet(stores, found.name))
    emit(card, json, lambda: _table(card))
    if not json:
        say(f"Trace: its trace dataset:{found.name}")


@app.command()
def check(name: Annotated[str, typer.Argument()] = "latest", json: JsonFlag = False) -> None:
    """Run the dataset's expectations; exits with 1 when one is not met."""
    from its_platform.dataset.expectations import check_dataset

    stores = _stores()
    result = check_dataset(stores, _version(stores, name).name)
    emit(result, json)
    if not result.passed:
        raise typer.Exit(1)


@app.command()
def push(json: JsonFlag = False) -> None:
    """Push every version, and prove it by reading the remote."""
    from its_platform.settings import load_settings
    from its_platform.stores import versions as repository
    from its_platform.stores.data_remote import open_remote
    from its_platform.stores.journal import Journal

    settings = load_settings()
    with Journal(settings).step("dataset.pushed", open_remote(settings).name) as detail:
        detail["files_proved"] = repository.push(settings)
    emit(detail, json)


@app.command()
def pull(json: JsonFlag = False) -> None:
    """Take over every version of the remote, and prove that the object store has each of its frames."""
    from its_platform.dataset.pull import pull_versions
    from its_platform.telemetry import terminal_progress

    with terminal_progress() as progress:
        pulled = pull_versions(_stores(), progress)
    emit(pulled, json)


@app.command()
def checkout(
    name: Annotated[str, typer.Argument(help="For example v1, or latest.")],
    to: Annotated[Path, typer.Option(help="A new or empty folder.")],
    json: JsonFlag = False,
) -> None:
    """Fetch a version's manifest and card from the remote; asks no database."""
    from its_platform.settings import load_settings
    from its_platform.stores import versions as repository

    settings = load_settings()
    wanted = repository.pushed_versions(settings)[-1] if name == "latest" else name
    folder = repository.checkout(settings, wanted, to)
    emit({"folder": folder, "files": sorted(path.name for path in folder.iterdir())}, json)


@app.command()
def export(
    name: str, yolo: Annotated[Path, typer.Option("--yolo", help="Folder to write.")], json: JsonFlag = False
) -> None:
    """Write a version as a folder that a YOLO trainer reads; the golden set stays out."""
    from its_platform.dataset import load_manifest, materialise_yolo
    from its_platform.telemetry import terminal_progress

    stores = _stores()
    found = _version(stores, name)
    with terminal_progress() as progress:
        folder = materialise_yolo(stores, found, load_manifest(stores, found.name), yolo, progress)
    emit({"folder": folder, "data": folder / "data.yaml"}, json)


def _stores() -> Stores:
    from its_platform.settings import load_settings
    from its_platform.stores import open_stores

    return open_stores(load_settings())


def _version(stores: Stores, name: str) -> Any:
    from its_platform.dataset import latest, version
    from its_platform.errors import NotFound

    if name != "latest":
        return version(stores, name)
    newest = latest(stores)
    if newest is None:
        raise NotFound("There is no dataset version yet.", "`its dataset build` makes one.")
    return newest


def _check_camera(stores: Stores, camera: str) -> None:
    """Raise `NotFound` for a name that no camera has or ever had: the others alone would make another dataset."""
    from its_platform.cameras import get_camera
    from its_platform.errors import NotFound
    from its_platform.frames.index import FrameIndex

    try:
        get_camera(stores, camera)
    except NotFound:
        if FrameIndex(stores).query([camera], columns=["camera_id"]).empty:
            raise


def _split(names: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (names or "").split(",") if name.strip())


def _table(facts: Any) -> Any:
    """A card or a version: splits as columns, then the rest."""
    from rich.console import Group

    from its_platform.cli.output import plain

    data = plain(facts)
    figures = data.get("statistics") or {"frames": data["counts"], "boxes": data["boxes"]}
    splits = [{"split": "frames", **figures["frames"]}, {"split": "boxes", **figures["boxes"]}]
    for name in data["classes"] if "boxes_by_class" in figures else ():
        splits.append(
            {"split": f"boxes of {name}", **{s: n.get(name, 0) for s, n in figures["boxes_by_class"].items()}}
        )
    known = ("digest", "previous", "golden", "golden_uses", "licence", "commit", "created_at", "is_new", "left_out")
    rest = [{"fact": key, "value": data[key]} for key in known if key in data]
    return Group(
        rows_table(splits, ["split", "train", "val", "test", "golden"], title=f"Dataset {data['name']}"),
        rows_table(rest, ["fact", "value"]),
    )
