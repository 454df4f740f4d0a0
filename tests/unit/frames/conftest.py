"""Small footage made on the spot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import pytest

from tests.unit.frames.scenes import scene


@pytest.fixture
def write_video() -> Callable[..., Path]:
    def write(
        path: Path,
        frames: int = 20,
        codec: str = "libx264",
        fps: int = 10,
        metadata: dict[str, str] | None = None,
        size: tuple[int, int] = (160, 96),
        times_ms: Sequence[int] | None = None,
        b_frames: int | None = None,
    ) -> Path:
        options = {"movflags": "+faststart"} if path.suffix == ".mp4" else {}
        with av.open(str(path), "w", options=options) as container:
            container.metadata.update(metadata or {})
            quality = {"x265-params": "log-level=none", "crf": "18"} if codec == "libx265" else {}
            stream = container.add_stream(codec, rate=fps, options=quality)
            stream.width, stream.height = size
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            if any(side % 2 for side in size):
                stream.pix_fmt = "yuv444p"
            stream.codec_context.time_base = Fraction(1, fps) if times_ms is None else Fraction(1, 1000)
            stream.codec_context.gop_size = 5
            if b_frames is not None:
                stream.codec_context.max_b_frames = b_frames
                stream.codec_context.gop_size = 50
            for number in range(frames):
                picture = av.VideoFrame.from_ndarray(scene(number, *size), format="rgb24")
                if times_ms is not None:
                    picture.pts, picture.time_base = times_ms[number], Fraction(1, 1000)
                container.mux(stream.encode(picture))
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
