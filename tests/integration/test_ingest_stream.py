"""A live stream, served over RTSP by a few lines that stand in for a camera."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import av
import numpy as np
import pytest

from its_platform.cameras.registry import make_camera
from its_platform.errors import BadInput, ServerUnavailable
from its_platform.frames import stream as streaming
from its_platform.frames.sources import read_frames
from its_platform.settings import Settings

FPS = 25


def encoded_pictures(count: int) -> list[list[bytes]]:
    """H.264 NAL units of so many pictures, each of which can be decoded by itself; picture n is grey level n * 10."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt, codec.framerate = 64, 48, "yuv420p", FPS
    codec.options = {"tune": "zerolatency", "preset": "ultrafast", "x264-params": "keyint=1:repeat-headers=1:annexb=1"}
    pictures = []
    for number in range(count):
        image = np.full((48, 64, 3), 10 * (number % 20) + 20, np.uint8)
        for packet in codec.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
            whole = bytes(packet).replace(b"\0\0\0\1", b"\0\0\1")
            pictures.append([unit for unit in whole.split(b"\0\0\1") if unit])
    return pictures


class CameraServer:
    """Answers one RTSP client at a time, sends `frames` pictures interleaved, and hangs up."""

    def __init__(self, frames: int, refuse_with: str | None = None) -> None:
        self.pictures = encoded_pictures(frames)
        self.refuse_with = refuse_with
        self.sessions = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self) -> None:
        # Closing alone does not wake a thread that waits in accept.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        reader = client.makefile("rb")
        while request := self._request(reader):
            method, number = request
            if self.refuse_with and method == "DESCRIBE":
                client.sendall(f"RTSP/1.0 {self.refuse_with}\r\nCSeq: {number}\r\n\r\n".encode())
                return
            body, extra = "", ""
            if method == "DESCRIBE":
                body = (
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=0\r\na=control:track\r\n"
                )
                extra = "Content-Type: application/sdp\r\n"
            elif method == "SETUP":
                extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
            elif method == "PLAY":
                extra = "Session: 1\r\n"
            head = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
            client.sendall((head + body).encode())
            if method == "PLAY":
                self.sessions += 1
                self._play(client)
                return

    def _request(self, reader: object) -> tuple[str, str] | None:
        first = reader.readline().decode()  # type: ignore[attr-defined]
        number = ""
        while line := reader.readline().decode().strip():  # type: ignore[attr-defined]
            if line.lower().startswith("cseq:"):
                number = line.split(":", 1)[1].strip()
        return (first.split(" ")[0], number) if first.strip() else None

    def _play(self, client: socket.socket) -> None:
        sequence = 0
        for count, units in enumerate(self.pictures):
            for place, unit in enumerate(units):
                is_last = place == len(units) - 1
                head = struct.pack(">BBHII", 0x80, 96 | (0x80 if is_last else 0), sequence, count * 90000 // FPS, 1)
                client.sendall(struct.pack(">cBH", b"$", 0, len(head) + len(unit)) + head + unit)
                sequence += 1
            time.sleep(1 / FPS)


@pytest.fixture
def serve() -> Iterator[Callable[..., CameraServer]]:
    running: list[CameraServer] = []

    def start(frames: int, refuse_with: str | None = None) -> CameraServer:
        running.append(CameraServer(frames, refuse_with))
        return running[-1]

    yield start
    for server in running:
        server.close()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(streaming, "LONGEST_WAIT_S", 0.05)


@pytest.mark.slow
def test_a_live_stream_is_read_on_through_breaks(serve: Callable[..., CameraServer], settings: Settings) -> None:
    server = serve(frames=30)
    camera = make_camera("live", f"rtsp://user:secret@127.0.0.1:{server.port}/a", sample_interval_s=0.2)
    before = datetime.now(UTC)
    taken = []
    for frame in read_frames(camera, settings, until=before + timedelta(seconds=60)):
        taken.append(frame)
        if server.sessions >= 2 and len(taken) >= 8:
            break
    assert server.sessions >= 2
    times = [frame.captured_at for frame in taken]
    assert times[0] >= before
    assert all(later - earlier >= timedelta(seconds=0.2) for earlier, later in pairwise(times))
    assert {frame.image.shape for frame in taken} == {(48, 64, 3)}
    assert all(frame.jpeg and frame.is_timed and "secret" not in frame.source for frame in taken)


@pytest.mark.slow
def test_a_live_stream_ends_when_the_time_is_up(serve: Callable[..., CameraServer], settings: Settings) -> None:
    camera = make_camera("live", f"rtsp://127.0.0.1:{serve(frames=500).port}/a", sample_interval_s=0.1)
    until = datetime.now(UTC) + timedelta(seconds=4)
    frames = list(read_frames(camera, settings, until=until))
    assert frames
    assert frames[-1].captured_at < until


def test_a_refused_password_is_told_at_once_and_without_it(
    serve: Callable[..., CameraServer], settings: Settings
) -> None:
    server = serve(frames=1, refuse_with="403 Forbidden")
    camera = make_camera("live", f"rtsp://user:secret@127.0.0.1:{server.port}/a")
    with pytest.raises(BadInput, match="refuses") as caught:
        next(read_frames(camera, settings))
    assert "secret" not in str(caught.value)


def test_a_camera_that_is_away_is_a_transient_error(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(ServerUnavailable, match="does not deliver"):
        next(read_frames(make_camera("live", f"rtsp://127.0.0.1:{port}/a"), settings))
