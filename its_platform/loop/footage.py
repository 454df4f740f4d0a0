"""A folder of labelled cameras as the world outside the platform: which cameras are there first, which comes live.

Enters: a folder that holds one folder a camera, each with `images/` and `labels/` in YOLO's form. Leaves: a `World`.
The live camera's pictures are copied under names that hold a capture time, since drift is judged by time and such
pictures have none: a second apart, in two stretches an hour apart. The first stretch is what a retraining may learn
from, the second what it is judged on.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

from its_platform.cameras.registry import is_camera_id
from its_platform.errors import BadInput, NotFound
from its_platform.frames.folder import image_names, read_picture
from its_platform.frames.images import decode
from its_platform.frames.quality import figures, light_of

LIVE_SINCE = datetime(2026, 5, 1, 22, tzinfo=UTC)
INTERVAL = timedelta(seconds=1)
BETWEEN_STRETCHES = timedelta(hours=1)
STAMP = "%Y%m%dT%H%M%SZ"
SAMPLED_PICTURES = 9
# A cut nearer to an end than this would leave too little to learn from, or too little to judge on.
LEAST_SHARE = 0.25
LEAST_PICTURES = 20


@dataclass(frozen=True)
class World:
    """What the folder holds.

    classes: in the live camera's order. classes_of: each camera's, in the order that its own labels number them.
    first: cameras that a first model learns from. live: the camera that comes later. judged_from: the first picture
    of the live camera's second stretch, as a position among its pictures in natural order.
    """

    folder: Path
    classes: tuple[str, ...]
    classes_of: dict[str, tuple[str, ...]]
    first: tuple[str, ...]
    live: str
    names: tuple[str, ...]
    judged_from: int

    @property
    def stretches(self) -> tuple[tuple[datetime, datetime], tuple[datetime, datetime]]:
        """Beginning and end (exclusive) of the two stretches of live footage."""
        second = LIVE_SINCE + BETWEEN_STRETCHES
        return (
            (LIVE_SINCE, LIVE_SINCE + self.judged_from * INTERVAL),
            (second, second + (len(self.names) - self.judged_from) * INTERVAL),
        )

    @property
    def judge_share(self) -> float:
        """The second stretch's share of the live camera's pictures."""
        return 1 - self.judged_from / len(self.names)

    def captured_at(self, position: int) -> datetime:
        """Pretended capture time of the live camera's picture at this position."""
        stretch, before = (1, self.judged_from) if position >= self.judged_from else (0, 0)
        return self.stretches[stretch][0] + (position - before) * INTERVAL


def read_world(folder: Path, live: str | None = None, judged_from: str | None = None) -> World:
    """What lies in `folder`. Raises `NotFound` and `BadInput`, each with what the folder should hold.

    live: the camera that comes later; by default the one whose pictures are mostly of the night, where exactly one is.
    judged_from: file name of the first picture of its second stretch; by default where the numbering of the files
    jumps furthest between a quarter and three quarters of them, else the middle.
    """
    if not folder.is_dir():
        raise NotFound(f"There is no folder {folder}.", "--data names a folder that holds one folder a camera.")
    cameras = sorted(c.name for c in folder.iterdir() if (c / "images").is_dir() and (c / "labels").is_dir())
    if len(cameras) < 2:
        raise BadInput(
            f"{folder} holds {len(cameras)} labelled cameras; the loop needs two.",
            "Each is a folder with images/ and labels/ (YOLO) in it.",
        )
    for camera in cameras:
        if not is_camera_id(camera):
            raise BadInput(
                f"{folder / camera}: a camera cannot be called so.",
                "Rename the folder: lower-case letters, digits and _.-, at most 63.",
            )
    if live is None:
        live = _night_camera(folder, cameras)
    elif live not in cameras:
        raise BadInput(f"{folder} has no camera {live!r}.", f"There are {', '.join(cameras)}.")
    classes_of = _classes_of(folder, cameras, live)
    names = image_names(folder / live / "images")
    if len(names) < 2 * LEAST_PICTURES:
        raise BadInput(
            f"{live} has {len(names)} pictures; {2 * LEAST_PICTURES} are needed to learn from and to judge on.",
            "Name a camera with more of them by --live.",
        )
    for name in names:
        _check_file(folder / live / "images", name)
    position = _widest_jump(names) if judged_from is None else _position(names, judged_from, live)
    return World(
        folder=folder.absolute(),
        classes=classes_of[live],
        classes_of=classes_of,
        first=tuple(camera for camera in cameras if camera != live),
        live=live,
        names=tuple(names),
        judged_from=position,
    )


