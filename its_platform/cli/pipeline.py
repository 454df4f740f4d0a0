"""`its pipeline`: the stages of dvc.yaml, each of which `dvc repro` calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from its_platform.cli.output import JsonFlag, emit

if TYPE_CHECKING:
    from its_platform.model.pipeline import Pipeline

app = typer.Typer(
    help="The stages of dvc.yaml: files in `pipeline/`, parameters from params.yaml, no server.", no_args_is_help=True
)


@app.command()
def params(version: int, json: JsonFlag = False) -> None:
    """Print the params.yaml of a registered version, and the commit that trained it. Asks MLflow."""
    import sys

    import yaml

    from its_platform.model.registered import pipeline_parameters
    from its_platform.settings import load_settings
    from its_platform.stores import open_stores
    from its_platform.stores.registry import MODEL_NAME

    stores = open_stores(load_settings())
    found = pipeline_parameters(stores, version)
    commit = stores.registry.get(MODEL_NAME, version).tags.get("code_commit", "unknown")
    if json:
        emit({"commit": commit, **found}, json)
    else:
        sys.stdout.write(f"# Version {version}, trained by the code of commit {commit}.\n")
        sys.stdout.write(yaml.safe_dump(found, sort_keys=False))


@app.command()
def dataset(json: JsonFlag = False) -> None:
    """Check the dataset version out, and prove that the object store has each of its frames."""
    from its_platform.model.pipeline import check_out_dataset
    from its_platform.telemetry import terminal_progress

    with terminal_progress() as progress:
        wanted = check_out_dataset(_pipeline(), progress)
    emit({"name": wanted.name, "digest": wanted.digest, "frames": wanted.counts}, json)


@app.command()
def train(json: JsonFlag = False) -> None:
    """Train the detector."""
    from its_platform.model.export import digest_of
    from its_platform.model.pipeline import train_stage
    from its_platform.telemetry import terminal_progress

    with terminal_progress() as progress:
        trained = train_stage(_pipeline(), progress)
    emit({"weights": trained.weights, "digest": digest_of(trained.weights), "precision": trained.precision}, json)


@app.command()
def export(json: JsonFlag = False) -> None:
    """Write the ONNX file, and compare it with the detector that it came from."""
    from its_platform.model.pipeline import export_stage
    from its_platform.telemetry import terminal_progress

    with terminal_progress() as progress:
        parity = export_stage(_pipeline(), progress)
    emit(parity.as_dict(), json)


@app.command()
def evaluate(json: JsonFlag = False) -> None:
    """Judge the ONNX file on the held-out frames."""
    from its_platform.model.pipeline import evaluate_stage, metrics_of
    from its_platform.telemetry import terminal_progress

    with terminal_progress() as progress:
        measured = evaluate_stage(_pipeline(), progress)
    emit(metrics_of(measured, "all"), json)


def _pipeline() -> Pipeline:
    from its_platform.model.pipeline import open_pipeline
    from its_platform.settings import load_settings

    return open_pipeline(load_settings())
