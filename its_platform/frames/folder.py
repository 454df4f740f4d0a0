"""Frames out of a folder of images.

Enters: a camera whose address is a folder. Leaves: one frame an image, in natural order (`a2` before `a10`), with the
time that a pattern finds in the name or, without one, numbered. Images below the folder's own level belong to other
cameras. Pictures that cannot be read are told in `problems` and left out.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from its_platform.cameras import Address, Camera
from its_platform.errors import BadInput, NotFound
from its_platform.frames.frame import UNTIMED_EPOCH, Frame
from its_platform.frames.images import decode, is_jpeg
from its_platform.frames.video import VIDEO_SUFFIXES, checked_file

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
MAXIMUM_BYTES = 256 << 20


def natural_key(name: str) -> tuple[tuple[int, int | str], ...]:
    """Orders `frame_2` before `frame_10`."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in parts if part)


def readable(name: str) -> str:
    """A file name as text that can be stored: bytes that are not UTF-8 become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def image_names(folder: Path) -> list[str]:
    """The names of the images in a folder, in natural order. Raises `NotFound`, `BadInput`."""
    try:
        names = [entry.name for entry in os.scandir(folder) if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES]
    except NotADirectoryError as error:
        raise BadInput(f"{folder} is not a folder.") from error
    except OSError as error:
        raise NotFound(f"{folder}: {error.strerror}.", "Check the camera's source.") from error
    if not names:
        raise BadInput(f"{folder}: there is no image in it.", _below(folder))
    return sorted(names, key=natural_key)


def _below(folder: Path) -> str:
    """A hint that names the videos in the folder, or the folders just below which hold images."""
    entries = sorted(os.scandir(folder), key=lambda entry: natural_key(entry.name))
    videos = [entry.name for entry in entries if Path(entry.name).suffix.lower() in VIDEO_SUFFIXES]
    if videos:
        return f"There are videos, {_first(videos)}: each is a camera of its own, and its source is the file."
    found = [entry.name for entry in entries if _holds_images(entry)]
    if not found:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        return f"Images end in {known}; each folder of images is a camera of its own."
    return f"There are some below, in {_first(found)}: each such folder is a camera of its own."


def _holds_images(entry: os.DirEntry[str]) -> bool:
    """Whether this is a folder with an image among its first thousand entries, as far as one may look."""
    try:
        names = os.listdir(entry.path) if entry.is_dir() else []
    except OSError:
        return False
    return any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names[:1000])


def _first(names: list[str]) -> str:
    """The first three names, and how many more there are."""
    return ", ".join(map(readable, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def time_in_name(address: Address, name: str) -> datetime | None:
    """The time that the address' `time` (a regular expression) and `format` (strptime) find in a file name."""
    pattern = address.options.get("time")
    if pattern is None:
        return None
    try:
        match = re.search(pattern, name)
    except re.error as error:
        raise BadInput(f"time={pattern!r} is not a regular expression: {error}.") from error
    if match is None:
        return None
    text = match.group(1) if match.groups() else match.group(0)
    try:
        form = address.options.get("format")
        if form is None:
            moment = datetime.fromisoformat(text)
        elif form == "unix":
            moment = datetime.fromtimestamp(float(text), UTC)
        else:
            moment = datetime.strptime(text, form)  # noqa: DTZ007 (a zone is given below)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def read_picture(path: Path, within: Path | None = None) -> bytes:
    """The bytes of a picture's file, which has to lie in the folder `within` where one is given.

    Raises `BadInput` for a link out of it or to nowhere, what is no ordinary file, and more than `MAXIMUM_BYTES`.
    """
    name = readable(path.name)
    try:
        if within is not None and not path.resolve().is_relative_to(within.resolve()):
            raise BadInput(f"{name}: the link leads out of the folder.")
        checked_file(path)
        if path.stat().st_size > MAXIMUM_BYTES:
            raise BadInput(f"{name}: the file is larger than a picture.")
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{name}: {error.strerror}.") from error
    except RuntimeError as error:
        # What pathlib calls links in a circle.
        raise BadInput(f"{name}: the links lead in a circle.") from error
    except NotFound as error:
        raise BadInput(f"{name}: the link leads nowhere.") from error


def read_folder(
    camera: Camera,
    address: Address,
    since: datetime | None = None,
    until: datetime | None = None,
    problems: list[str] | None = None,
) -> Iterator[Frame]:
    """Each image of the folder. Raises `NotFound`, and `BadInput` where not one can be read.

    With `start` in the address, the pictures are `sample_interval_s` apart from then on. With `time`, an image whose
    name holds no time is left out and told. `since` and `until` apply where the time is known.
    """
    problems = problems if problems is not None else []
    names = image_names(address.path)
    start = address.time("start")
    has_pattern = "time" in address.options
    if has_pattern:
        timed = {name: time_in_name(address, name) for name in names}
        problems.extend(f"{readable(name)}: no time in the name." for name in names if timed[name] is None)
        far = datetime.max.replace(tzinfo=UTC)
        names = sorted((n for n in names if timed[n] is not None), key=lambda n: (timed[n] or far, natural_key(n)))
    seen = 0
    for number, name in enumerate(names):
        moment: datetime | None = None
        if has_pattern:
            moment = timed[name]
        elif start is not None:
            moment = start + timedelta(seconds=number * camera.sample_interval_s)
        if moment is not None and ((since and moment < since) or (until and moment >= until)):
            seen += 1
            continue
        try:
            data = read_picture(address.path / name, within=address.path)
            image = decode(data, readable(name))
        except BadInput as error:
            problems.append(error.message)
            continue
        seen += 1
        yield Frame(
            camera.camera_id,
            moment or UNTIMED_EPOCH + timedelta(seconds=number),
            image,
            jpeg=data if is_jpeg(data) else None,
            weather=address.options.get("weather", "unknown"),
            sequence=number if moment is None else None,
            source=readable(name),
        )
    if not seen:
        why = problems[0] if problems else "it is empty."
        raise BadInput(f"{address.location}: not one image can be used: {why}", "Mend them, or name another folder.")


def folder_token(folder: Path) -> str:
    """Changes when an image is added, removed or rewritten. Raises `NotFound`, `BadInput`."""
    digest = hashlib.sha256()
    for name in image_names(folder):
        try:
            status = (folder / name).stat()
        except OSError:
            continue
        digest.update(os.fsencode(name) + f"|{status.st_size}|{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]
