"""Frames of a live stream (RTSP), for as long as it is asked for.

Enters: a camera with an `rtsp://` address. Leaves: frames with the time of their arrival. A stream that breaks is
opened again with back-off, and the time without pictures is told in `problems`; one that stays away is
`ServerUnavailable`. Recordings are read by `frames.video`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import av

from its_platform.cameras import Address, Camera
from its_platform.errors import BadInput, NotFound, ServerUnavailable
from its_platform.frames.frame import Frame
from its_platform.frames.images import check_size
from its_platform.frames.video import to_rgb

TIMEOUT_S = 5.0
ATTEMPTS = 6
# A camera that restarts is away for a minute or two; one that never answered is likelier to be the wrong address.
ATTEMPTS_ONCE_SEEN = 15
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0


def read_stream(
    camera: Camera, address: Address, until: datetime | None = None, problems: list[str] | None = None
) -> Iterator[Frame]:
    """Frames at least `sample_interval_s` apart until the clock passes `until`, or for ever.

    A frame that arrives resets the count of attempts. Each break is a line in `problems`. Raises `ServerUnavailable`
    after `ATTEMPTS` in a row without a frame (`ATTEMPTS_ONCE_SEEN` where there were some), `BadInput` where the server
    refuses the address or its password. No error carries what FFmpeg says of it, as that names the whole address.
    """
    problems = problems if problems is not None else []
    failures, why = 0, "no answer"
    last: datetime | None = None
    seen: datetime | None = None
    name = camera.public_source
    while until is None or datetime.now(UTC) < until:
        try:
            with closing(_open(address.location)) as container:
                if not container.streams.video:
                    raise BadInput(f"{name}: there is no picture stream in it.")
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                for picture in container.decode(stream):
                    now = datetime.now(UTC)
                    if until is not None and now >= until:
                        return
                    if picture.is_corrupt:
                        continue
                    if failures and seen is not None:
                        problems.append(_gap(name, seen, now, why))
                    failures, seen = 0, now
                    if last is not None and now - last < timedelta(seconds=camera.sample_interval_s):
                        continue
                    check_size(picture.width, picture.height, name)
                    last = now
                    yield Frame(camera.camera_id, now, to_rgb(picture), source=name)
            why = "the stream ended"
        except (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError):
            raise BadInput(
                f"{name}: the server refuses the user or the password.",
                "Enter the camera again: `its camera add … --replace --password-stdin`.",
            ) from None
        except av.error.HTTPNotFoundError:
            raise NotFound(f"{name}: the server has no such stream.", "Check the path of the address.") from None
        except (av.error.FFmpegError, OSError) as error:
            why = str(getattr(error, "strerror", None) or type(error).__name__)
        failures += 1
        if failures >= (ATTEMPTS if seen is None else ATTEMPTS_ONCE_SEEN):
            raise ServerUnavailable(
                f"{name} does not deliver: {why}.",
                f"Tried {failures} times. Is the camera on, and its host and port right?",
            )
        wait_s = min(FIRST_WAIT_S * 2 ** (failures - 1), LONGEST_WAIT_S)
        if until is not None:
            wait_s = min(wait_s, max(0.0, (until - datetime.now(UTC)).total_seconds()))
        time.sleep(wait_s)
    if failures and seen is not None:
        problems.append(_gap(name, seen, datetime.now(UTC), why))
    elif failures:
        raise ServerUnavailable(f"{name} does not deliver: {why}.", "The time was up before it answered.")


def _gap(name: str, seen: datetime, now: datetime, why: str) -> str:
    away_s = (now - seen).total_seconds()
    return f"{name}: no picture from {seen:%H:%M:%S} to {now:%H:%M:%S} UTC ({away_s:.1f} s): {why}."


def _open(address: str) -> Any:
    # TCP: over UDP a busy network shows as smeared pictures that no decoder calls corrupt.
    return av.open(address, options={"rtsp_transport": "tcp"}, timeout=(TIMEOUT_S, TIMEOUT_S))
