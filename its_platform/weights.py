"""Looks at a file of weights before any library reads it.

A `.pt` is a pickle in a zip archive: reading it runs whatever its author put in. What enters here is a path; the file
is only parsed, nothing in it is imported or called. What leaves is silence, or `BadInput` in one line. The second
fence is Ultralytics' own restricted reading, switched on in `offline`, which also holds where a file changes between
the two looks. Loading, and what a detector answers, belong to `model` and `labels`.
"""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from pathlib import Path

from its_platform.errors import BadInput

# The tensors lie beside it: a detector is described in a tenth of a megabyte.
LARGEST_PICKLE_BYTES = 64 << 20
_HINT = "Give the .pt of a detector that Ultralytics trained."

# What the weights of a detector are made of. Whole modules only where they hold nothing but layers: a name there has
# to begin with a capital letter, so no function of theirs can be called.
_LAYERS = re.compile(r"(torch\.nn\.modules|ultralytics\.nn\.modules)(\.[a-z]\w*)?|ultralytics\.nn\.tasks")
_CLASS = re.compile(r"[A-Z]\w*")
_PARTS = frozenset(
    {
        *(f"torch {kind}Storage" for kind in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Byte", "Bool")),
        *(f"torch {kind}Storage" for kind in ("Short", "Char", "Untyped")),
        *(f"torch {name}" for name in ("Size", "device", "dtype", "float16", "float32", "float64", "bfloat16")),
        *(f"torch {name}" for name in ("int8", "int16", "int32", "int64", "uint8", "bool")),
        *(f"torch._utils {name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")),
        "torch.storage UntypedStorage",
        "torch.storage TypedStorage",
        "collections OrderedDict",
        "collections defaultdict",
        *(f"{module} {name}" for module in ("__builtin__", "builtins") for name in ("set", "dict", "list", "slice")),
        *(f"{module} {name}" for module in ("__builtin__", "builtins") for name in ("int", "float", "complex")),
        "numpy.core.multiarray scalar",
        "numpy._core.multiarray scalar",
        "numpy dtype",
        "_codecs encode",
        "pathlib PosixPath",
        "pathlib WindowsPath",
        "ultralytics.utils IterableSimpleNamespace",
        "ultralytics.yolo.utils IterableSimpleNamespace",
        *(f"ultralytics.utils.loss {name}" for name in ("v8DetectionLoss", "BboxLoss", "DFLoss", "E2EDetectLoss")),
        "ultralytics.utils.loss v10DetectLoss",
        "ultralytics.utils.tal TaskAlignedAssigner",
    }
)
# The ways to name a class that PyTorch's writing does not use.
_UNUSED = frozenset({"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"})


def check_weights(path: Path, suffixes: tuple[str, ...] = (".pt",)) -> None:
    """Raise `BadInput` unless `path` is a file of weights that may be read.

    A `.pt` has to be a whole archive of PyTorch that holds nothing but what a detector is made of. Of an `.onnx` only
    the file itself is looked at: it holds no code, and the runtime reads it strictly.
    """
    named = " or ".join(suffixes)
    if path.is_dir():
        raise BadInput(f"{path} is a folder, not a file of weights.", f"Give a {named} file.")
    if not path.is_file():
        raise BadInput(f"There are no weights at {path}.", f"Give the path of a {named} file.")
    if path.suffix.lower() not in suffixes:
        raise BadInput(f"{path} is not a {named} file.", _HINT)
    try:
        if path.stat().st_size == 0:
            raise BadInput(f"{path}: the file is empty.", _HINT)
        if path.suffix.lower() == ".pt":
            _check_archive(path)
    except PermissionError as error:
        raise BadInput(f"{path} may not be read by this user.", "Change its permissions.") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.", "Copy it anew.") from error


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename.lower() for entry in entries]
            # PyTorch does not compress, so parts that are larger than the file were made to fill memory.
            if sum(entry.file_size for entry in entries) > path.stat().st_size:
                raise BadInput(f"{path} unpacks to more than it holds: it was not written by PyTorch.", _HINT)
            if len(set(names)) != len(names):
                raise BadInput(f"{path} holds two parts of one name: it was not written by PyTorch.", _HINT)
            if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
                raise BadInput(f"{path} is TorchScript, not a checkpoint.", _HINT)
            pickles = [entry for entry in entries if entry.filename.lower().endswith(".pkl")]
            if len(pickles) != 1:
                raise BadInput(f"{path} is not a checkpoint of PyTorch: {len(pickles)} pickles in it, not one.", _HINT)
            if pickles[0].file_size > LARGEST_PICKLE_BYTES:
                raise BadInput(f"{path} describes more than a detector has.", _HINT)
            _check_pickle(path, archive.read(pickles[0]))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
        raise BadInput(f"{path} is not a checkpoint of PyTorch, or is cut off.", _HINT) from error


def _check_pickle(path: Path, data: bytes) -> None:
    """Every name that the pickle would import, against what a detector is made of."""
    for operation, argument, _ in pickletools.genops(io.BytesIO(data)):
        if operation.name in _UNUSED:
            raise BadInput(
                f"{path} is refused: its pickle uses {operation.name}, which weights have no need of.", _HINT
            )
        if operation.name != "GLOBAL" or not isinstance(argument, str):
            continue
        module, _, name = argument.partition(" ")
        is_layer = bool(_LAYERS.fullmatch(module) and _CLASS.fullmatch(name))
        if not is_layer and argument not in _PARTS:
            told = f"{module}.{name}"[:80]
            raise BadInput(f"{path} is refused: reading it would call {told}, which no detector needs.", _HINT)
