"""Frames out of a video file, sampled by interval.

Enters: a camera whose address is a file. Leaves: frames with the time of the recording, or numbered where nobody
knows it. A cut file gives what can be decoded, and says so in `problems`; one without a single frame is `BadInput`.
Live streams are read by `frames.stream`.
"""

from __future__ import annotations

import stat
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from math import ceil, floor
from pathlib import Path
from typing import Any

import av
import numpy as np

from its_platform.cameras import Address, Camera
from its_platform.errors import BadInput, NotFound
from its_platform.frames.frame import UNTIMED_EPOCH, Frame
from its_platform.frames.images import Image, check_size

# By which a video among other files is known, and what one that is written may end in.
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mkv", ".mov", ".m4v", ".ts", ".webm", ".mpg", ".mpeg", ".h264"})
# How the lists of other files begin that FFmpeg would follow, to wherever on this machine they lead.
LISTS_OF_FILES = (b"#EXTM3U", b"ffconcat version")
# A stream that gives this many unreadable packets on end has nothing more to say.
BROKEN_PACKETS = 200
# Slack when a frame's time is held against the sampling grid: containers round to a millisecond.
TIME_SLACK_S = 0.0015


def checked_file(path: Path) -> Path:
    """The path of an ordinary, non-empty file. Raises `NotFound` or `BadInput`: a pipe would block for ever."""
    try:
        status = path.stat()
    except OSError as error:
        raise NotFound(f"{path}: {error.strerror}.", "Check the camera's source.") from error
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(f"{path} is not a file.", "Use folder:// for a folder of images.")
    if status.st_size == 0:
        raise BadInput(f"{path}: the file is empty.", "Copy it anew.")
    return path


def to_rgb(frame: Any) -> Image:
    """RGB uint8 `[H, W, 3]` of a decoded PyAV frame, turned upright."""
    image = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def recording_start(address: Address, container: Any) -> datetime | None:
    """When the recording began: the address' `start`, else the file's creation time, else None."""
    start = address.time("start")
    if start is not None:
        return start
    written = container.metadata.get("creation_time")
    if not written:
        return None
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    # Encoders without a clock write 1904 or 1970.
    return moment if moment.year > 1990 else None


def open_video(path: Path) -> tuple[Any, Any]:
    """The open container, which the caller closes, and its first picture stream.

    Raises `BadInput` for what is no video, holds no pictures, or claims larger ones than a frame may be.
    """
    try:
        with path.open("rb") as file:
            is_list = file.read(max(map(len, LISTS_OF_FILES))).startswith(LISTS_OF_FILES)
        if is_list:
            raise BadInput(f"{path}: a list of files, not a video.", "Enter each file, or join them with ffmpeg.")
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError, UnicodeError) as error:
        raise BadInput(
            f"{path}: not a video that can be read ({_reason(error)}).",
            "Give a video or a folder of images; an archive has to be unpacked first.",
        ) from error
    if not container.streams.video:
        container.close()
        raise BadInput(f"{path}: there is no picture stream in it.", "Give a video.")
    stream = container.streams.video[0]
    try:
        check_size(stream.codec_context.width, stream.codec_context.height, str(path))
    except BadInput:
        container.close()
        raise
    stream.thread_type = "AUTO"
    return container, stream


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).split("\n")[0].rstrip(".")


def decode_video(container: Any, stream: Any, found: list[str]) -> Iterator[tuple[Any, int | None]]:
    """Each frame that can be decoded, in order of showing, with its time in the stream's ticks where there is one.

    What could not be decoded is told in `found`.

    AVI has a place in the file for each frame and no time of showing. What FFmpeg makes of that is wrong by up to two
    frames where frames are stored in another order than shown, so there the nth frame shown has the nth place.
    """
    broken = 0
    places: deque[int | None] | None = deque() if container.format.name == "avi" else None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError as error:
            found.append(f"reading stopped ({_reason(error)})")
            return
        if places is not None and packet.size:
            places.append(packet.dts)
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            if places:
                places.pop()
            broken += 1
            if broken == 1:
                found.append(f"packets that cannot be decoded ({_reason(error)})")
            if broken > BROKEN_PACKETS:
                return
            continue
        for frame in frames:
            at = (places.popleft() if places else None) if places is not None else frame.pts
            if not frame.is_corrupt:
                yield frame, at


