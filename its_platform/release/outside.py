"""What releasing needs from outside the database: the registry, the model server, a picture, the ONNX run in process.

Protocols and one value that bundles them, so that a test hands in fakes and every function of this stage takes the
same last argument. `real_outside` binds the real ones; binding connects to nothing. No decision is made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from its_platform.release.gates import Signature
    from its_platform.release.golden import GoldenAnswers
    from its_platform.serving.repository import Route
    from its_platform.stores import Stores
    from its_platform.stores.registry import ModelVersion

Image = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float32]
Routes = dict[str, "Route"]


class Registry(Protocol):
    """The part of the model registry that releasing uses. A failed read raises `ServerUnavailable`."""

    def get(self, name: str, version: int) -> ModelVersion: ...

    def by_alias(self, name: str, alias: str) -> ModelVersion | None: ...

    def set_alias(self, name: str, alias: str, version: int) -> None: ...

    def delete_alias(self, name: str, alias: str) -> None: ...

    def set_tag(self, name: str, version: int, key: str, value: str) -> None: ...

    def download(self, name: str, version: int, folder: Path) -> Path: ...


class ModelServer(Protocol):
    """One Triton and its model repository.

    `place` and `remove` change the repository by one rename; `load` makes the server read what lies there. `ready`
    holds the versions that answer, by Triton model name, `broken` those whose files are not whole. `route` replaces
    what the front routes by stage, `routed` is what it was last told, None where that cannot be read.
    `served_version` asks the front with the stage pinned. `signature` is what the server holds of a version,
    `memory_bytes` what an instance of it keeps resident on this machine, None where that cannot be seen. Permanent
    trouble with a model raises `PermanentError`, a server that is away `ServerUnavailable`.
    """

    def place(self, version: ModelVersion, onnx: Path) -> None: ...

    def placed(self) -> dict[str, set[int]]: ...

    def broken(self) -> dict[str, set[int]]: ...

    def remove(self, model: str, version: int) -> None: ...

    def load(self, model: str) -> None: ...

    def unload(self, model: str) -> None: ...

    def ready(self) -> dict[str, set[int]]: ...

    def infer(self, model: str, version: int, images: Image) -> Rows: ...

    def route(self, stages: Routes) -> None: ...

    def routed(self) -> Routes | None: ...

    def served_version(self, image: Image, stage: str) -> int: ...

    def signature(self, model: str, version: int) -> Signature: ...

    def memory_bytes(self, model: str, version: int) -> int | None: ...


class Evaluate(Protocol):
    """Run a detector over the golden frames of a dataset version, over the classes named."""

    def __call__(self, onnx: Path, version: ModelVersion, dataset: str, classes: Sequence[str]) -> GoldenAnswers: ...


class ReadCard(Protocol):
    """The card of a dataset version; None where there is none. Raises when it cannot be read."""

    def __call__(self, dataset: str) -> dict[str, Any] | None: ...


class ReadClasses(Protocol):
    """The classes that an exported file names itself; None where it names none."""

    def __call__(self, onnx: Path) -> tuple[str, ...] | None: ...


class RunOnnx(Protocol):
    """Run an exported detector in process: uint8 `[n, S, S, 3]` in, float32 `[n, 300, 6]` out."""

    def __call__(self, onnx: Path, images: Image) -> Rows: ...


class Picture(Protocol):
    """A real picture, RGB uint8 `[H, W, 3]`, of the kind that a version is made for."""

    def __call__(self, version: ModelVersion) -> Image: ...


@dataclass(frozen=True, kw_only=True)
class Placing:
    """What it takes to have a version answer on a model server, wherever its file comes from.

    patience_s: how long the front may take to follow a new route. steady_s: how long its answers have to be right
    before they count, longer than one of its instances takes to look at the routes again.
    """

    server: ModelServer
    run_onnx: RunOnnx
    picture: Picture
    patience_s: float = 20.0
    steady_s: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Outside(Placing):
    """All that releasing needs."""

    registry: Registry
    evaluate: Evaluate
    card: ReadCard
    classes_in: ReadClasses


def real_outside(stores: Stores) -> Outside:
    """The registry, Triton, pictures and ONNX Runtime of these stores."""
    from its_platform.release import measured
    from its_platform.release.triton import TritonServer

    return Outside(
        registry=stores.registry,
        server=TritonServer(stores.settings),
        evaluate=measured.evaluator(stores),
        run_onnx=measured.run_onnx,
        picture=measured.picture_source(stores),
        card=measured.card_reader(stores),
        classes_in=measured.classes_in,
    )
