"""Frames of the simulated world, as a camera would deliver them: JPEG, at the moments that its interval asks for.

Enters: a camera with a `sim://` address, and the world's timeline. Leaves: frames where the timeline has footage. Each
is drawn once: beside such a camera stands a recorder, from which whoever comes second has it. The truth about the boxes
does not travel with the frames; `labels.review` asks the simulation for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Iterator
from datetime import datetime
from math import ceil
from pathlib import Path

from its_platform.cameras import Address, Camera
from its_platform.frames.frame import Frame
from its_platform.frames.images import decode, encode
from its_platform.settings import Settings

EVERY_FRAME_S = 0.04
MOST_RECORDED = 6000


def read_simulated(
    camera: Camera,
    address: Address,
    settings: Settings,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Iterator[Frame]:
    """A frame every `sample_interval_s` (25 a second for 0), counted from the timeline's second 0.

    So any two readings that overlap give the same frames. `since` is included, `until` is not. The timeline is read
    once, at the start. Raises `NotFound` for an unknown view, `BadInput` for a wrong address.
    """
    from its_platform.simulation.timeline import parse_address, read_timeline

    world = parse_address(camera.source)
    timeline = read_timeline(settings)
    seed = timeline.seed if world.seed is None else world.seed
    step = camera.sample_interval_s or EVERY_FRAME_S
    recorder = _Recorder(settings)
    earliest = timeline.at_s(since) if since is not None else 0.0
    latest = timeline.at_s(until) if until is not None else timeline.end_s
    for segment in timeline.segments:
        number = ceil(round(max(segment.from_s, earliest) / step, 6))
        while (at_s := round(number * step, 6)) < min(segment.to_s, latest):
            data = recorder.frame(world.view, seed, at_s, segment.light, segment.weather)
            yield Frame(
                camera.camera_id,
                timeline.moment(at_s),
                decode(data),
                jpeg=data,
                weather=segment.weather,
                source=f"sim://{address.location}@{at_s:g}s",
            )
            number += 1


def simulated_until(settings: Settings) -> datetime:
    """The end of the simulated world's footage."""
    from its_platform.simulation.timeline import read_timeline

    return read_timeline(settings).end


class _Recorder:
    """What simulated cameras delivered lately: JPEG files in the home, the oldest of which make room for new ones.

    The live feed and the ingest want the same frames at about the same time, and drawing one costs far more than
    reading it.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.home / "simulation" / "recorded"
        self._quality = settings.frames.jpeg_quality
        self._folder.mkdir(parents=True, exist_ok=True)
        self._make_room()

    def frame(self, view: str, seed: int, at_s: float, light: str, weather: str) -> bytes:
        """The JPEG of a scene, drawn if there is none yet."""
        from its_platform.simulation import render

        scene = repr((view, seed, at_s, light, weather, self._quality))
        path = self._folder / f"{hashlib.sha256(scene.encode()).hexdigest()[:32]}.jpg"
        with contextlib.suppress(FileNotFoundError):
            return path.read_bytes()
        data = encode(render(view, seed, at_s, light, weather).image, self._quality)
        partial = self._folder / f".{uuid.uuid4().hex}"
        # Where there is no room the frame is drawn again by the next who wants it.
        try:
            partial.write_bytes(data)
            partial.replace(path)
        except OSError:
            partial.unlink(missing_ok=True)
        return data

    def _make_room(self) -> None:
        with os.scandir(self._folder) as entries:
            found = [Path(entry) for entry in entries]
        if len(found) > MOST_RECORDED:
            for path in sorted(found, key=_written_at)[: len(found) - MOST_RECORDED // 2]:
                path.unlink(missing_ok=True)


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
