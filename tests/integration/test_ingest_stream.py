"""Live streams from a real RTSP server that asks for a password, is killed, and comes back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from its_platform.cameras import Camera, get_camera
from its_platform.cameras.registry import make_camera
from its_platform.errors import BadInput, NotFound, ServerUnavailable
from its_platform.frames import stream as streaming
from its_platform.frames.index import FrameIndex
from its_platform.frames.ingest import load_image
from its_platform.frames.sources import read_frames
from its_platform.serving.processes import free_ports
from its_platform.settings import Settings
from its_platform.stores import Stores

pytestmark = [pytest.mark.services]

ITS = Path(sys.executable).with_name("its")
SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).with_name("rtsp_server.py")
USER, PASSWORD = "viewer", "s3cret/w@rd"
BITS, FPS = 10, 10

# The command as a person starts it; small batches only let the test look on.
INGEST = """
from its_platform.frames import ingest as ingesting
ingesting.BATCH_FRAMES = 4
from its_platform.cli import main
main(["frames", "ingest", "gate", "--json"])
"""


def write_clip(path: Path, first: int) -> Path:
    """30 s of H.264 in which each picture says its number, from `first` on, by bright and dark fields."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = BITS * 32, 96, "yuv420p"
        stream.codec_context.gop_size = FPS
        for number in range(first, first + 30 * FPS):
            bits = [230 if number >> bit & 1 else 40 for bit in range(BITS)]
            picture = np.repeat(np.repeat(np.array(bits, np.uint8)[None, :, None], 32, 1), 3, 2)
            picture = np.ascontiguousarray(np.repeat(picture, 96, 0))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def number_of(image: np.ndarray) -> int:
    return sum(1 << bit for bit in range(BITS) if image[48, bit * 32 + 16].mean() > 128)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("clips")
    return write_clip(folder / "first.mp4", 0), write_clip(folder / "second.mp4", 500)


@pytest.fixture
def serve(require: Callable[[bool, str], None], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the server on a port with a clip; the process, which is killed in the end."""
    environment = {"PATH": "/usr/bin:/bin", "GST_REGISTRY": str(tmp_path / "gstreamer.bin"), "HOME": str(tmp_path)}
    has_server = "import gi; gi.require_version('GstRtspServer', '1.0'); gi.require_version('Gst', '1.0')"
    found = (
        Path(SYSTEM_PYTHON).exists()
        and not subprocess.run([SYSTEM_PYTHON, "-c", has_server], capture_output=True, check=False).returncode
    )
    require(found, "GStreamer's RTSP server (Debian: gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-good)")
    running: list[subprocess.Popen[str]] = []

    def start(port: int, clip: Path) -> subprocess.Popen[str]:
        words = [SYSTEM_PYTHON, str(SERVER), str(port), str(clip)]
        pipe = subprocess.PIPE
        server = subprocess.Popen(words, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        running.append(server)
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(f"{USER} {PASSWORD}\n")
        server.stdin.flush()
        assert server.stdout.readline() == "ready\n", server.communicate(timeout=5)
        return server

    yield start
    for server in running:
        server.kill()
        server.communicate(timeout=10)


def camera_at(port: int, password: str = "s3cret%2Fw%40rd", path: str = "live", interval_s: float = 0.2) -> Camera:
    return make_camera("gate", f"rtsp://{USER}:{password}@127.0.0.1:{port}/{path}", sample_interval_s=interval_s)


def environment_of(stores: Stores) -> dict[str, str]:
    settings = stores.settings
    return {**os.environ, "ITS_HOME": str(settings.home), "ITS_DATABASE_URL": str(settings.database_url)}


def add_with_stdin(stores: Stores, port: int, password: str) -> subprocess.CompletedProcess[str]:
    words = [ITS, "camera", "add", "gate", f"rtsp://{USER}@127.0.0.1:{port}/live", "--password-stdin"]
    return subprocess.run(
        [*map(str, words), "--interval", "0.2", "--replace"],
        env=environment_of(stores),
        input=password + "\n",
        capture_output=True,
        text=True,
        check=True,
    )


def as_a_terminal_does() -> None:
    """Let Ctrl-C reach the command. A shell's background job ignores it, and so does all that is started below."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_costs_the_time_between_and_nothing_else(
    stores: Stores, serve: Callable[..., subprocess.Popen[str]], clips: tuple[Path, Path]
) -> None:
    (port,) = free_ports(1)
    server = serve(port, clips[0])
    added = add_with_stdin(stores, port, PASSWORD)
    assert PASSWORD not in added.stdout + added.stderr
    index, pipe = FrameIndex(stores), subprocess.PIPE
    words = [sys.executable, "-c", INGEST]
    reading = subprocess.Popen(
        words, env=environment_of(stores), stdout=pipe, stderr=pipe, text=True, preexec_fn=as_a_terminal_does
    )
    try:
        wait_for(lambda: index.count() >= 8, reading)
        server.kill()
        server.wait(10)
        before = index.count()
        serve(port, clips[1])
        wait_for(lambda: index.count() >= before + 12, reading)
        reading.send_signal(signal.SIGINT)
        out, err = reading.communicate(timeout=60)
    finally:
        reading.kill()
    assert reading.returncode == 0, err
    result = json.loads(out)
    rows = index.query().sort_values("captured_at")
    assert result["added"] == len(rows) == rows["frame_hash"].nunique()
    numbers = [number_of(load_image(stores, key)) for key in rows["object_key"]]
    assert all(earlier < later for earlier, later in pairwise(numbers)), "each picture once, in its order"
    assert numbers[0] < 500 <= numbers[-1], "pictures of both servers"
    times = list(rows["captured_at"])
    assert all(later - earlier >= timedelta(seconds=0.2) for earlier, later in pairwise(times))
    gaps = [warning for warning in result["warnings"] if "no picture from" in warning]
    assert len(gaps) == 1
    assert gaps[0].startswith(f"rtsp://***@127.0.0.1:{port}/live: no picture from ")
    assert result["warnings"][-1] == "stopped by hand."
    told = out + err + " ".join(rows["source"])
    assert PASSWORD not in told
    assert "s3cret" not in told


