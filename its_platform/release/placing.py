"""A version on Triton: placed in the repository, loaded, and shown to answer what its ONNX file answers.

A registered version enters; a version that Triton answers with, or an error and no trace of it, leaves. Which version
that should be, and the table that says so, belong to `reconciling.py`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from its_platform.contract import FORMATS
from its_platform.errors import ItsError, PermanentError
from its_platform.model.letterbox import letterbox
from its_platform.release.outside import Image, ModelServer, Outside, Placing, Routes, Rows
from its_platform.serving.repository import Route
from its_platform.settings import Settings
from its_platform.stores.registry import MODEL_NAME, ModelVersion

ROWS = (300, 6)
# The same file on another ONNX Runtime or on a GPU moves a box by fractions of a pixel, never by a tenth of itself.
SAME_IOU = 0.9
SAME_CONFIDENCE = 0.05
SAME_SHARE = 0.95
COMPARED = 50


class VersionDoesNotServe(PermanentError):
    """A version was tried on the model server and does not answer as it should."""


def fetch_onnx(settings: Settings, outside: Outside, version: ModelVersion) -> Path:
    """The version's exported file (of several, the one that is opened), from the registry; kept for the next time."""
    folder = outside.registry.download(
        MODEL_NAME, version.version, settings.home / "cache" / "models" / str(version.version)
    )
    name = FORMATS[version.format].file
    if not (folder / name).is_file():
        raise VersionDoesNotServe(f"Version {version.version} has no {name}.", "Train or export it again.")
    return folder / name


def bring_up(placing: Placing, version: ModelVersion, route: Route, onnx: Path, in_use: bool) -> None:
    """Place, load and check a version. When it fails, nothing of it stays behind unless it is `in_use` elsewhere.

    onnx: its exported file, as `fetch_onnx` gives it. Raises `VersionDoesNotServe` when the version is at fault,
    `ServerUnavailable` when the server is away.
    """
    server = placing.server
    try:
        server.place(version, onnx)
        server.load(route.model)
        if version.version not in server.ready().get(route.model, set()):
            raise VersionDoesNotServe(f"Triton loaded {route.model} without version {version.version}.")
        check_same_answer(placing, version, route, onnx)
    except PermanentError as error:
        if not in_use:
            take_down(server, route.model, version.version)
        if isinstance(error, VersionDoesNotServe):
            raise
        raise VersionDoesNotServe(f"Version {version.version} does not serve: {error.message}", error.hint) from error


def take_down(server: ModelServer, model: str, version: int) -> None:
    """Remove a version from the repository and have Triton forget it; what is left of the model goes on serving."""
    server.remove(model, version)
    # The folder is gone, so no later load brings it back; that Triton still holds it in memory does no harm.
    with suppress(ItsError):
        if server.placed().get(model):
            server.load(model)
        else:
            server.unload(model)


def check_same_answer(placing: Placing, version: ModelVersion, route: Route, onnx: Path) -> None:
    """Ask Triton with a real picture, and the same file in this process; raise `VersionDoesNotServe` if they differ."""
    square, _ = letterbox(placing.picture(version), version.image_size)
    images = np.ascontiguousarray(square[None])
    answered = placing.server.infer(route.model, version.version, images)
    name = f"version {version.version} of {route.model}"
    if answered.shape != (1, *ROWS):
        raise VersionDoesNotServe(f"{name} answers {list(answered.shape)}, [1, {ROWS[0]}, {ROWS[1]}] was expected.")
    if not np.isfinite(answered).all():
        raise VersionDoesNotServe(f"{name} answers with numbers that are not finite.")
    if (wrong := _outside_of_classes(answered[0], len(version.classes))) is not None:
        raise VersionDoesNotServe(f"{name} answers class {wrong}, it has {len(version.classes)}.")
    share = agreement(answered[0], placing.run_onnx(onnx, images)[0])
    if share < SAME_SHARE:
        raise VersionDoesNotServe(f"{name} gives only {share:.0%} of the boxes that its file gives in process.")


def agreement(rows: Rows, others: Rows) -> float:
    """The share of boxes that two answers have in common, the lower of both directions; 1.0 for two empty answers.

    rows, others: `[300, 6]`. Compared are the 50 most confident of each with all of the other.
    """
    ours, theirs = rows[rows[:, 4] > 0], others[others[:, 4] > 0]
    if len(ours) == 0 and len(theirs) == 0:
        return 1.0
    return min(_found_in(ours, theirs), _found_in(theirs, ours))


def wait_for_version(placing: Placing, picture: Image, stage: str, version: int) -> None:
    """Ask the front at a stage until it answers with this version, and steadily so.

    Each of its instances follows the routes by itself, so one right answer does not speak for the others. Raises
    `VersionDoesNotServe` when the answers stay wrong, `ServerUnavailable` when there are none.
    """
    deadline = time.monotonic() + placing.patience_s
    right_since: float | None = None
    while True:
        problem: ItsError | None = None
        try:
            answered = placing.server.served_version(picture, stage)
            if answered == version:
                right_since = right_since or time.monotonic()
                if time.monotonic() - right_since >= placing.steady_s:
                    return
            else:
                problem = VersionDoesNotServe(
                    f"The front answers with version {answered} at {stage}, not with {version}."
                )
        except ItsError as error:
            problem = error
        if problem is not None:
            right_since = None
            if time.monotonic() >= deadline:
                raise problem
        time.sleep(0.05)


def lead_traffic(
    placing: Placing, version: ModelVersion, stage: str, route: Route, routes: Routes, in_use: bool
) -> None:
    """Route a stage to a version that was brought up, and see the front answer with it.

    routes: those in force, to which all goes back when it does not; nothing of the version then stays behind unless it
    is `in_use` elsewhere. Raises as `wait_for_version` does.
    """
    picture = placing.picture(version)
    try:
        placing.server.route(routes_with(routes, stage, route))
        wait_for_version(placing, picture, stage, version.version)
    except ItsError:
        placing.server.route(routes)
        if not in_use:
            take_down(placing.server, route.model, version.version)
        raise


def routes_with(routes: Routes, stage: str, route: Route | None) -> Routes:
    """The routes with one stage replaced, or taken out."""
    rest = {name: kept for name, kept in routes.items() if name != stage}
    return rest if route is None else {**rest, stage: route}


def _found_in(ours: Rows, theirs: Rows) -> float:
    from its_platform.model.scoring import iou_matrix

    if len(theirs) == 0 or len(ours) == 0:
        return 0.0
    most = ours[np.argsort(-ours[:, 4])][:COMPARED]
    same = iou_matrix(most[:, :4], theirs[:, :4]) >= SAME_IOU
    same &= most[:, None, 5] == theirs[None, :, 5]
    same &= np.abs(most[:, None, 4] - theirs[None, :, 4]) <= SAME_CONFIDENCE
    return float(same.any(axis=1).mean())


def _outside_of_classes(rows: Rows, classes: int) -> int | None:
    named = rows[rows[:, 4] > 0, 5]
    wrong = named[(named < 0) | (named >= classes)]
    return int(wrong[0]) if len(wrong) else None