def lay_out_live(world: World, target: Path) -> str:
    """Copy the live camera's pictures to `target` under their capture times; the address of that camera.

    Doing it again copies nothing anew, so that the footage does not look changed.
    """
    target.mkdir(parents=True, exist_ok=True)
    for position, name in enumerate(world.names):
        copy = target / f"{world.captured_at(position):{STAMP}}_{name}"
        if not copy.exists():
            part = copy.with_suffix(".part")
            shutil.copyfile(world.folder / world.live / "images" / name, part)
            part.replace(copy)
    options = {"time": r"^(\d{8}T\d{6}Z)_", "format": STAMP}
    return f"folder://{quote(str(target.absolute()))}?{urlencode(options)}"


def name_before(copy: str) -> str:
    """What the live camera's picture was called before `lay_out_live` put a capture time before its name."""
    return re.sub(r"^\d{8}T\d{6}Z_", "", copy)


def _classes_of(folder: Path, cameras: list[str], live: str) -> dict[str, tuple[str, ...]]:
    """The classes of each camera in its own order. Raises `BadInput` where one has others than the live camera."""
    from its_platform.labels.formats import yolo_classes

    found = {camera: yolo_classes(folder / camera) for camera in cameras}
    for camera, classes in found.items():
        if set(classes) != set(found[live]):
            raise BadInput(
                f"{camera} has the classes {', '.join(classes)}, and {live} has {', '.join(found[live])}.",
                "One detector sees both: give all cameras the same classes, in any order.",
            )
    return found


def _night_camera(folder: Path, cameras: list[str]) -> str:
    dark = [camera for camera in cameras if _is_mostly_night(folder / camera / "images")]
    if len(dark) != 1:
        found = f"{', '.join(dark)} are" if dark else "none is"
        raise BadInput(
            f"Which camera comes later is not clear: {found} mostly of the night.",
            f"Name it: --live with one of {', '.join(cameras)}.",
        )
    return dark[0]


def _is_mostly_night(folder: Path) -> bool:
    names = image_names(folder)
    sampled = names[:: max(1, len(names) // SAMPLED_PICTURES)]
    lights = [light_of(figures(decode(read_picture(folder / name, within=folder), name))) for name in sampled]
    return 2 * lights.count("night") > len(lights)


def _check_file(folder: Path, name: str) -> None:
    """Raise `BadInput` for a picture that is to be copied and is a link out of its folder, or no file.

    What an ingest of the folder would refuse would be an ordinary file in the copy.
    """
    if (folder / name).is_symlink() or not (folder / name).is_file():
        read_picture(folder / name, within=folder)


def _position(names: list[str], name: str, camera: str) -> int:
    if name not in names:
        raise BadInput(f"{camera} has no picture {name!r}.", f"Its names are like {names[0]!r} to {names[-1]!r}.")
    position = names.index(name)
    if min(position, len(names) - position) < LEAST_PICTURES:
        raise BadInput(
            f"{position} pictures to learn from and {len(names) - position} to judge on are too few.",
            f"Name a picture with at least {LEAST_PICTURES} before it and after it.",
        )
    return position


def _widest_jump(names: list[str]) -> int:
    """Where the last number in the names jumps furthest, within the middle of the pictures; else the middle."""
    numbers = [int(found[-1]) if (found := re.findall(r"\d+", name)) else 0 for name in names]
    low = max(LEAST_PICTURES, round(LEAST_SHARE * len(names)))
    jumps = {at: numbers[at] - numbers[at - 1] for at in range(low, len(names) - low + 1)}
    widest = max(jumps, key=lambda at: jumps[at], default=len(names) // 2)
    return widest if jumps.get(widest, 0) > 1 else len(names) // 2
