"""`its model`: train, list, show, evaluate and export detectors, and their cards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from its_platform.cli.output import JsonFlag, emit, rows_table, say

if TYPE_CHECKING:
    from its_platform.model.scoring import Evaluation
    from its_platform.stores import Stores

app = typer.Typer(help="Training, export and evaluation.", no_args_is_help=True)


@app.command()
def train(
    dataset: Annotated[str | None, typer.Option(help="Dataset version, such as v1; the newest unless told.")] = None,
    weights: Annotated[Path | None, typer.Option(help="A .pt to start from; by default the settings' weights.")] = None,
    base_version: Annotated[int | None, typer.Option(help="Train on from this registered version.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1)] = None,
    size: Annotated[int | None, typer.Option(help="Side of the square input in pixels, a multiple of 32.")] = None,
    fresh: Annotated[bool, typer.Option(help="Train also where the same training is there already.")] = False,
    json: JsonFlag = False,
) -> None:
    """Train a detector on a dataset version, export, evaluate and register it."""
    from its_platform.errors import BadInput, NotFound
    from its_platform.model.registered import base_weights
    from its_platform.model.train import facts_of, train_candidate
    from its_platform.release import publish_card
    from its_platform.telemetry import terminal_progress
    from its_platform.weights import check_weights

    if size is not None and (size < 32 or size % 32):
        raise BadInput(f"The size {size} is not a multiple of 32.", "Take 320 or 640.")
    if weights is not None and base_version is not None:
        raise BadInput("A training starts from one set of weights.", "Give --weights or --base-version.")
    if weights is not None:
        check_weights(weights)
    stores = _stores()
    if dataset is None:
        from its_platform.dataset import latest

        newest = latest(stores)
        if newest is None:
            raise NotFound("There is no dataset version yet.", "Make one: its dataset build.")
        dataset = newest.name
    base = base_weights(stores, base_version) if base_version is not None else weights
    with terminal_progress() as progress:
        made = train_candidate(stores, dataset, progress, epochs, base, size, fresh)
    publish_card(stores, made.model_version.version)
    title = f"version {made.model_version.version}" + ("" if made.is_new else " (it was there already)")
    emit(facts_of(made), json, lambda: _slices(made.evaluation, title))


@app.command()
def register(
    weights: Annotated[Path, typer.Option(help="The detector's .pt.")],
    dataset: Annotated[str, typer.Option(help="Dataset version that it is judged on, such as v1.")],
    onnx: Annotated[Path | None, typer.Option(help="Its own export; one is made unless told.")] = None,
    json: JsonFlag = False,
) -> None:
    """Register a detector that was trained elsewhere: exported, compared and evaluated like any other."""
    from its_platform.model.train import facts_of, register_detector
    from its_platform.release import publish_card
    from its_platform.telemetry import terminal_progress

    stores = _stores()
    with terminal_progress() as progress:
        made = register_detector(stores, dataset, weights, onnx, progress)
    publish_card(stores, made.model_version.version)
    title = f"version {made.model_version.version}" + ("" if made.is_new else " (it was there already)")
    emit(facts_of(made), json, lambda: _slices(made.evaluation, title))


@app.command("list")
def list_(json: JsonFlag = False) -> None:
    """The registered versions, oldest first."""
    from its_platform.contract import size_text

    stores = _stores()
    aliases: dict[int, list[str]] = {}
    for alias, version in stores.registry.aliases().items():
        aliases.setdefault(version, []).append(alias)
    rows: list[dict[str, Any]] = [
        {
            "version": known.version,
            "semantic": known.semantic,
            "aliases": ", ".join(sorted(aliases.get(known.version, []))),
            "dataset": known.dataset_version,
            "family": known.family,
            "image_size": size_text(known.image_size),
            "format": known.format,
            "parity": known.tags.get("parity", ""),
            "digest": known.digest[:12],
        }
        for known in stores.registry.list()
    ]
    emit(rows, json, lambda: rows_table(rows, title="versions"))


@app.command()
def show(version: int, json: JsonFlag = False) -> None:
    """One version: where it comes from and its scores by slice."""
    from dataclasses import asdict

    from its_platform.model.registered import evaluation_of
    from its_platform.stores.registry import MODEL_NAME

    stores = _stores()
    known = stores.registry.get(MODEL_NAME, version)
    measured = evaluation_of(stores, version)
    facts = {**asdict(known), "slices": [asdict(score) for score in measured.slices]}
    emit(facts, json, lambda: _slices(measured, f"version {version}, dataset {known.dataset_version}"))
    if not json:
        say(f"Trace: its trace model:{version}")


@app.command()
def card(
    version: int,
    out: Annotated[Path | None, typer.Option(help="Write model_card.md and model_card.html into this folder.")] = None,
    json: JsonFlag = False,
) -> None:
    """The model card of a version, as things stand: what it is, data, scores, gates, limits, where it came from."""
    from its_platform.release import read_model_card, write_card
    from its_platform.release.card_pages import as_markdown

    made = read_model_card(_stores(), version)
    pages = write_card(made, out) if out is not None else []
    emit(
        {"card": made, "outcome": made.outcome, "limits": made.limits(), "pages": pages},
        json,
        lambda: _page(as_markdown(made)),
    )
    if not json:
        for path in pages:
            say(f"Written: {path}")


@app.command()
def evaluate(
    version: int,
    dataset: Annotated[str | None, typer.Option(help="Dataset version; the one it was trained on unless told.")] = None,
    json: JsonFlag = False,
) -> None:
    """Judge a version on the held-out frames of a dataset version."""
    from its_platform.model.evaluate import evaluate_version
    from its_platform.stores.registry import MODEL_NAME
    from its_platform.telemetry import terminal_progress

    stores = _stores()
    name = dataset or stores.registry.get(MODEL_NAME, version).dataset_version
    with terminal_progress() as progress:
        measured = evaluate_version(stores, version, name, progress)
    emit(measured.as_dict(), json, lambda: _slices(measured, f"version {version} on dataset {name}"))


@app.command()
def export(
    version: Annotated[int | None, typer.Argument(help="A registered version, to give it another format.")] = None,
    format_: Annotated[str | None, typer.Option("--format", help="auto, onnx-int8, openvino or tensorrt.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Instead of a version, the .pt of a detector.")] = None,
    out: Annotated[Path | None, typer.Option(help="The ONNX file to write of it.")] = None,
    size: Annotated[str, typer.Option(help="Of its input in pixels: 320, or width and height as 320x192.")] = "320",
    iou: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of the box choice inside.")] = 0.7,
    json: JsonFlag = False,
) -> None:
    """Register a version in another format, or write the ONNX file of a detector's weights."""
    from its_platform.errors import BadInput

    if version is not None and format_ is not None and weights is None and out is None:
        _export_version(version, format_, json)
    elif version is None and format_ is None and weights is not None and out is not None:
        _export_weights(weights, out, size, iou, json)
    else:
        raise BadInput(
            "An export begins with a version and --format, or with --weights and --out.",
            "Such as: its model export 3 --format onnx-int8",
        )


