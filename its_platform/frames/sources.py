"""Frames from any camera: the one door to video files, folders of images, live streams and the simulated world.

Enters: a camera. Leaves: its frames in order of capture. A frame's picture is the decoding of the very JPEG that the
store gets, so that what a detector sees live and what it is trained on are the same. Deciding which frames are kept
belongs to `ingest`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from its_platform.cameras import Camera
from its_platform.errors import BadInput
from its_platform.frames.frame import Frame
from its_platform.frames.images import decode, encode
from its_platform.settings import Settings

# How long a live camera is watched where it is one of many and nobody said how long.
WATCH_S = 60.0


def read_frames(
    camera: Camera,
    settings: Settings,
    since: datetime | None = None,
    until: datetime | None = None,
    problems: list[str] | None = None,
    as_stored: bool = True,
) -> Iterator[Frame]:
    """The camera's frames from `since` (included) to `until` (not), both aware; all there are without them.

    Footage without known time is delivered whole. A live stream without `until` never ends. What could not be read is
    appended to `problems`, one line each. With `as_stored` false, a video's pictures are spared the way through JPEG:
    faster, and a little unlike the stored ones.
    Raises `NotFound`, `BadInput`, and `ServerUnavailable` for a stream that does not answer.
    """
    for moment in (since, until):
        if moment is not None and moment.tzinfo is None:
            raise BadInput("A time without a zone cannot be asked for.", "Give it as UTC.")
    if since is not None and until is not None and since > until:
        raise BadInput("The time that was asked for ends before it begins.", "Swap since and until.")
    problems = problems if problems is not None else []
    for frame in _open(camera, settings, since, until, problems):
        if as_stored and frame.jpeg is None:
            data = encode(frame.image, settings.frames.jpeg_quality)
            frame = replace(frame, jpeg=data, image=decode(data))
        yield frame


def _open(
    camera: Camera, settings: Settings, since: datetime | None, until: datetime | None, problems: list[str]
) -> Iterator[Frame]:
    address = camera.address
    match address.kind:
        case "file":
            from its_platform.frames.video import read_video

            return read_video(camera, address, since, until, problems)
        case "folder":
            from its_platform.frames.folder import read_folder

            return read_folder(camera, address, since, until, problems)
        case "rtsp":
            from its_platform.frames.stream import read_stream

            return read_stream(camera, address, until, problems)
        case "sim":
            from its_platform.frames.simulated import read_simulated

            return read_simulated(camera, address, settings, since, until)


def is_live(camera: Camera) -> bool:
    """Whether its footage has no end of its own."""
    return camera.address.kind == "rtsp"


def watched_until(camera: Camera, until: datetime | None, seconds: float | None = WATCH_S) -> datetime | None:
    """Where reading ends: at `until`, and without one for a live camera in so many seconds; never with None."""
    if until is not None or seconds is None or not is_live(camera):
        return until
    return datetime.now(UTC) + timedelta(seconds=seconds)


def expected_frames(camera: Camera, settings: Settings) -> int | None:
    """About how many frames a whole reading delivers, for a progress bar; None where nobody knows."""
    address = camera.address
    match address.kind:
        case "file":
            from its_platform.frames.video import expected_count

            return expected_count(camera, address)
        case "folder":
            from its_platform.frames.folder import image_names

            return len(image_names(address.path))
        case _:
            return None


def available_until(camera: Camera, settings: Settings) -> datetime | str | None:
    """How far the camera's footage reaches: changes exactly when there may be something new to take in.

    The simulated world: the end of its timeline. A file or a folder: a token of names, sizes and times. A live
    stream: None, it has no end. Raises `NotFound` where the footage is missing.
    """
    address = camera.address
    match address.kind:
        case "sim":
            from its_platform.frames.simulated import simulated_until

            return simulated_until(settings)
        case "file":
            from its_platform.frames.video import checked_file

            status = checked_file(address.path).stat()
            return f"{camera.source}|{status.st_size}|{status.st_mtime_ns}"
        case "folder":
            from its_platform.frames.folder import folder_token

            return f"{camera.source}|{folder_token(address.path)}"
        case "rtsp":
            return None
