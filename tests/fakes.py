"""Stand-ins for the servers, with the behaviour of the real ones where the platform relies on it.

`FakeTriton` keeps the real repository on disk and stands in for the server's process alone: it holds versions in
memory, begins with those that are routed, refuses to load a model with a bad file while the loaded ones go on, and
answers what the file says. `FakeRegistry` is MLflow's aliases and tags in a dict.
`tests/integration/test_release_contract.py` expects the same of these and of the real ones. `Steps` counts their
calls and breaks them off.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from its_platform.contract import served_digest
from its_platform.errors import BadInput, NotFound, ServerUnavailable
from its_platform.model.exported import DetectorFile
from its_platform.release.gates import Signature, Tensor
from its_platform.release.gates.serving import MIB
from its_platform.release.golden import GoldenAnswers
from its_platform.release.outside import Image, Outside, Rows
from its_platform.serving import repository
from its_platform.serving.repository import Route
from its_platform.settings import Settings
from its_platform.stores.registry import MODEL_NAME, ModelVersion

CORRUPT = b"not a model"


class Crash(BaseException):
    """A killed process: nothing in the platform may catch it."""


@dataclass
class Steps:
    """Every call to the outside passes here, once before and once after it has taken effect."""

    seen: list[str] = field(default_factory=list)
    break_at: int | None = None

    @contextmanager
    def around(self, name: str) -> Iterator[None]:
        self.pass_by(f"before {name}")
        yield
        self.pass_by(f"after {name}")

    def pass_by(self, name: str) -> None:
        self.seen.append(name)
        if self.break_at is not None and len(self.seen) > self.break_at:
            raise Crash(name)


def rows_of(boxes: Sequence[Sequence[float]]) -> list[list[float]]:
    return [list(box) for box in boxes]


def onnx_bytes(boxes: Sequence[Sequence[float]] = ((10, 10, 60, 60, 0.9, 0),), note: str = "") -> bytes:
    """What the fakes take for an ONNX file: the boxes that it always finds."""
    return json.dumps({"boxes": rows_of(boxes), "note": note}).encode()


def answer(content: bytes, pictures: int) -> Rows:
    """Run such a file. Raises `BadInput` for one that is no model."""
    try:
        boxes = json.loads(content)["boxes"]
    except (ValueError, KeyError) as error:
        raise BadInput("INVALID_ARGUMENT: load failed for model: not a protobuf") from error
    rows = np.zeros((pictures, 300, 6), np.float32)
    if boxes:
        rows[:, : len(boxes)] = np.asarray(boxes, np.float32)
    return rows


def tiny_onnx(
    boxes: Sequence[Sequence[float]] = ((10, 10, 60, 60, 0.9, 0),), image_size: int = 64, note: str = ""
) -> bytes:
    """A real ONNX file with a detector's input and output that finds these boxes in any picture."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, : len(boxes)] = np.asarray(boxes, np.float32)
    constants = {"rows": rows, "tail": np.array([300, 6], np.int64), "first": np.array([0], np.int64)}
    nodes = [
        helper.make_node("Shape", ["images"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["pictures"]),
        helper.make_node("Concat", ["pictures", "tail"], ["wanted"], axis=0),
        helper.make_node("Expand", ["rows", "wanted"], ["detections"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", image_size, image_size, 3])],
        [helper.make_tensor_value_info("detections", TensorProto.FLOAT, ["n", 300, 6])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
        doc_string=note,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    about = DetectorFile(("car", "truck"), image_size, 0.7, 0.01, "yolo", "elsewhere", "0" * 64)
    for name, value in about.as_text().items():
        model.metadata_props.add(key=name, value=value)
    onnx.checker.check_model(model)
    return model.SerializeToString()


class FakeRegistry:
    """The part of `stores.registry.Registry` that releasing uses."""

    def __init__(self, folder: Path, steps: Steps | None = None) -> None:
        self.folder = folder
        self.steps = steps or Steps()
        self.versions: dict[int, ModelVersion] = {}
        self.files: dict[int, bytes] = {}
        self.aliases_set: dict[str, int] = {}
        self.is_away = False

    def add(self, content: bytes | None = None, **facts: object) -> ModelVersion:
        """Register a version, as a training would."""
        number = len(self.versions) + 1
        content = onnx_bytes(note=f"version {number}") if content is None else content
        digest = hashlib.sha256(content).hexdigest()
        version = ModelVersion(
            name=MODEL_NAME,
            version=number,
            run_id=f"run{number}",
            digest=digest,
            dataset_version="v1",
            family="yolo",
            image_size=64,
            classes=["car", "truck"],
            thresholds={"car": 0.3},
            onnx_digest=digest,
            tags={"parity": "1.0"},
        )
        self.versions[number] = replace(version, **facts)  # type: ignore[arg-type]
        self.files[number] = content
        return self.versions[number]

    def get(self, name: str, version: int) -> ModelVersion:
        self._reach()
        if name != MODEL_NAME or version not in self.versions:
            raise NotFound(f"There is no version {version} of {name}.")
        found = self.versions[version]
        return replace(found, tags=dict(found.tags))

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        self._reach()
        number = self.aliases_set.get(alias)
        return None if number is None else self.get(name, number)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self.get(name, version)
        with self.steps.around(f"set alias {alias} to {version}"):
            self.aliases_set[alias] = version

    def delete_alias(self, name: str, alias: str) -> None:
        self._reach()
        self.aliases_set.pop(alias, None)

    def set_tag(self, name: str, version: int, key: str, value: str) -> None:
        found = self.get(name, version)
        with self.steps.around(f"tag {version} {key}"):
            self.versions[version] = replace(found, tags={**found.tags, key: value})

    def download(self, name: str, version: int, folder: Path) -> Path:
        self.get(name, version)
        with self.steps.around(f"download {version}"):
            unfinished = folder.with_name(f".{folder.name}")
            unfinished.mkdir(parents=True, exist_ok=True)
            (unfinished / "model.onnx").write_bytes(self.files[version])
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
        return folder

    def _reach(self) -> None:
        if self.is_away:
            raise ServerUnavailable("MLflow does not answer.")


class FakeTriton:
    """The part of `release.triton.TritonServer` that releasing uses; a new one on the same home is a restart."""

    def __init__(self, settings: Settings, steps: Steps | None = None) -> None:
        self.settings = settings
        self.steps = steps or Steps()
        self.memory: dict[str, dict[int, bytes]] = {}
        self.loads: list[str] = []
        self.is_away = False
        self.garbled: set[int] = set()
        self.resident: dict[int, int] = {}
        self.front_ignores_routes = False
        self._routes_at_start = repository.read_routes(settings)
        for model in sorted({route.model for route in self._routes_at_start.values()}):
            with suppress(BadInput):
                self._read(model)

    def forget(self) -> None:
        """What another Triton on the same repository starts with, or this one after an unload by hand."""
        self.memory.clear()

    def place(self, version: ModelVersion, onnx: Path) -> None:
        with self.steps.around(f"place {version.version}"):
            repository.place_version(self.settings, version, onnx)

    def placed(self) -> dict[str, set[int]]:
        models = repository.served_models(self.settings)
        return {model: set(repository.placed_versions(self.settings, model)) for model in models}

    def broken(self) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for model, version in repository.broken_versions(self.settings):
            found.setdefault(model, set()).add(version)
        return found

    def remove(self, model: str, version: int) -> None:
        with self.steps.around(f"remove {version}"):
            repository.remove_version(self.settings, model, version)

    def load(self, model: str) -> None:
        self._reach()
        with self.steps.around(f"load {model}"):
            self._read(model)
            self.loads.append(model)

    def unload(self, model: str) -> None:
        self._reach()
        with self.steps.around(f"unload {model}"):
            self.memory.pop(model, None)

    def ready(self) -> dict[str, set[int]]:
        self._reach()
        return {model: set(versions) for model, versions in self.memory.items()}

    def infer(self, model: str, version: int, images: Image) -> Rows:
        self._reach()
        if version not in self.memory.get(model, {}):
            raise NotFound(f"{model} version {version} is not ready")
        rows = answer(self.memory[model][version], len(images))
        return rows + 25 if version in self.garbled else rows

    def route(self, stages: dict[str, Route]) -> None:
        with self.steps.around(f"route {' '.join(f'{name}={route.version}' for name, route in stages.items())}"):
            repository.write_routes(self.settings, stages)

    def routed(self) -> dict[str, Route] | None:
        try:
            return repository.read_routes(self.settings)
        except BadInput:
            return None

    def served_version(self, image: Image, stage: str) -> int:
        self._reach()
        routes = self._routes_at_start if self.front_ignores_routes else repository.read_routes(self.settings)
        if stage not in routes:
            raise NotFound(f"Nothing is routed to {stage}.")
        route = routes[stage]
        self.infer(route.model, route.version, image[None])
        return route.version

    def signature(self, model: str, version: int) -> Signature:
        self._reach()
        if version not in self.memory.get(model, {}):
            raise NotFound(f"{model} version {version} is not ready")
        folder = self.settings.model_repository / model / str(version)
        side = int(model.rsplit("-", 1)[1])
        tensors = Tensor("images", "UINT8", (-1, side, side, 3)), Tensor("detections", "FP32", (-1, 300, 6))
        return Signature(served_digest(folder, "onnx"), tensors[:1], tensors[1:])

    def memory_bytes(self, model: str, version: int) -> int | None:
        return self.resident.get(version, 200 * MIB) if version in self.memory.get(model, {}) else None

    def _read(self, model: str) -> None:
        found: dict[int, bytes] = {}
        for version in repository.placed_versions(self.settings, model):
            content = (self.settings.model_repository / model / str(version) / "model.onnx").read_bytes()
            answer(content, 1)
            found[version] = content
        if not found:
            raise BadInput(f"INVALID_ARGUMENT: {model} has no version")
        self.memory[model] = found

    def _reach(self) -> None:
        if self.is_away:
            raise ServerUnavailable("Triton does not answer.")


def card_of(dataset: str, classes: Sequence[str] = ("car", "truck")) -> dict[str, object]:
    """As much of a dataset version's card as is asked for."""
    statistics = {"frames": {"golden": 20}, "boxes_by_origin": {"golden": {"simulated": 200}}}
    facts = {"name": dataset, "digest": f"digest of {dataset}", "classes": list(classes), "statistics": statistics}
    return {**facts, "request": {"window": None}, "seed": 0, "spacing": {"block_s": 60.0}}


def golden_answers(
    classes: Sequence[str] = ("car", "truck"),
    share: float = 1.0,
    blocks: int = 10,
    frames: int = 4,
    boxes: int = 10,
    swapped: bool = False,
    is_simulated: bool = True,
    missing: Collection[int] = (),
) -> GoldenAnswers:
    """A detector that finds this share of the true boxes, each exactly, whatever the block.

    Of each frame the first boxes are found; the classes take turns from box to box. missing: blocks in which nothing
    is found. swapped: each box is called by the next class's name.
    """
    truth, found, names = [], [], []
    for block in range(blocks):
        for _ in range(frames):
            rows = np.array([[i * 20, 5, i * 20 + 15, 30, i % len(classes)] for i in range(boxes)], np.float32).reshape(
                -1, 5
            )
            seen = rows[: round(share * boxes)] if block not in missing else rows[:0]
            called = (seen[:, 4:] + swapped) % len(classes)
            truth.append(rows)
            found.append(np.concatenate([seen[:, :4], np.full((len(seen), 1), 0.9, np.float32), called], axis=1))
            names.append(f"north/{block}")
    count = blocks * frames
    everything = {"golden": np.ones(count, bool)}
    return GoldenAnswers(
        tuple(classes), tuple(truth), tuple(found), everything, tuple(names), np.full(count, is_simulated)
    )


def fake_outside(settings: Settings, evaluate: object = None, steps: Steps | None = None) -> Outside:
    """Fakes of everything, sharing one `Steps`."""
    steps = steps or Steps()

    def run_onnx(onnx: Path, images: Image) -> Rows:
        return answer(onnx.read_bytes(), len(images))

    def picture(version: ModelVersion) -> Image:
        return np.full((48, 64, 3), 90, np.uint8)

    return Outside(
        registry=FakeRegistry(settings.home / "fake-registry", steps),
        server=FakeTriton(settings, steps),
        evaluate=evaluate,  # type: ignore[arg-type]
        run_onnx=run_onnx,
        picture=picture,
        card=card_of,
        classes_in=lambda onnx: None,
        patience_s=0.0,
        steady_s=0.0,
    )
