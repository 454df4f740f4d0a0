"""Ingest as several processes see it: at once, killed, and on real footage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from its_platform.cameras import add_camera
from its_platform.cameras.registry import make_camera
from its_platform.frames.expectations import check_frames
from its_platform.frames.index import FrameIndex
from its_platform.frames.ingest import ingest
from its_platform.simulation.timeline import append_segment
from its_platform.stores import Stores

START_INGEST = """
import sys
from its_platform.settings import load_settings
from its_platform.stores import open_stores
from its_platform.frames import ingest as ingesting
ingesting.BATCH_FRAMES = int(sys.argv[2])
result = ingesting.ingest(open_stores(load_settings()), sys.argv[1])
print(result.added, result.known, result.duplicates)
"""


@pytest.fixture
def start_ingest(stores: Stores) -> Callable[..., subprocess.Popen[str]]:
    def start(camera: str, batch: int = 5) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "ITS_HOME": str(stores.settings.home),
            "ITS_DATABASE_URL": str(stores.settings.database_url),
        }
        words = [sys.executable, "-c", START_INGEST, camera, str(batch)]
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def simulated(stores: Stores, seconds: float = 30) -> str:
    add_camera(stores, make_camera("s", "sim://junction"))
    append_segment(stores.settings, "day", "clear", seconds)
    return "s"


def keys_are_unique(stores: Stores) -> bool:
    return not FrameIndex(stores).query().duplicated(["camera_id", "captured_at"]).any()


@pytest.mark.slow
def test_two_ingests_of_the_same_footage_at_once_add_it_once(
    stores: Stores, start_ingest: Callable[..., subprocess.Popen[str]]
) -> None:
    camera = simulated(stores)
    running = [start_ingest(camera, batch=3) for _ in range(2)]
    answers = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0, 0], answers
    added = [int(out.split()[0]) for out, _ in answers]
    assert sum(added) == FrameIndex(stores).count() == 30
    assert keys_are_unique(stores)
    assert check_frames(stores).passed


@pytest.mark.slow
def test_a_killed_ingest_is_finished_by_the_next_without_duplicates(
    stores: Stores, start_ingest: Callable[..., subprocess.Popen[str]]
) -> None:
    camera = simulated(stores)
    process = start_ingest(camera, batch=4)
    index = FrameIndex(stores)
    deadline = time.monotonic() + 120
    while index.count() == 0 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    stored = index.count()
    assert 0 < stored < 30
    rest = ingest(stores, camera)
    assert rest.known == stored
    assert index.count() == 30
    assert keys_are_unique(stores)
    assert check_frames(stores).passed


@pytest.mark.data
@pytest.mark.slow
def test_real_footage_is_taken_in(stores: Stores, data_folder: Path) -> None:
    sources = {
        "ozlu": (data_folder / "videos" / "ozlu_input.mp4", 2.0, 19),
        "vtest": (data_folder / "videos" / "opencv_vtest.avi", 4.0, 20),
        "night": (data_folder / "datasets" / "fixed_cameras" / "highway_night" / "images", 1.0, 73),
    }
    for name, (path, interval, frames) in sources.items():
        add_camera(stores, make_camera(name, str(path), sample_interval_s=interval))
        result = ingest(stores, name)
        assert (result.added, result.duplicates, result.frozen, result.warnings) == (frames, 0, 0, ())
    lights = FrameIndex(stores).query().groupby("camera_id")["light"].agg(lambda light: light.mode()[0])
    assert lights.to_dict() == {"night": "night", "ozlu": "day", "vtest": "day"}
    assert check_frames(stores).passed


@pytest.mark.data
@pytest.mark.slow
def test_plates_of_real_footage_are_hidden_and_the_rest_is_not(stores: Stores, data_folder: Path) -> None:
    import numpy as np

    from its_platform.frames.ingest import load_image
    from its_platform.frames.sources import read_frames

    models = stores.settings.frames.model_copy(
        update={
            "face_model": data_folder / "models" / "yunet_n_640_640.onnx",
            "plate_model": data_folder / "models" / "license-plate-yolo11n.onnx",
        }
    )
    settings = stores.settings.model_copy(update={"frames": models})
    anonymous = Stores(settings=settings, objects=stores.objects, database=stores.database)
    source = f"file://{data_folder / 'videos' / 'intel_car-detection.mp4'}"
    camera = make_camera("top", source, privacy="faces_and_plates", sample_interval_s=6)
    add_camera(stores, camera)
    result = ingest(anonymous, "top")
    assert result.hidden > 0
    originals = [frame.image for frame in read_frames(camera, settings)]
    stored = [load_image(stores, key) for key in FrameIndex(stores).query()["object_key"]]
    changed = [(np.abs(a.astype(int) - b).max(axis=2) > 40).mean() for a, b in zip(originals, stored, strict=False)]
    assert max(changed) < 0.05
