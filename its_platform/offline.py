"""Ultralytics told to stay on this machine and inside the home folder.

Call `prepare_ultralytics` before anything imports it: where it writes is fixed at import. Nothing about models.
"""

from __future__ import annotations

import os
from pathlib import Path

from its_platform.settings import REPOSITORY
from its_platform.telemetry import silence_tools

LOGGERS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb", "sync")


def prepare_ultralytics(home: Path | None = None) -> None:
    """Switch off every download, its own loggers and its analytics; its settings lie in `home`/ultralytics.

    Its MLflow logger would write a database into the current folder, and its dataset check asks a server for a font.
    """
    silence_tools()
    base = home or Path(os.environ.get("ITS_HOME", REPOSITORY / ".its"))
    folder = Path(os.environ.setdefault("YOLO_CONFIG_DIR", str(base.absolute() / "ultralytics")))
    os.environ.setdefault("MPLCONFIGDIR", str(folder / "matplotlib"))
    os.environ.setdefault("MPLBACKEND", "Agg")
    folder.mkdir(parents=True, exist_ok=True)
    # Weights are read by its list of known classes, and built without `eval`: a checkpoint is a stranger's program.
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "true"
    from ultralytics.data import utils
    from ultralytics.nn import tasks
    from ultralytics.utils import SETTINGS, patches

    wrong = {name: False for name in LOGGERS if SETTINGS.get(name)}
    if wrong:
        SETTINGS.update(wrong)
    utils.check_font = _no_font
    tasks.SAFE_LOAD = True
    # It replaces Pillow's open for the whole process: a picture that cannot be read would ask for a plugin by network.
    patches._pil_plugins_registered = True


def _no_font(font: str = "") -> None:
    """In place of Ultralytics' search for a font: no plot of its own is ever drawn."""
