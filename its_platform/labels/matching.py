"""Which stored frame a label file speaks of: by the content of the picture beside it, else by its file name.

Pure but for reading the pictures of a folder; a table of frames enters, an answer for each name leaves.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
LARGEST_PICTURE = 256 << 20
NO_FRAME = "there is no such frame"
ELSEWHERE = "its picture is a frame of another camera"


@dataclass(frozen=True, slots=True)
class FrameKey:
    """What a label file's boxes are turned into pixels with."""

    frame_hash: str
    width: int
    height: int


def stem_of(source: str) -> str:
    """The file's stem from a frame's `source`, which is a path, a `folder#file` or an address."""
    return PurePosixPath(re.split(r"[#|]", source)[-1].split("?")[0].replace("\\", "/")).stem


class FrameLookup:
    """Finds frames by picture content or file stem. `frames`: columns frame_hash, source, width, height.

    elsewhere: hashes of stored frames that are not asked about. A file whose picture is one of them has no frame here,
    though one may have its name: cameras that number their pictures all have an `0001`.
    """

    def __init__(self, frames: pd.DataFrame, elsewhere: Collection[str] = ()) -> None:
        self._elsewhere = elsewhere
        self._by_hash: dict[str, FrameKey] = {}
        self._by_stem: dict[str, list[FrameKey]] = {}
        columns = ("frame_hash", "source", "width", "height")
        for frame_hash, source, width, height in zip(*(frames[name] for name in columns), strict=True):
            if frame_hash in self._by_hash:
                continue
            key = FrameKey(str(frame_hash), int(width), int(height))
            self._by_hash[key.frame_hash] = key
            self._by_stem.setdefault(stem_of(str(source)), []).append(key)

    def find(self, stem: str, picture: Path | None = None) -> FrameKey | str:
        """The frame, or one clause that says why there is none."""
        if picture is not None:
            content = _content_hash(picture)
            if content in self._by_hash:
                return self._by_hash[content]
            if content in self._elsewhere:
                return ELSEWHERE
        if stem in self._by_hash:
            return self._by_hash[stem]
        found = self._by_stem.get(stem, [])
        if len(found) == 1:
            return found[0]
        return f"{len(found)} frames have this file name" if found else NO_FRAME


def label_files(folder: Path) -> list[Path]:
    """The YOLO label files of a folder: all `*.txt` below folders named `labels`, at any depth (`train/labels`).

    Where there is no such folder, the `*.txt` of the folder and below; notes that a labelling tool adds are left out.
    """
    files = [path for path in sorted(folder.rglob("*.txt")) if path.name != "classes.txt"]
    within = [path for path in files if "labels" in path.relative_to(folder).parent.parts]
    if within or folder.name == "labels":
        return within or files
    return [path for path in files if not path.name.lower().startswith("readme")]


class Pictures:
    """The pictures that lie beside label files."""

    def __init__(self, folder: Path) -> None:
        self._by_stem: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in PICTURES:
                self._by_stem.setdefault(path.stem, []).append(path)

    def beside(self, label: Path) -> Path | None:
        """The picture of a label file: in `images` where the file is in `labels`, in its folder, or the only one."""
        named = self._by_stem.get(label.stem, [])
        own = Path(*("images" if part == "labels" else part for part in label.parent.parts))
        for place in (own, label.parent):
            for path in named:
                if path.parent == place:
                    return path
        return named[0] if len(named) == 1 else None

    def named(self, name: str) -> Path | None:
        """The picture that a COCO file calls `name`: the one whose path ends so, else the only one of that stem."""
        parts = PurePosixPath(name.replace("\\", "/"))
        named = self._by_stem.get(parts.stem, [])
        ending = [path for path in named if path.parts[-len(parts.parts) :] == parts.parts]
        found = ending or named
        return found[0] if len(found) == 1 else None


def _content_hash(picture: Path) -> str:
    """The SHA-256 of a picture; of a pipe, a device or what cannot be read, nothing that a frame has."""
    try:
        if not picture.is_file() or picture.stat().st_size > LARGEST_PICTURE:
            return ""
        with picture.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def names_of(frames: pd.DataFrame, frame_hashes: Iterable[str]) -> dict[str, str]:
    """A file stem for each frame: the one it came with where that is its alone, else its hash."""
    columns = ("frame_hash", "source")
    sources = {str(h): str(s) for h, s in zip(*(frames[name] for name in columns), strict=True)}
    wanted = list(frame_hashes)
    stems = {h: stem_of(sources.get(h, "")) for h in wanted}
    alone: dict[str, int] = {}
    for stem in stems.values():
        alone[stem] = alone.get(stem, 0) + 1
    return {h: stem if stem and alone[stem] == 1 else h for h, stem in stems.items()}
