"""Files through the detector: what is written, in which order, and what a bad file leaves behind."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from its_platform.detections import Detections
from its_platform.errors import BadInput
from its_platform.serving import detect
from its_platform.serving.client import Answer, ModelRefused
from its_platform.serving.detect import Asked, default_out, detect_file
from its_platform.serving.drawing import class_colour, draw_detections
from its_platform.settings import Settings


class FakeClient:
    """Finds one box whose left edge is the picture's own brightness; later requests answer sooner."""

    asked: list[dict[str, Any]] = []
    shapes: list[tuple[int, ...]] = []
    is_serving = True

    def __init__(self, settings: Settings, endpoints: Sequence[str]) -> None:
        type(self).asked, type(self).shapes = [], []

    async def __aenter__(self) -> FakeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def detect(self, image: Any, camera_id: str, **asked: Any) -> Answer:
        self.asked.append(asked)
        self.shapes.append(image.shape)
        if not self.is_serving:
            raise ModelRefused("no detector is served at stage 'production' (served: none)")
        await asyncio.sleep(0.02 / len(self.asked))
        box = np.array([[float(image[2, 2].mean()), 10, 200, 40]], np.float32)
        return Answer([Detections(box, np.array([0.8], np.float32), np.array([0], np.int32))], 3, "detector")


@pytest.fixture(autouse=True)
def _fake_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detect, "DetectorClient", FakeClient)
    monkeypatch.setattr(FakeClient, "is_serving", True)