@pytest.mark.slow
def test_a_stream_ends_when_the_time_is_up(
    settings: Settings, serve: Callable[..., subprocess.Popen[str]], clips: tuple[Path, Path]
) -> None:
    (port,) = free_ports(1)
    serve(port, clips[0])
    until = datetime.now(UTC) + timedelta(seconds=5)
    problems: list[str] = []
    frames = list(read_frames(camera_at(port), settings, until=until, problems=problems))
    assert frames
    assert frames[-1].captured_at < until
    assert problems == []
    assert all(frame.jpeg and frame.is_timed and "s3cret" not in frame.source for frame in frames)


def test_a_wrong_password_and_a_wrong_path_are_told_at_once_and_without_it(
    settings: Settings, stores: Stores, serve: Callable[..., subprocess.Popen[str]], clips: tuple[Path, Path]
) -> None:
    (port,) = free_ports(1)
    serve(port, clips[0])
    refused = camera_at(port, password="wr0ng")
    with pytest.raises(BadInput, match="refuses the user or the password") as caught:
        next(read_frames(refused, settings))
    assert "wr0ng" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(NotFound, match="no such stream") as missing:
        next(read_frames(camera_at(port, path="other"), settings))
    assert "s3cret" not in "".join(traceback.format_exception(missing.value))
    add_with_stdin(stores, port, "wr0ng")
    words = [str(ITS), "frames", "ingest", "gate", "--debug"]
    asked = subprocess.run(words, env=environment_of(stores), capture_output=True, text=True, check=False)
    assert asked.returncode == 1
    assert "refuses the user or the password" in asked.stderr
    assert "wr0ng" not in asked.stdout + asked.stderr
    assert get_camera(stores, "gate").source.count("wr0ng") == 1, "only the registry holds it"


def test_a_server_that_is_away_is_a_transient_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "FIRST_WAIT_S", 0.001)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(ServerUnavailable, match="does not deliver: Connection refused") as caught:
        next(read_frames(camera_at(port), settings))
    assert "Tried 6 times" in caught.value.hint
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.slow
def test_a_camera_that_was_there_is_waited_for_longer_before_it_counts_as_away(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    serve: Callable[..., subprocess.Popen[str]],
    clips: tuple[Path, Path],
) -> None:
    monkeypatch.setattr(streaming, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(streaming, "LONGEST_WAIT_S", 0.01)
    (port,) = free_ports(1)
    server = serve(port, clips[0])
    frames = read_frames(camera_at(port), settings)
    assert next(frames).image.shape == (96, BITS * 32, 3)
    server.kill()
    with pytest.raises(ServerUnavailable, match="does not deliver") as caught:
        list(frames)
    assert "Tried 15 times" in caught.value.hint
