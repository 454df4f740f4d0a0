"""Real footage by the product's own commands: from folders of pictures and labels to a video with boxes from Triton."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from its_platform.settings import Settings

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.data, pytest.mark.timeout(1200)]

ITS = Path(sys.executable).with_name("its")
CLASSES = ["bike", "bus", "car", "truck"]
CAMERAS = {"fork": 75, "motorway": 34}
EVERY = 60


@dataclass(frozen=True)
class Home:
    """The `its` command in a home of its own."""

    settings: Settings
    environment: dict[str, str]

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        line = [str(ITS), *map(str, words)]
        return subprocess.run(line, env=self.environment, capture_output=True, text=True, timeout=600, check=False)

    def its(self, *words: object) -> Any:
        """What the command prints as JSON; fails unless it ends well."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, f"its {' '.join(map(str, words))}: {done.stderr[-2000:]}{done.stdout[-2000:]}"
        return json.loads(done.stdout)


@pytest.fixture
def home(settings: Settings, data_folder: Path, require: Callable[[bool, str], None]) -> Iterator[Home]:
    server = settings.environments / "tritonserver" / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    require(
        server.is_file() and (settings.environments / "triton" / "bin" / "python").exists(), "Triton's environments"
    )
    for needed in ("datasets/fixed_cameras/fork_day", "videos/ozlu_input.mp4", "models/yolov8n.pt"):
        if not (data_folder / needed).exists():
            pytest.skip(f"{needed} is missing at {data_folder}")
    chosen = {f"ITS_PORTS__{name.upper()}": str(port) for name, port in settings.ports.model_dump().items()}
    chosen |= {
        "ITS_HOME": str(settings.home),
        # What one epoch at 160 px learns is not the question here.
        "ITS_GATES__METRIC_FLOOR": "0",
        "ITS_GATES__MINIMUM_BOXES": "1",
        "ITS_FRAMES__FACE_MODEL": str(data_folder / "models" / "yunet_n_640_640.onnx"),
        "ITS_FRAMES__PLATE_MODEL": str(data_folder / "models" / "license-plate-yolo11n.onnx"),
    }
    made = Home(settings, {**os.environ, **chosen})
    yield made
    assert made.run("down").returncode == 0


def frames_of(video: Path, every: int = 1) -> list[np.ndarray]:
    with av.open(str(video)) as reading:
        return [f.to_ndarray(format="rgb24") for i, f in enumerate(reading.decode(video=0)) if i % every == 0]


def test_folders_of_pictures_and_labels_become_a_video_with_boxes_from_triton(home: Home, data_folder: Path) -> None:
    # Cameras come first: a home that nothing was started in has its tables at the first use.
    for name in CAMERAS:
        folder = data_folder / "datasets" / "fixed_cameras" / f"{name}_day"
        assert home.its("camera", "add", name, folder / "images")["new"]
    people = data_folder / "videos" / "opencv_vtest.avi"
    home.its("camera", "add", "plaza", people, "--privacy", "faces_and_plates", "--interval", 20)

    taken = {one["camera_id"]: one for one in home.its("frames", "ingest", "--all")["cameras"]}
    assert {name: taken[name]["added"] for name in CAMERAS} == CAMERAS
    assert taken["plaza"]["added"] == 4
    assert taken["plaza"]["hidden"] >= 4, "there are people in every one of its frames"
    assert sum(one["added"] for one in home.its("frames", "ingest", "--all")["cameras"]) == 0

    for name, count in CAMERAS.items():
        folder = data_folder / "datasets" / "fixed_cameras" / f"{name}_day"
        read = home.its("labels", "import", "yolo", folder, "--camera", name)
        assert (read["added"], read["refused"]) == (count, [])

    built = home.its("dataset", "build", "--classes", ",".join(CLASSES), "--cameras", ",".join(CAMERAS))
    assert set(built["counts"]) == {"train", "val", "test", "golden"}
    assert min(built["counts"].values()) > 0
    assert sum(built["counts"].values()) <= sum(CAMERAS.values())

    home.its("up", "--part", "triton")
    weights = data_folder / "models" / "yolov8n.pt"
    version = home.its("model", "train", "--weights", weights, "--epochs", 1, "--size", 160)["version"]
    assert home.its("release", "stage", version)["version"] == version
    judged = home.its("release", "judge", version)
    assert judged["is_passed"], judged["results"]
    assert home.its("release", "promote", version)["version"] == version

    source, out = data_folder / "videos" / "ozlu_input.mp4", home.settings.home / "out.mp4"
    found = home.its("detect", source, "--every", EVERY, "--confidence", 0.05, "--out", out)
    plain, drawn = frames_of(source, EVERY), frames_of(out)
    assert found["version"] == version
    assert found["frames"] == len(drawn) == len(plain) == len(found["findings"])
    boxes = [box for finding in found["findings"] for box in finding["boxes"]]
    assert boxes, "cars drive through the whole of this video"
    assert {box["class"] for box in boxes} <= set(CLASSES)
    height, width = plain[0].shape[:2]
    for x1, y1, x2, y2 in (box["box"] for box in boxes):
        assert -1 <= x1 < x2 <= width + 1
        assert -1 <= y1 < y2 <= height + 1
    fullest = max(range(len(drawn)), key=lambda i: len(found["findings"][i]["boxes"]))
    changed = np.abs(drawn[fullest].astype(int) - plain[fullest]).max(axis=2) > 60
    assert changed.mean() > 0.001, "boxes are drawn into the picture"

    home.its("down")
    refused = home.run("detect", source, "--every", EVERY, "--out", out)
    assert refused.returncode == 1, "without Triton there are no boxes"
    assert "Traceback" not in refused.stderr
