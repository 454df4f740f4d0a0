"""`dvc repro` with the real DVC, git and trainer, beside the training that registers a model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from its_platform.cameras import add_camera
from its_platform.cameras.registry import make_camera
from its_platform.dataset import DatasetRequest, build_dataset
from its_platform.frames.ingest import ingest
from its_platform.labels.review import review_simulated, unlabelled_frames
from its_platform.model.pipeline import Parameters
from its_platform.model.registered import pipeline_parameters, version_folder
from its_platform.model.train import train_candidate
from its_platform.settings import STARTER_WEIGHTS, DatasetSettings, TrainingSettings
from its_platform.simulation import append_segment
from its_platform.stores import Stores, open_stores
from its_platform.stores.data_remote import open_remote
from its_platform.stores.programs import dvc_program

ROOT = Path(__file__).resolve().parents[2]
TINY = TrainingSettings(epochs=1, image_size=160, batch=8, device="cpu")
CHANGED = {"training.epochs": 1, "training.image_size": 160, "training.batch": 8}


@pytest.fixture
def simulated(stores: Stores, registry: object, require: Callable[[bool, str], None]) -> Stores:
    """Two minutes of a simulated crossing as the dataset version v1."""
    require((stores.settings.environments / "dvc" / "bin" / "dvc").is_file(), "DVC's environment")
    spacing = DatasetSettings(block_s=10, guard_s=1)
    opened = open_stores(stores.settings.model_copy(update={"dataset": spacing, "training": TINY}))
    add_camera(opened, make_camera("junction", "sim://junction", sample_interval_s=2))
    append_segment(opened.settings, "day", "clear", 100)
    ingest(opened, "junction")
    review_simulated(opened, unlabelled_frames(opened))
    assert build_dataset(opened, DatasetRequest(opened.settings.classes)).name == "v1"
    return opened


@pytest.fixture
def clone(simulated: Stores, tmp_path: Path) -> Callable[..., str]:
    """A fresh checkout of the code with an empty home; remote, object store and its keys lie apart from it."""
    folder, home = tmp_path / "clone", tmp_path / "clone-home"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    dvc = dvc_program(simulated.settings)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PYTHON"))}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{dvc.parent}:{os.environ['PATH']}",
        "ITS_HOME": str(home),
        "ITS_ENVIRONMENTS": str(simulated.settings.environments),
        "ITS_DATA_REMOTE": open_remote(simulated.settings).name,
        "ITS_OBJECTS_URL": f"file://{simulated.settings.home / 'objects'}",
        "ITS_OBJECTS__KEYS": str(simulated.settings.home / "keys"),
        "ITS_TRAINING__SEED": "7",
        **{f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }

    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    run("git", "init", "-q")
    run("git", "add", "--all")
    run("git", "commit", "-q", "-m", "as it is")
    return run


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that the pipeline left, by its path."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".gitignore"]
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.timeout(1200)
def test_an_experiment_gives_the_weights_and_figures_of_the_registered_training_twice_and_asks_no_server(
    simulated: Stores, clone: Callable[..., str], tmp_path: Path
) -> None:
    clone("dvc", "exp", "run", *(word for name, value in CHANGED.items() for word in ("-S", f"{name}={value}")))
    assert not (tmp_path / "clone-home" / "postgres").exists()
    version = train_candidate(simulated, "v1").model_version.version
    registered = version_folder(simulated, version)
    made = tmp_path / "clone" / "pipeline" / "model"
    for name in ("model.pt", "model.onnx", "parity.json", "evaluation.json"):
        assert (made / name).read_bytes() == (registered / name).read_bytes(), name
    assert "up to date" in clone("dvc", "status")
    shown = json.loads(clone("dvc", "metrics", "show", "--json"))[""]["data"]
    everything = json.loads((registered / "evaluation.json").read_text("utf-8"))["slices"][0]
    figures = shown["pipeline/metrics/all.json"]["data"]
    assert 0 < figures["map50_low"] <= figures["map50"] == everything["ap50"] <= figures["map50_high"] <= 1
    assert {"pipeline/metrics/golden.json", "pipeline/metrics/light=day.json"} <= set(shown)
    page = Path(clone("dvc", "plots", "show").strip().removeprefix("file://")).read_text("utf-8")
    assert page.count("<img") == 5
    assert "https://" not in page
    again = Parameters.model_validate(pipeline_parameters(simulated, version))
    assert again.training == TINY.model_copy(update={"weights": STARTER_WEIGHTS.relative_to(ROOT)})
    first, lock = digests(tmp_path / "clone" / "pipeline"), (tmp_path / "clone" / "dvc.lock").read_text("utf-8")
    told = clone("dvc", "repro", "-f")
    assert all(f"Running stage '{stage}'" in told for stage in ("dataset", "train", "export", "evaluate"))
    assert digests(tmp_path / "clone" / "pipeline") == first
    assert (tmp_path / "clone" / "dvc.lock").read_text("utf-8") == lock
    assert {"dataset/manifest.jsonl", "curves.csv", "pictures/slices.png", "metrics/all.json"} < set(first)