def frame_rate(stream: Any) -> float:
    """Frames a second by what the stream says of itself; 25 where it says nothing."""
    return float(stream.average_rate or stream.guessed_rate or 25)


def missing_end(container: Any, stream: Any, at_s: float) -> list[str]:
    """What to tell of a video whose last frame, `at_s` seconds after its first, comes well before its stated end."""
    if not container.duration:
        return []
    duration_s = float(container.duration / av.time_base)
    # Matroska counts its length from zero, also where its first picture comes later.
    first_s = float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0
    end_s = at_s + 1.0 / frame_rate(stream) + max(0.0, first_s)
    is_cut = end_s < duration_s - max(1.0, 0.02 * duration_s)
    return [f"the video ends at {at_s:.1f} s of {duration_s:.1f} s"] if is_cut else []


def expected_count(camera: Camera, address: Address) -> int | None:
    """About how many frames the file gives by what it says of itself; None where it says nothing.

    Raises `NotFound`, `BadInput`.
    """
    container, stream = open_video(checked_file(address.path))
    with closing(container):
        if not container.duration:
            return None
        duration_s = float(container.duration / av.time_base)
        if camera.sample_interval_s > 0:
            return max(1, ceil((duration_s - TIME_SLACK_S) / camera.sample_interval_s))
        return stream.frames or round(duration_s * frame_rate(stream))


def read_video(
    camera: Camera,
    address: Address,
    since: datetime | None = None,
    until: datetime | None = None,
    problems: list[str] | None = None,
) -> Iterator[Frame]:
    """Frames of the file on a grid of `sample_interval_s` seconds: the first at or after each of its points.

    The grid is counted from the start of the recording, so that two readings of any part agree. `since` (inclusive)
    and `until` (exclusive) apply where the time is known. Raises `NotFound`, `BadInput`.
    """
    problems = problems if problems is not None else []
    path = checked_file(address.path)
    container, stream = open_video(path)
    with closing(container):
        start = recording_start(address, container)
        first = stream.start_time or 0
        rate = frame_rate(stream)
        if start is not None and since is not None and since > start and stream.time_base:
            # One interval early: the grid point before `since` decides which frame is the next one's.
            behind = max(0.0, (since - start).total_seconds() - 2 * camera.sample_interval_s)
            try:
                container.seek(first + int(behind / stream.time_base), stream=stream)
            except av.error.FFmpegError:
                container.seek(0)
        found: list[str] = []
        decoded, at_s, point = 0, -1.0 / rate, -1
        for picture, ticks in decode_video(container, stream, found):
            decoded += 1
            seconds = at_s + 1.0 / rate
            if ticks is not None and stream.time_base:
                seconds = float((ticks - first) * stream.time_base)
            at_s = max(seconds, 0.0) if seconds > at_s else at_s + 1.0 / rate
            if camera.sample_interval_s > 0:
                here = floor((at_s + TIME_SLACK_S) / camera.sample_interval_s)
                if here <= point:
                    continue
                point = here
            else:
                point = round(at_s * rate)
            base = UNTIMED_EPOCH if start is None else start
            captured_at = base + timedelta(milliseconds=round(at_s * 1000))
            if start is not None and until is not None and captured_at >= until:
                return
            if start is not None and since is not None and captured_at < since:
                continue
            yield Frame(
                camera.camera_id,
                captured_at,
                to_rgb(picture),
                weather=address.options.get("weather", "unknown"),
                sequence=point if start is None else None,
                source=path.name.encode("utf-8", "backslashreplace").decode(),
            )
        if decoded == 0:
            why = found[0] if found else "it holds none"
            raise BadInput(f"{path}: no frame can be decoded: {why}.", "Copy it anew, or mend it with ffmpeg.")
        found.extend(missing_end(container, stream, at_s))
        problems.extend(f"{path.name}: {what}." for what in found)
