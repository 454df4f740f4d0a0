"""Frames of the simulated world, as a camera would deliver them: JPEG, at the moments that its interval asks for.

Enters: a camera with a `sim://` address, and the world's timeline. Leaves: frames where the timeline has footage. The
truth about the boxes does not travel with the frames; `labels.review` asks the simulation for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from math import ceil

from its_platform.cameras import Address, Camera
from its_platform.frames.frame import Frame
from its_platform.frames.images import decode, encode
from its_platform.settings import Settings

EVERY_FRAME_S = 0.04


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
    from its_platform.simulation import render
    from its_platform.simulation.timeline import parse_address, read_timeline

    world = parse_address(camera.source)
    timeline = read_timeline(settings)
    seed = timeline.seed if world.seed is None else world.seed
    step = camera.sample_interval_s or EVERY_FRAME_S
    earliest = timeline.at_s(since) if since is not None else 0.0
    latest = timeline.at_s(until) if until is not None else timeline.end_s
    for segment in timeline.segments:
        number = ceil(round(max(segment.from_s, earliest) / step, 6))
        while (at_s := round(number * step, 6)) < min(segment.to_s, latest):
            picture = render(world.view, seed, at_s, segment.light, segment.weather)
            data = encode(picture.image, settings.frames.jpeg_quality)
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
