"""Reads the files that labels come in as a stranger's: bounded, plain, and inside their folder.

Enters: a path that a person named, or that lies in a folder that they named. Leaves: its text, or `BadInput`. What the
text says is judged in `formats`.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from its_platform.errors import BadInput

LARGEST_LABELS = 8 << 20
"""A frame has hundreds of boxes, or polygons of a few thousand points."""
LARGEST_COCO = 1 << 30
LARGEST_CLASS_LIST = 1 << 20


def read_text(path: Path, most_bytes: int, folder: Path | None = None) -> str:
    """The text of an ordinary file, which lies below `folder` where one is given.

    Raises `BadInput` whose message is a clause without the file's name.
    """
    try:
        if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
            raise BadInput("the link leads out of the folder")
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise BadInput("is a folder")
        # A pipe would block for ever, a device never end.
        if not stat.S_ISREG(status.st_mode):
            raise BadInput("is not a file")
        if status.st_size > most_bytes:
            raise BadInput(f"is larger than {most_bytes >> 20} MB")
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise BadInput("does not exist") from error
    except UnicodeDecodeError as error:
        raise BadInput("is not text in UTF-8") from error
    except (OSError, RuntimeError) as error:
        # A circle of links is a RuntimeError.
        raise BadInput(f"cannot be read ({getattr(error, 'strerror', None) or 'links in a circle'})") from error


def checked_folder(folder: Path) -> Path:
    """The folder itself. Raises `BadInput` for what is not one."""
    if folder.is_dir():
        return folder
    if folder.exists():
        raise BadInput(f"{folder} is a file, not a folder of labels.", "An archive has to be unpacked first.")
    raise BadInput(f"{folder} is not there.", "Name the folder that holds labels/ and images/.")


def class_list(path: Path) -> tuple[str, ...]:
    """The class names in a `data.yaml` (a list, or a mapping of 0, 1, 2 …); empty where it has none.

    Raises `BadInput` for what is no such file: an anchor that unfolds to billions of names is one name too many.
    """
    hint = "Write names: [car, bus], or pass --classes."
    try:
        content = yaml.safe_load(read_text(path, LARGEST_CLASS_LIST))
    except BadInput as error:
        raise BadInput(f"{path} {error.message}.", hint) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not YAML that can be read.", hint) from error
    if content is None:
        return ()
    names = content.get("names", []) if isinstance(content, dict) else None
    if isinstance(names, dict):
        if not all(type(key) is int for key in names) or sorted(names) != list(range(len(names))):
            raise BadInput(f"{path}: the numbers of names have to run from 0 to {len(names) - 1}.", hint)
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str | int | float) for name in names):
        raise BadInput(f"{path}: names is not a list of class names.", hint)
    return tuple(map(str, names))


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The class names themselves. Raises `BadInput` where one stands twice: its boxes could be either's."""
    twice = sorted(name for name, number in Counter(classes).items() if number > 1)
    if twice:
        raise BadInput(f"The class {twice[0]!r} is named twice.", "Rename one in data.yaml, then pass --map.")
    return tuple(classes)


def by_id(entries: Sequence[Mapping[str, Any]], name: str, what: str) -> dict[Any, str]:
    """A field of COCO's entries by their id. Raises `BadInput` for an id that is there twice."""
    found: dict[Any, str] = {}
    for entry in entries:
        if entry["id"] in found:
            raise BadInput(f"The {what} {entry['id']!r} is listed twice.", "Give each an id of its own.")
        found[entry["id"]] = str(entry[name])
    return found


def check_target(target: Path, is_folder: bool) -> None:
    """Raise `BadInput` where an export would be written over something else."""
    if is_folder:
        if target.exists() and not target.is_dir():
            raise BadInput(f"{target} is a file.", "Name a new folder.")
        if (target / "labels").is_dir() and any(os.scandir(target / "labels")):
            raise BadInput(
                f"{target} holds labels already.", "Name a new folder: two exports in one cannot be told apart."
            )
    elif target.is_dir():
        raise BadInput(f"{target} is a folder.", "Name a file that ends in .json.")
