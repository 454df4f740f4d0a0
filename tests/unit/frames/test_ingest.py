"""Footage into the store and the index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from its_platform.cameras import add_camera, remove_camera
from its_platform.cameras.registry import make_camera
from its_platform.errors import BadInput, NotFound, PermanentError
from its_platform.frames import ingest as ingesting
from its_platform.frames.frame import Frame
from its_platform.frames.images import content_hash
from its_platform.frames.index import FrameIndex
from its_platform.frames.ingest import has_new_footage, ingest, load_image
from its_platform.simulation.timeline import append_segment
from its_platform.stores import Stores
from its_platform.stores.keys import Owner
from its_platform.telemetry import correlation

Write = Callable[..., Path]
START = datetime(2026, 5, 1, 8, tzinfo=UTC)


@pytest.fixture
def video(stores: Stores, tmp_path: Path, write_video: Write) -> str:
    path = write_video(tmp_path / "a.mp4", frames=60)
    add_camera(stores, make_camera("a", f"file://{path}?start=2026-05-01T08:00:00Z", sample_interval_s=0.5))
    return "a"


def test_every_frame_has_a_row_and_an_object_named_by_its_content(stores: Stores, video: str) -> None:
    result = ingest(stores, video)
    rows = FrameIndex(stores).query()
    assert result.added == len(rows) == 12
    assert (result.first, result.last) == (START, START + timedelta(seconds=5.5))
    for row in rows.itertuples():
        data = stores.objects.get(row.object_key)
        assert content_hash(data) == row.frame_hash
        assert row.object_key == f"frames/a/2026-05-01/{row.frame_hash}.jpg"
    assert load_image(stores, rows.iloc[0].object_key).shape == (96, 160, 3)
    assert set(rows["light"]) == {"day"}
    assert (rows["width"][0], rows["height"][0]) == (160, 96)


def test_progress_ends_with_how_many_frames_there_were(stores: Stores, video: str) -> None:
    told: list[tuple[object, ...]] = []
    ingest(stores, video, progress=lambda *words: told.append(words))
    assert told[0] == ("ingest a", 1, 12, "1 new")
    assert told[-1] == ("ingest a", 12, 12, "12 new")


def test_the_same_footage_again_adds_nothing(stores: Stores, video: str) -> None:
    ingest(stores, video)
    version = FrameIndex(stores).version()
    again = ingest(stores, video)
    assert (again.added, again.known) == (0, 12)
    assert FrameIndex(stores).version() == version


def test_parts_in_any_order_give_what_the_whole_gives(stores: Stores, video: str, tmp_path: Path) -> None:
    for since, until in ((3, 6), (0, 2), (1, 4)):
        ingest(stores, video, START + timedelta(seconds=since), START + timedelta(seconds=until))
    parts = FrameIndex(stores).query()
    result = ingest(stores, video)
    assert result.added == 0
    assert len(parts) == 12
    assert parts["captured_at"].is_unique


def test_a_picture_that_goes_out_of_a_folder_with_a_start_makes_no_other_new(
    stores: Stores, tmp_path: Path, write_folder: Write
) -> None:
    """Its pictures are numbered from the start on, so that those behind it move in time."""
    folder = write_folder(tmp_path / "f", ["1.jpg", "2.jpg", "3.jpg", "4.jpg"])
    (folder / "2.jpg").write_bytes(b"")
    add_camera(stores, make_camera("f", f"folder://{folder}?start=2026-05-01T08:00:00Z"))
    assert (ingest(stores, "f").added, ingest(stores, "f").added) == (3, 0)
    (folder / "2.jpg").unlink()
    again = ingest(stores, "f")
    assert (again.added, again.known) == (0, 3)
    assert FrameIndex(stores).query()["frame_hash"].is_unique
    # Another start is said on purpose: these are other times, and the frames get them.
    add_camera(stores, make_camera("f", f"folder://{folder}?start=2026-06-01T08:00:00Z"), replace=True)
    assert ingest(stores, "f").added == 3


def test_an_interrupted_ingest_goes_on_without_duplicates(
    stores: Stores, video: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingesting, "BATCH_FRAMES", 3)
    whole = ingesting.read_frames

    def cut(*args: object, **named: object) -> Iterator[Frame]:
        for number, frame in enumerate(whole(*args, **named)):  # type: ignore[arg-type]
            if number == 7:
                raise KeyboardInterrupt
            yield frame

    monkeypatch.setattr(ingesting, "read_frames", cut)
    with pytest.raises(KeyboardInterrupt):
        ingest(stores, video)
    assert FrameIndex(stores).count() == 7
    monkeypatch.setattr(ingesting, "read_frames", whole)
    rest = ingest(stores, video)
    assert (rest.known, rest.added) == (7, 5)
    assert not FrameIndex(stores).query().duplicated(["camera_id", "captured_at"]).any()


def test_a_failed_write_of_an_object_leaves_no_row_without_one(
    stores: Stores, video: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = type(stores.objects).put

    def fail(self: object, key: str, data: bytes, owner: Owner | None = None) -> None:
        if key.rpartition("/")[2][0] in "01234567":
            raise OSError(28, "No space left on device")
        put(self, key, data, owner)  # type: ignore[arg-type]

    monkeypatch.setattr(type(stores.objects), "put", fail)
    with pytest.raises(OSError, match="space"):
        ingest(stores, video)
    assert all(stores.objects.exists(key) for key in FrameIndex(stores).query()["object_key"])
    monkeypatch.undo()
    ingest(stores, video)
    assert FrameIndex(stores).count() == 12


def test_a_broken_file_is_told_and_what_was_stored_stays(stores: Stores, video: str, tmp_path: Path) -> None:
    ingest(stores, video)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    add_camera(stores, make_camera("bad", str(tmp_path / "bad.mp4")))
    with pytest.raises(BadInput, match=r"bad\.mp4"):
        ingest(stores, "bad")
    assert FrameIndex(stores).count() == 12


def test_a_cut_file_is_taken_as_far_as_it_goes_with_a_warning(
    stores: Stores, tmp_path: Path, write_video: Write
) -> None:
    path = write_video(tmp_path / "cut.mp4", frames=200)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    add_camera(stores, make_camera("cut", str(path)))
    result = ingest(stores, "cut")
    assert result.added > 2
    assert "cut.mp4" in result.warnings[0]


class FakeSource:
    """Hands `ingest` the pictures of a test, one a second."""

    def __init__(self, pictures: list[np.ndarray]) -> None:
        self.pictures = pictures

    def __call__(self, camera: object, *args: object) -> Iterator[Frame]:
        for second, picture in enumerate(self.pictures):
            yield Frame("still", START + timedelta(seconds=second), picture)


def still(noise: float = 0.0, seed: int = 0, spot: int | None = None) -> np.ndarray:
    picture = np.random.default_rng(0).integers(90, 110, (18, 32, 3)).repeat(20, 0).repeat(20, 1).astype(float)
    if spot is not None:
        picture[100:120, spot : spot + 20] = 220
    noisy = picture + np.random.default_rng(seed).normal(0, noise, picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def take(stores: Stores, monkeypatch: pytest.MonkeyPatch, pictures: list[np.ndarray]) -> ingesting.IngestResult:
    add_camera(stores, make_camera("still", "sim://junction"))
    monkeypatch.setattr(ingesting, "read_frames", FakeSource(pictures))
    return ingest(stores, "still")


def test_a_frame_in_which_nothing_changed_is_dropped(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [still(6, seed, spot=40) for seed in range(5)] + [still(6, 9, spot=80)]
    result = take(stores, monkeypatch, pictures)
    assert (result.added, result.duplicates, result.frozen) == (2, 4, 0)


def test_what_comes_back_after_a_change_is_kept(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the last kept frame counts: an empty road between two cars is worth as much as the first one.
    result = take(stores, monkeypatch, [still(3, 1), still(3, 2, spot=40), still(3, 3)])
    assert (result.added, result.duplicates) == (3, 0)


def test_a_frozen_picture_with_a_running_clock_is_kept_and_flagged(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticking = [still() for _ in range(3)]
    for number, picture in enumerate(ticking):
        picture[8:24, 8 + 16 * number : 16 + 16 * number] = 255
    result = take(stores, monkeypatch, ticking)
    assert (result.added, result.frozen) == (3, 2)
    assert list(FrameIndex(stores).query()["is_frozen"]) == [False, True, True]


def test_a_stuck_camera_is_counted_though_nothing_is_stored(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    result = take(stores, monkeypatch, [still()] * 4)
    assert (result.added, result.duplicates, result.frozen) == (1, 3, 3)


def test_untimed_images_are_not_added_again_when_others_come_before_them(
    stores: Stores, tmp_path: Path, write_folder: Write
) -> None:
    folder = write_folder(tmp_path / "f", ["b.jpg", "c.jpg"], start=1)
    add_camera(stores, make_camera("f", str(folder)))
    assert ingest(stores, "f").added == 2
    write_folder(folder, ["a.jpg"], start=9)
    result = ingest(stores, "f")
    assert (result.added, result.known) == (1, 2)
    assert FrameIndex(stores).query()["frame_hash"].is_unique


def test_rejected_images_are_counted(stores: Stores, tmp_path: Path, write_folder: Write) -> None:
    folder = write_folder(tmp_path / "f", ["a.jpg"])
    (folder / "b.jpg").write_bytes(b"broken")
    add_camera(stores, make_camera("f", str(folder)))
    result = ingest(stores, "f")
    assert (result.added, result.rejected) == (1, 1)
    assert "b.jpg" in result.warnings[0]


def test_the_simulated_world_is_taken_in_as_far_as_it_reaches(stores: Stores) -> None:
    add_camera(stores, make_camera("s", "sim://junction", sample_interval_s=2))
    assert ingest(stores, "s").added == 0
    append_segment(stores.settings, "day", "clear", 4)
    assert has_new_footage(stores, "s")
    assert ingest(stores, "s").added == 2
    assert not has_new_footage(stores, "s")
    append_segment(stores.settings, "night", "fog", 4)
    assert has_new_footage(stores, "s")
    result = ingest(stores, "s")
    # What was taken in before is not rendered again.
    assert (result.added, result.known) == (2, 0)
    rows = FrameIndex(stores).query()
    assert list(rows["light"]) == ["day", "day", "night", "night"]
    assert list(rows["weather"]) == ["clear", "clear", "fog", "fog"]


@pytest.mark.parametrize("is_removed", [False, True])
def test_another_source_under_the_same_name_is_taken_in_from_its_start(stores: Stores, is_removed: bool) -> None:
    append_segment(stores.settings, "day", "clear", 4)
    add_camera(stores, make_camera("s", "sim://junction", sample_interval_s=2))
    assert ingest(stores, "s").added == 2
    if is_removed:
        remove_camera(stores, "s")
    add_camera(stores, make_camera("s", "sim://crossing", sample_interval_s=2), replace=True)
    assert has_new_footage(stores, "s")
    assert ingest(stores, "s").added == 2


def test_a_policy_that_cannot_be_kept_stops_the_ingest_before_anything_is_stored(stores: Stores) -> None:
    append_segment(stores.settings, "day", "clear", 4)
    add_camera(stores, make_camera("s", "sim://junction", privacy="faces_and_plates"))
    with pytest.raises(PermanentError, match=r"frames\.face_model and frames\.plate_model"):
        ingest(stores, "s")
    assert FrameIndex(stores).count() == 0
    assert list(stores.objects.list("frames/")) == []


def test_an_unknown_camera_is_told(stores: Stores) -> None:
    with pytest.raises(NotFound, match="nobody"):
        ingest(stores, "nobody")


def test_what_is_said_while_a_camera_is_taken_in_carries_its_name(
    stores: Stores, video: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, said = stores.objects.put, []

    def told_put(*asked: object) -> None:
        said.append(correlation())
        put(*asked)

    monkeypatch.setattr(stores.objects, "put", told_put)
    ingest(stores, video, progress=lambda *words: said.append(correlation()))
    assert len(said) == 12 + 13, "from the threads that write the objects too"
    assert {str(ids) for ids in said} == {"{'camera': 'a'}"}
    assert correlation() == {}


def test_a_camera_is_a_span_with_what_came_of_it(stores: Stores, video: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(told))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    ingest(stores, video)
    with pytest.raises(NotFound):
        ingest(stores, "nobody")
    well, ill = told.get_finished_spans()
    assert (well.name, dict(well.attributes or {})) == (
        "ingest",
        {"its.camera": "a", "its.added": 12, "its.duplicates": 0, "its.rejected": 0},
    )
    assert (well.status.is_ok, ill.status.is_ok) == (True, False)


def test_a_live_camera_never_has_new_footage_that_a_sensor_would_wait_for(stores: Stores) -> None:
    add_camera(stores, make_camera("gate", "rtsp://host/stream"))
    assert not has_new_footage(stores, "gate")