@app.command()
def formats(version: int, json: JsonFlag = False) -> None:
    """What is known of the formats of a version's weights: scores, cost of an image, which one is served, and why."""
    from dataclasses import asdict

    from its_platform.model.formats import choice_of, formats_of

    stores = _stores()
    rows = [asdict(one) for one in formats_of(stores, version)]
    chosen, why = choice_of(stores, version)
    emit({"formats": rows, "chosen": chosen, "why": why}, json, lambda: _formats(rows, version))
    if not json and why:
        say(why)
    if not json and not rows:
        say(f"Nothing was measured yet: its model export {version} --format auto")


@app.command()
def initial(
    out: Annotated[Path, typer.Option(help="The .pt to write.")],
    seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 0,
    json: JsonFlag = False,
) -> None:
    """Write an RT-DETR of random numbers, for the first training of that family: for YOLO there is the starter."""
    from its_platform.model.export import digest_of
    from its_platform.model.rtdetr_trainer import initial_weights
    from its_platform.settings import load_settings

    path = initial_weights(out, load_settings().classes, seed)
    emit({"out": str(path), "family": "rtdetr", "digest": digest_of(path)}, json)


@app.command()
def embedder(
    weights: Annotated[Path | None, typer.Option(help="A .pt; by default the starter checkpoint.")] = None,
    json: JsonFlag = False,
) -> None:
    """Make the frozen frame embedder that the front logs vectors with."""
    from json import loads

    from its_platform.model.embedder import export_embedder
    from its_platform.settings import load_settings

    path = export_embedder(load_settings(), weights)
    emit({"path": str(path), **loads(path.with_suffix(".json").read_text("utf-8"))}, json)


def _page(text: str) -> Any:
    from rich.markdown import Markdown

    return Markdown(text)


def _export_version(version: int, format_name: str, json: bool) -> None:
    from dataclasses import asdict

    from its_platform.model.formats import choose_format, export_format, formats_of
    from its_platform.release import publish_card
    from its_platform.telemetry import terminal_progress

    stores = _stores()
    with terminal_progress() as progress:
        if format_name == "auto":
            made = choose_format(stores, version, progress, wanted="auto").version
        else:
            made = export_format(stores, version, format_name, progress)
    publish_card(stores, made.version)
    rows = [asdict(one) for one in formats_of(stores, version)]
    facts = {"version": made.version, "format": made.format, "exported_from": version, "formats": rows}
    emit(facts, json, lambda: _formats(rows, version))
    if not json:
        say(f"Version {made.version} is {made.format}.")


def _export_weights(weights: Path, out: Path, size: str, iou: float, json: bool) -> None:
    from dataclasses import asdict

    from its_platform.contract import read_size
    from its_platform.errors import BadInput
    from its_platform.model.export import export_detector
    from its_platform.model.letterbox import shape_of

    try:
        wanted = read_size(size)
    except ValueError:
        wanted = 0
    if any(side < 32 or side % 32 for side in shape_of(wanted)):
        raise BadInput(f"The size {size} is not made of multiples of 32.", "Take 320, 640 or 320x192.")
    about = export_detector(weights, out, wanted, iou)
    emit({"out": str(out), **asdict(about)}, json)


def _formats(rows: list[dict[str, Any]], version: int) -> Any:
    shown = [
        {
            "format": row["format"],
            "version": row["version"] or "",
            "mAP50": round(row["map50"], 3),
            "AP50, any class": round(row["any_class_ap50"], 3),
            "parity": round(row["parity"], 3),
            "CPU ms an image": row["cpu_ms"],
            "not served because": row["objection"],
        }
        for row in rows
    ]
    return rows_table(shown, title=f"formats of version {version}")


def _slices(measured: Evaluation, title: str) -> Any:
    rows: list[dict[str, Any]] = [
        {
            "slice": score.slice,
            "boxes": score.boxes,
            "frames": score.frames,
            "mAP50": round(score.ap50, 3),
            "95 %": f"{score.ap50_low:.3f} to {score.ap50_high:.3f}",
            "mAP50-95": round(score.ap50_95, 3),
            "precision": round(score.precision, 3),
            "recall": round(score.recall, 3),
        }
        for score in measured.slices
        if score.class_name is None
    ]
    return rows_table(rows, title=title)


def _stores() -> Stores:
    from its_platform.settings import load_settings
    from its_platform.stores import open_stores

    return open_stores(load_settings())
