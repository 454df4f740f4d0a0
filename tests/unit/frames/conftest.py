"""Small footage made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest


def scene(number: int, width: int = 160, height: int = 96, seed: int = 0) -> np.ndarray:
    """A textured still background with a bright square that moves 6 px a step; RGB uint8."""
    rng = np.random.default_rng(seed)
    background = cv2.resize(rng.integers(70, 150, (12, 20, 3), np.uint8), (width, height))
    x = (number * 6) % (width - 24)
    background[30:54, x : x + 24] = (250, 240, 60)
    return background


@pytest.fixture
def write_video() -> Callable[..., Path]:
    def write(
        path: Path, frames: int = 20, codec: str = "libx264", fps: int = 10, metadata: dict[str, str] | None = None
    ) -> Path:
        options = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
        with av.open(str(path), "w", options=options) as container:
            container.metadata.update(metadata or {})
            stream = container.add_stream(codec, rate=fps)
            stream.width, stream.height = 160, 96
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.codec_context.time_base = Fraction(1, fps)
            stream.codec_context.gop_size = 5
            for number in range(frames):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(number), format="rgb24")))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture
def write_folder() -> Callable[..., Path]:
    def write(path: Path, names: list[str], start: int = 0) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names, start):
            _, data = cv2.imencode(Path(name).suffix, scene(number)[..., ::-1])
            (path / name).write_bytes(data.tobytes())
        return path

    return write
