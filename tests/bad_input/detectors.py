"""Bad weights: what is no checkpoint, what is one of something else, and what would run a program."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bad_input.case import Case, Place

EXPORT = "its model export --weights FILE"
TRAIN = "its model train --weights FILE"
LABEL = "its labels auto --weights FILE"
TRACE = "was-run"
"""The file that a malicious checkpoint makes when anything of it is run; the test looks for it."""


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, path: Path, by: str = "pathlib") -> None:
        self.path, self.by = path, by

    def __reduce__(self) -> Any:
        import os

        if self.by == "os":
            return os.system, (f"touch {self.path}",)
        if self.by == "eval":
            return eval, (f"open({str(self.path)!r}, 'w')",)
        return Path.touch, (self.path,)


def checkpoint(path: Path, *parts: tuple[str, bytes], compress: bool = False) -> Path:
    """An archive as PyTorch writes it, with a pickle of ours."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, data in parts:
            archive.writestr(f"archive/{name}", data)
        archive.writestr("archive/version", b"3\n")
    return path


def export(make: Callable[[Path], object], name: str = "weights.pt") -> Callable[[Place], Sequence[str]]:
    def words(place: Place) -> Sequence[str]:
        made = make(place.folder / name)
        path = made if isinstance(made, Path) else place.folder / name
        return ["model", "export", "--weights", str(path), "--out", str(place.folder / "out.onnx")]

    return words


def other(command: str, make: Callable[[Path], object], name: str = "weights.pt") -> Callable[[Place], Sequence[str]]:
    def words(place: Place) -> Sequence[str]:
        made = make(place.folder / name)
        return [*command.split(), str(made if isinstance(made, Path) else place.folder / name)]

    return words


def _malicious(by: str, protocol: int = 2) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        return checkpoint(path, ("data.pkl", pickle.dumps({"model": Touch(path.with_name(TRACE), by)}, protocol)))

    return make


def _bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Touch(path.with_name(TRACE), "os")))


def _malicious_beside(path: Path) -> Path:
    """A sound pickle under the name that a scan looks for, and another under the one that is read."""
    sound, other = pickle.dumps({}, 2), pickle.dumps(Touch(path.with_name(TRACE), "os"), 2)
    return checkpoint(path, ("data.pkl", sound), ("DATA.PKL", other))


def _cut(path: Path) -> None:
    from its_platform.settings import STARTER_WEIGHTS

    path.write_bytes(STARTER_WEIGHTS.read_bytes()[:100_000])


def _state_only(path: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(2)}, path)


def _onnx(path: Path, kind: str, shape: list[Any]) -> None:
    import onnx
    from onnx import TensorProto, helper

    number = {"uint8": TensorProto.UINT8, "float": TensorProto.FLOAT}[kind]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["images"], ["out"])],
        "g",
        [helper.make_tensor_value_info("images", number, shape)],
        [helper.make_tensor_value_info("out", number, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))


def _pickle_of(path: Path, data: bytes) -> Path:
    return checkpoint(path, ("data.pkl", data))


_AUTO = "labels auto --camera north --all --weights"
_TRAIN = "model train --weights"
_EMBEDDER = "model embedder --weights"

CASES = (
    Case("weights that are not there", EXPORT, export(lambda path: None), ("no weights at", ".pt")),
    Case("a folder of weights", EXPORT, export(lambda path: path.mkdir()), ("is a folder", ".pt")),
    Case("weights of no bytes", EXPORT, export(lambda path: path.touch()), ("the file is empty",)),
    Case("text named .pt", EXPORT, export(lambda path: path.write_text("hello")), ("is not a checkpoint",)),
    Case("a checkpoint that is cut off", EXPORT, export(_cut), ("is not a checkpoint of PyTorch, or is cut off",)),
    Case("weights with another ending", EXPORT, export(lambda path: path.write_text("x"), "a.yaml"),
         ("is not a .pt file",)),
    Case("a checkpoint that calls the shell", EXPORT, export(_malicious("os")), ("is refused", "system")),
    Case("the same given to a training", TRAIN, other(_TRAIN, _malicious("os")), ("is refused", "system")),
    Case("the same given to the labeller", LABEL, other(_AUTO, _malicious("os")), ("is refused", "system")),
    Case("the same given to the embedder", "its model embedder --weights FILE", other(_EMBEDDER, _malicious("os")),
         ("is refused", "system")),
    Case("a checkpoint that calls eval", EXPORT, export(_malicious("eval")), ("is refused", "eval")),
    Case("a checkpoint that writes a file", EXPORT, export(_malicious("pathlib")), ("is refused",)),
    Case("a checkpoint of a later protocol", EXPORT, export(_malicious("os", 4)), ("is refused", "STACK_GLOBAL")),
    Case("a bare pickle", EXPORT, export(_bare_pickle), ("is not a checkpoint",)),
    Case("a second pickle in the archive", EXPORT, export(_malicious_beside), ("two parts of one name",)),
    Case("a function of a layer's module", EXPORT,
         export(lambda path: _pickle_of(path, b"ctorch.nn.modules.module\nregister_module_forward_hook\n.")),
         ("is refused", "register_module_forward_hook")),
    Case("a loader inside a checkpoint", EXPORT,
         export(lambda path: _pickle_of(path, b"ctorch.hub\nload\n(S'x'\ntR.")), ("is refused", "torch.hub.load")),
    Case("a zip bomb", EXPORT,
         export(lambda path: checkpoint(path, ("data.pkl", bytes(80_000_000)), compress=True)), ("unpacks to more",)),
    Case("TorchScript", EXPORT,
         export(lambda path: checkpoint(path, ("data.pkl", b"N."), ("constants.pkl", b"N."))), ("is TorchScript",)),
    Case("an archive of something else", EXPORT,
         export(lambda path: checkpoint(path, ("readme.txt", b"hello"))), ("is not a checkpoint of PyTorch",)),
    Case("tensors without a network", EXPORT, export(_state_only), ("is not a checkpoint of the Ultralytics family",)),
    Case("an export that ends in no multiple of 32", EXPORT,
         lambda place: [*export(lambda path: path.touch())(place), "--size", "100"], ("multiples of 32",)),
    Case("text named .onnx", LABEL, other(_AUTO, lambda path: path.write_text("x"), "a.onnx"), ("not an ONNX file",)),
    Case("ONNX that is no detector", LABEL,
         other(_AUTO, lambda path: _onnx(path, "uint8", ["n", 64, 64, 3]), "a.onnx"), ("not a detector",)),
    Case("ONNX of another size", LABEL, other(_AUTO, lambda path: _onnx_of_320(path), "a.onnx"), ("--size 320",)),
    Case("ONNX that names no classes", LABEL,
         lambda place: [*other(_AUTO, lambda path: _onnx_of_320(path), "a.onnx")(place), "--size", "320"],
         ("does not say which classes",)),
    Case("a labeller's confidence of 2", LABEL,
         lambda place: ["labels", "auto", "--weights", "x.pt", "--confidence", "2"], ("--confidence",), 2),
    Case("a labeller's size of 0", LABEL, lambda place: ["labels", "auto", "--weights", "x.pt", "--size", "0"],
         ("--size",), 2),
)  # fmt: skip


def _onnx_of_320(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Reshape", ["images", "to"], ["out"])],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 320, 320])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 6, 51200])],
        [helper.make_tensor("to", TensorProto.INT64, [3], [1, 6, 51200])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