def write_video(path: Path, frames: int, rate: int = 12, size: tuple[int, int] = (65, 97)) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = size[0] // 2 * 2, size[1] // 2 * 2, "yuv420p"
        for index in range(frames):
            image = np.full((stream.height, stream.width, 3), index * 10 % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_picture(path: Path) -> Path:
    cv2.imwrite(str(path), np.full((60, 80, 3), 50, np.uint8))
    return path


def test_a_video_keeps_its_frames_their_order_and_their_rate(settings: Settings, tmp_path: Path) -> None:
    source = write_video(tmp_path / "road.avi", 20)
    result = detect_file(settings, source)
    assert result.out == tmp_path / "road.detected.mp4"
    assert (result.frames, result.detections, result.version) == (20, 20, 3)
    lefts = [finding.boxes[0]["box"][0] for finding in result.findings]
    assert lefts == sorted(lefts)
    with av.open(str(result.out)) as written:
        stream = written.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == Fraction(12)
        assert len(list(written.decode(stream))) == 20


def test_each_nth_frame_keeps_the_pace_of_the_video(settings: Settings, tmp_path: Path) -> None:
    result = detect_file(settings, write_video(tmp_path / "road.mp4", 20), every=4)
    assert result.frames == 5
    with av.open(str(result.out)) as written:
        assert written.streams.video[0].average_rate == Fraction(3)


def test_a_picture_is_written_beside_itself_with_its_boxes(settings: Settings, tmp_path: Path) -> None:
    source = write_picture(tmp_path / "road.png")
    result = detect_file(settings, source)
    assert result.out == tmp_path / "road.detected.png"
    assert (cv2.imread(str(result.out)) != cv2.imread(str(source))).any()
    assert source.read_bytes() == write_picture(tmp_path / "same.png").read_bytes()


def test_a_folder_becomes_a_folder(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "day"
    folder.mkdir()
    for name in ("b.png", "a.jpg"):
        write_picture(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    result = detect_file(settings, folder)
    assert sorted(path.name for path in result.out.iterdir()) == ["a.jpg", "b.png"]
    assert [finding.source for finding in result.findings] == ["a.jpg", "b.png"]


def test_what_was_asked_reaches_the_front_and_is_not_called_live(settings: Settings, tmp_path: Path) -> None:
    detect_file(settings, write_picture(tmp_path / "a.png"), asked=Asked(stage="staging", confidence=0.1))
    (asked,) = FakeClient.asked
    assert (asked["stage"], asked["confidence"]) == ("staging", 0.1)
    assert asked["purpose"] != "live"


def test_an_upright_phone_video_is_detected_and_written_upright(settings: Settings, tmp_path: Path) -> None:
    source = write_video(tmp_path / "phone.mp4", 3)
    data = bytearray(source.read_bytes())
    # Rows a, b, u, c, d, v, x, y, w of the track's matrix, 40 bytes behind the name of its box: a quarter clockwise.
    upright = (0, 1 << 16, 0, -(1 << 16), 0, 0, 64 << 16, 0, 1 << 30)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 44, *upright)
    source.write_bytes(data)
    result = detect_file(settings, source)
    assert FakeClient.shapes == [(96, 64, 3)] * 3
    with av.open(str(result.out)) as written:
        context = written.streams.video[0].codec_context
        assert (context.height, context.width) == (96, 64)


def test_a_jpeg_that_is_cut_off_is_refused(settings: Settings, tmp_path: Path) -> None:
    source = write_picture(tmp_path / "cut.jpg")
    source.write_bytes(source.read_bytes()[:-20])
    with pytest.raises(BadInput, match="the JPEG is cut off"):
        detect_file(settings, source)
    assert FakeClient.asked == []


def test_what_cannot_be_read_in_a_folder_is_told_and_the_rest_is_detected(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "day"
    folder.mkdir()
    cut = write_picture(folder / "a.jpg")
    cut.write_bytes(cut.read_bytes()[:-20])
    os.mkfifo(folder / "b.jpg")
    (folder / "c.png").symlink_to(write_picture(tmp_path / "secret.png"))
    write_picture(folder / "d10.png")
    write_picture(folder / "d2.png")
    result = detect_file(settings, folder)
    assert [finding.source for finding in result.findings] == ["d2.png", "d10.png"]
    assert [told.rpartition(": ")[2] for told in result.problems] == [
        "the JPEG is cut off.",
        f"{folder / 'b.jpg'} is not a file.",
        "the link leads out of the folder.",
    ]


def test_a_folder_of_which_nothing_can_be_read_leaves_no_output(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "day"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"neither")
    with pytest.raises(BadInput, match=r"not one image can be used: a\.jpg"):
        detect_file(settings, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["day"]


def test_a_picture_that_is_named_itself_may_be_a_link(settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "links"
    folder.mkdir()
    link = folder / "a.png"
    link.symlink_to(write_picture(tmp_path / "road.png"))
    assert detect_file(settings, link).frames == 1


def test_a_cut_video_is_detected_as_far_as_it_goes_and_says_so(settings: Settings, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "road.avi", 60)
    assert detect_file(settings, whole).problems == []
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    result = detect_file(settings, cut)
    assert 0 < result.frames < 60
    assert any("the video ends at" in told for told in result.problems)


@pytest.mark.parametrize("name", ["cut.mp4", "cut.png"])
def test_a_file_that_cannot_be_read_leaves_no_output(settings: Settings, tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    source.write_bytes(b"\x00\x01 this is neither")
    with pytest.raises(BadInput, match="can be read"):
        detect_file(settings, source)
    assert list(tmp_path.glob("*detected*")) + list(tmp_path.glob("*part*")) == []


def test_a_failure_on_the_way_leaves_no_half_video(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeClient, "is_serving", False)
    source = write_video(tmp_path / "road.mp4", 5)
    with pytest.raises(ModelRefused) as caught:
        detect_file(settings, source)
    assert "its release promote" in caught.value.hint
    assert [path.name for path in tmp_path.glob("*road*")] == ["road.mp4"]


def test_what_is_not_there_is_bad_input(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "nothing.mp4", tmp_path / "empty"):
        with pytest.raises(BadInput):
            detect_file(settings, source)


def test_default_names_keep_the_kind_of_file(tmp_path: Path) -> None:
    assert default_out(Path("a/road.avi")) == Path("a/road.detected.mp4")
    assert default_out(Path("a/road.JPG")) == Path("a/road.detected.JPG")
    assert default_out(tmp_path).name == f"{tmp_path.name}.detected"


def test_boxes_are_drawn_in_the_colour_of_their_class_on_a_copy() -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    boxes = np.array([[20, 40, 100, 90], [-5, 2, 400, 60]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.4], np.float32), np.array([1, 9], np.int32))
    drawn = draw_detections(image, found, ["car", "bus"])
    assert image.max() == 0
    assert tuple(drawn[90, 60]) == class_colour(1)


def test_classes_next_to_each_other_look_different() -> None:
    colours = [np.array(class_colour(index)) for index in range(7)]
    assert min(np.abs(a - b).sum() for i, a in enumerate(colours) for b in colours[:i]) > 60
