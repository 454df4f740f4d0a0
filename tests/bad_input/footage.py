"""Bad footage: videos, folders of pictures, and what stands where a file should."""

from __future__ import annotations

import io
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from bad_input.case import Case, Place

WIDTH, HEIGHT = 64, 48
INGEST = "its frames ingest CAMERA"
ADD = "its camera add NAME SOURCE"


def scene(number: int, width: int = WIDTH) -> np.ndarray:
    """Noise with a bright square whose place tells the number; RGB uint8."""
    pixels = np.random.default_rng(number).integers(60, 120, (HEIGHT, width, 3), np.uint8)
    x, y = number % 5 * 12, number // 5 % 3 * 15
    pixels[y : y + 16, x : x + 14] = 250
    return pixels


def picture(seed: int = 0, form: str = "JPEG", mode: str = "RGB", width: int = WIDTH) -> bytes:
    """A small picture with something in it."""
    held = io.BytesIO()
    Image.fromarray(scene(seed, width)).convert(mode).save(held, form)
    return held.getvalue()


def video(path: Path, frames: int = 12, gop: int = 4) -> Path:
    """A small H.264 recording, with its index at the front."""
    with av.open(str(path), "w", options={"movflags": "+faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream("libx264", rate=5, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 5)
        stream.codec_context.gop_size = gop
        for number in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(number), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def huge_png(side: int) -> bytes:
    """A PNG of a few bytes whose header claims `side` x `side` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )


def ingest(make: Callable[[Path], object], scheme: str = "") -> Callable[[Place], Sequence[str]]:
    """A camera of the file or folder that `make` writes at the given path or returns."""

    def words(place: Place) -> Sequence[str]:
        made = make(place.folder / "footage.mp4")
        source = made if isinstance(made, str | Path) else place.folder / "footage.mp4"
        return ["frames", "ingest", place.camera(f"{scheme}{source}")]

    return words


def pictures(files: dict[str | bytes, bytes | None]) -> Callable[[Place], Sequence[str]]:
    """A camera of a folder with these files."""

    def words(place: Place) -> Sequence[str]:
        folder = place.folder / "pictures"
        folder.mkdir()
        for name, data in files.items():
            if data is not None:
                (folder / os.fsdecode(name)).write_bytes(data)
        return ["frames", "ingest", place.camera(folder)]

    return words


def _list_of_files(path: Path) -> None:
    (path.parent / "private").mkdir()
    video(path.parent / "private" / "a.mp4")
    path.write_text("ffconcat version 1.0\nfile private/a.mp4\n")


def _cut_video(path: Path) -> None:
    whole = video(path.with_name("whole.mp4"), 40).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _headless(path: Path) -> None:
    """An MP4 that was being written when the power went: its index, which comes last, is missing."""
    whole = video(path.with_name("whole.mkv")).read_bytes()
    path.write_bytes(whole[:200])


def _no_frames(path: Path) -> Path:
    from av.container import OutputContainer

    made = path.with_suffix(".mkv")
    with av.open(str(made), "w") as container:
        assert isinstance(container, OutputContainer)
        stream = container.add_stream("mjpeg", rate=5)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        container.start_encoding()
    return made


def absurd_header(path: Path) -> Path:
    """An AVI of raw pictures whose header says 14,000 x 14,000."""
    made = path.with_suffix(".avi")
    with av.open(str(made), "w") as container:
        stream = container.add_stream("rawvideo", rate=5)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(scene(0), format="rgb24")))
        container.mux(stream.encode(None))
    data = bytearray(made.read_bytes())
    at = data.index(b"strf") + 12
    data[at : at + 8] = struct.pack("<II", 14000, 14000)
    made.write_bytes(bytes(data))
    return made


def _corrupt_middle(path: Path) -> Path:
    data = bytearray(video(path, 40).read_bytes())
    for start in range(len(data) // 3, len(data) // 3 * 2, 97):
        data[start : start + 24] = bytes(24)
    path.write_bytes(bytes(data))
    return path


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _link_out(place: Place) -> Sequence[str]:
    (place.folder / "secret.jpg").write_bytes(picture())
    folder = place.folder / "pictures"
    folder.mkdir()
    (folder / "a.jpg").symlink_to(place.folder / "secret.jpg")
    return ["frames", "ingest", place.camera(folder)]


def _linked_loop(place: Place) -> Sequence[str]:
    folder = place.folder / "pictures"
    folder.mkdir()
    (folder / "a.jpg").symlink_to("b.jpg")
    (folder / "b.jpg").symlink_to("a.jpg")
    return ["frames", "ingest", place.camera(folder)]


def _pipe_in_folder(place: Place) -> Sequence[str]:
    folder = place.folder / "pictures"
    folder.mkdir()
    os.mkfifo(folder / "a.jpg")
    return ["frames", "ingest", place.camera(folder)]


def _folder_of_folders(place: Place) -> Sequence[str]:
    (place.folder / "pictures" / "deeper").mkdir(parents=True)
    (place.folder / "pictures" / "deeper" / "a.jpg").write_bytes(picture())
    return ["frames", "ingest", place.camera(place.folder / "pictures")]


def _archive(path: Path) -> Path:
    folder = path.with_name("packed")
    folder.mkdir()
    (folder / "a.jpg").write_bytes(picture())
    return Path(shutil.make_archive(str(path.with_name("footage")), "zip", folder))


def _unanonymous(place: Place) -> Sequence[str]:
    return ["frames", "ingest", place.camera(video(place.folder / "road.mp4"), "faces_and_plates")]


def _face_model_of_text(place: Place) -> Sequence[str]:
    for name in ("face.onnx", "plate.onnx"):
        (place.folder / name).write_text("no model")
    return _unanonymous(place)


CASES = (
    Case("a video of no bytes", INGEST, ingest(lambda path: path.touch()), ("the file is empty",)),
    Case("text named .mp4", INGEST, ingest(lambda path: path.write_text("hello " * 99)), ("not a video",)),
    Case("a list of files in place of a video", INGEST, ingest(_list_of_files), ("footage.mp4", "a list of files")),
    Case("an archive in place of a video", INGEST, ingest(_archive), ("not a video", "unpack")),
    Case("a video cut before its first picture", INGEST, ingest(_headless), ("footage.mp4",)),
    Case("a video without a frame", INGEST, ingest(_no_frames), ("not a video",)),
    Case("sound without pictures", INGEST, ingest(lambda path: sound(path)), ("no picture stream",)),
    Case("a header that claims 14000 x 14000 pixels", INGEST, ingest(absurd_header), ("14000x14000", "pixels")),
    Case("a video that is not there", INGEST, ingest(lambda path: None), ("No such file", "source")),
    Case("a link to itself", INGEST, ingest(_link_to_itself), ("symbolic links",)),
    Case("a pipe", INGEST, ingest(lambda path: os.mkfifo(path)), ("is not a file",)),
    Case("a device", INGEST, ingest(lambda path: Path("/dev/zero")), ("is not a file",)),
    Case("a video called a folder", INGEST, ingest(lambda path: video(path), "folder://"), ("is not a folder",)),
    Case(
        "a video with unreadable packets",
        INGEST,
        ingest(_corrupt_middle),
        ("footage.mp4", "cannot be decoded"),
        0,
        is_partial=True,
    ),
    Case("a video cut in the middle", INGEST, ingest(_cut_video), ("footage.mp4",), 0, is_partial=True),
    Case("an empty folder", INGEST, pictures({}), ("no image in it", "camera of its own")),
    Case("a folder of folders", INGEST, _folder_of_folders, ("no image in it", "camera of its own")),
    Case("a folder of videos", INGEST, pictures({"a.mp4": b"", "b.mkv": b""}), ("no image in it", "a.mp4, b.mkv")),
    Case(
        "a folder of other files",
        INGEST,
        pictures({"a.txt": b"x", "b.gif": picture(0, "GIF")}),
        ("no image in it", ".png"),
    ),
    Case("text named .jpg", INGEST, pictures({"a.jpg": b"hello"}), ("a.jpg", "not a picture")),
    Case("a picture of no bytes", INGEST, pictures({"a.png": b""}), ("not one image", "file is empty")),
    Case("a JPEG that is cut off", INGEST, pictures({"a.jpg": picture()[:-20]}), ("the JPEG is cut off",)),
    Case("a PNG that is cut off", INGEST, pictures({"a.png": picture(0, "PNG")[:2000]}), ("a.png", "broken")),
    Case("a picture of 20000 x 20000", INGEST, pictures({"a.png": huge_png(20000)}), ("a.png", "more pixels")),
    Case("a picture of 3 x 48 pixels", INGEST, pictures({"a.png": picture(0, "PNG", width=3)}), ("too few",)),
    Case("a link out of the folder", INGEST, _link_out, ("a.jpg", "leads out of the folder")),
    Case("links in a circle", INGEST, _linked_loop, ("a.jpg", "in a circle")),
    Case("a pipe among the pictures", INGEST, _pipe_in_folder, ("a.jpg", "is not a file")),
    Case(
        "a broken picture among good ones",
        INGEST,
        pictures({"a.jpg": picture(1), "b.jpg": b"x"}),
        ("b.jpg",),
        0,
        is_partial=True,
    ),
    Case("a name that is not UTF-8", INGEST, pictures({b"\xff\xfe.jpg": b"hello"}), ("\\xff\\xfe.jpg",)),
    Case("a line break in a name", INGEST, pictures({"a\nError: b.jpg": b"hello"}), ("a\\nError: b.jpg",)),
    Case("a name of 255 bytes", INGEST, pictures({"a" * 251 + ".jpg": b"hello"}), ("aaaa.jpg", "not a picture")),
    Case("privacy without models", INGEST, _unanonymous, ("frames.face_model", "Set ITS_FRAMES__FACE_MODEL")),
    Case(
        "privacy with models of text",
        INGEST,
        _face_model_of_text,
        ("frames.face_model", "cannot load"),
        environment={"ITS_FRAMES__FACE_MODEL": "{folder}/face.onnx", "ITS_FRAMES__PLATE_MODEL": "{folder}/plate.onnx"},
    ),
    Case("a camera that nobody entered", INGEST, lambda place: ["frames", "ingest", "moon"], ("'moon'", "Known are")),
    Case(
        "a camera's name that climbs out",
        ADD,
        lambda place: ["camera", "add", "../../etc", "x.mp4"],
        ("lower-case letters",),
    ),
    Case(
        "an address of an unknown kind",
        ADD,
        lambda place: ["camera", "add", "a", "gopher://x"],
        ("'gopher' is not a kind of source", "rtsp://"),
    ),
    Case(
        "a port beyond 65535",
        ADD,
        lambda place: ["camera", "add", "a", "rtsp://camera:99999/stream"],
        ("Port out of range", "rtsp://host:554"),
    ),
    Case("an address without a host", ADD, lambda place: ["camera", "add", "a", "rtsp:///stream"], ("host",)),
    Case(
        "a start that is no time",
        ADD,
        lambda place: ["camera", "add", "a", "file:///x.mp4?start=soon"],
        ("start='soon' is not a time",),
    ),
    Case(
        "an option that is misspelt",
        ADD,
        lambda place: ["camera", "add", "a", "file:///x.mp4?strat=2026-05-01T08:00:00Z"],
        ("no option 'strat'", "start, weather"),
    ),
    Case(
        "times of names by no regular expression",
        ADD,
        lambda place: ["camera", "add", "a", "folder:///x?time=("],
        ("time='('", "not a regular expression"),
    ),
    Case(
        "an interval that is not a number",
        ADD,
        lambda place: ["camera", "add", "a", "x.mp4", "--interval", "nan"],
        ("sample_interval_s",),
    ),
    Case(
        "a name that is taken",
        ADD,
        lambda place: ["camera", "add", "north", "sim://junction"],
        ("another camera 'north'", "--replace"),
    ),
    Case("a source with a NUL", ADD, lambda place: ["camera", "add", "a", "x\x00.mp4"], ("NUL",)),
    Case("an empty source", ADD, lambda place: ["camera", "add", "a", ""], ("needs a source address",)),
)
