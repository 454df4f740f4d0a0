"""H.264 video of simulated cameras.

A view, a seed and a span of time enter; an MP4 file leaves. Needs PyAV, imported when called.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

from its_platform.errors import BadInput
from its_platform.simulation.renderer import render
from its_platform.simulation.views import HEIGHT, WIDTH
from its_platform.telemetry import Progress, no_progress


def write_video(
    view: str,
    seed: int,
    from_s: float,
    to_s: float,
    fps: float,
    path: Path,
    light: str = "day",
    weather: str = "clear",
    progress: Progress = no_progress,
) -> int:
    """Film `[from_s, to_s)` at `fps` into `path`, which appears only when it is whole. Returns the frame count.

    Raises `BadInput` for an empty span or a rate that is not positive.
    """
    import av

    if not fps > 0 or not to_s > from_s:
        raise BadInput(
            f"Nothing to film from {from_s} s to {to_s} s at {fps} frames a second.", "Give a span and a rate."
        )
    total = max(1, round((to_s - from_s) * fps))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    rate = Fraction(fps).limit_denominator(1000)
    try:
        with av.open(str(part), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for index in range(total):
                image = render(view, seed, from_s + index / fps, light, weather).image
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
                progress(f"film {view}", index + 1, total)
            container.mux(stream.encode(None))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return total
