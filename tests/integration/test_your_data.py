"""The page `docs/your-data.md` on real footage: its commands in its order, from an empty home to boxes from Triton."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import yaml

from its_platform.cli.output import PIPE_COLUMNS
from its_platform.frames.images import decode
from its_platform.settings import Settings

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.data, pytest.mark.timeout(1500)]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "your-data.md"
ITS = Path(sys.executable).with_name("its")
PLACES = {
    "/footage/fixed_cameras": "datasets/fixed_cameras",
    "/footage/videos": "videos",
    "/models": "models",
}
PICTURES = {"fork": 75, "boulevard": 66, "motorway": 34, "night": 73}
EVERY = 60


@dataclass(frozen=True)
class Step:
    """A command of the page, and what it shows of its output."""

    command: str
    shown: str


def steps_of(page: str) -> list[Step]:
    """The commands (`$ …`) of the page's console blocks, in order, each with the lines that follow it."""
    steps: list[Step] = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.S | re.M):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, shown = part.partition("\n")
            steps.append(Step(command.strip(), shown))
    return steps


def names_shown(output: str) -> set[str]:
    """What a printed table calls its columns, or its facts where it has two columns of facts."""
    names: set[str] = set()
    for line in output.splitlines():
        cells = [cell.strip() for cell in re.split("[┃│]", line)[1:-1]]
        if line.lstrip().startswith("┃"):
            names |= set(cells)
        elif len(cells) == 2 and "fact" in names:
            names.add(cells[0])
    return names


@dataclass(frozen=True)
class Person:
    """Someone who types what the page says, in a folder and a home of their own."""

    home: Path
    folder: Path
    data: Path
    environment: dict[str, str]

    def here(self, text: str) -> str:
        named = "|".join(map(re.escape, PLACES))
        return re.sub(rf"(?<![\w/])({named})(?=/)", lambda found: str(self.data / PLACES[found[1]]), text)

    def types(self, command: str) -> subprocess.CompletedProcess[str]:
        words = shlex.split(self.here(command))
        assert words[0] == "its", f"the page has another command: {command}"
        return subprocess.run(
            [str(ITS), *words[1:]],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def asks(self, command: str) -> Any:
        done = self.types(f"{command} --json")
        assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
        return json.loads(done.stdout)


@pytest.fixture
def person(
    settings: Settings, data_folder: Path, tmp_path: Path, require: Callable[[bool, str], None]
) -> Iterator[Person]:
    server = settings.environments / "tritonserver" / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    require(
        server.is_file() and (settings.environments / "triton" / "bin" / "python").exists(), "Triton's environments"
    )
    for needed in ("datasets/fixed_cameras", "videos/ozlu_input.mp4", "videos/opencv_vtest.avi", "models/yolov8n.pt"):
        if not (data_folder / needed).exists():
            pytest.skip(f"{needed} is missing at {data_folder}")
    chosen = {f"ITS_PORTS__{name.upper()}": str(port) for name, port in settings.ports.model_dump().items()}
    chosen |= {
        "ITS_HOME": str(settings.home),
        "COLUMNS": str(PIPE_COLUMNS),
        # What one epoch at 160 px learns is not the question here.
        "ITS_TRAINING__EPOCHS": "1",
        "ITS_TRAINING__IMAGE_SIZE": "160",
        "ITS_GATES__REAL_FLOOR": "0",
        "ITS_GATES__CLASS_FLOOR": "0",
        "ITS_GATES__CALIBRATION_ERROR": "1",
        "ITS_GATES__MINIMUM_BOXES": "1",
    }
    folder = tmp_path / "person"
    folder.mkdir()
    made = Person(settings.home, folder, data_folder, {**os.environ, **chosen})
    yield made
    assert made.types("its down").returncode == 0


def frames_of(video: Path, every: int = 1) -> list[np.ndarray]:
    with av.open(str(video)) as reading:
        return [f.to_ndarray(format="rgb24") for i, f in enumerate(reading.decode(video=0)) if i % every == 0]


def check_what_is_stored(person: Person) -> None:
    stats = person.asks("its frames stats")
    frames: dict[str, int] = {}
    for row in stats:
        frames[row["camera_id"]] = frames.get(row["camera_id"], 0) + row["frames"]
    assert frames == {**PICTURES, "suburb": 19, "plaza": 4}
    again = person.asks("its frames ingest --all")["cameras"]
    assert sum(one["added"] for one in again) == 0
    labelled = person.asks("its labels stats")
    assert (labelled["frames"], labelled["frames_fit_to_judge"]) == (
        sum(PICTURES.values()) + 19,
        sum(PICTURES.values()),
    )
    assert labelled["by_origin"]["model"] > 19, "yolov8n finds cars in this video"
    card = person.asks("its dataset show")
    assert set(card["statistics"]["frames"]) == {"train", "val", "test", "golden"}
    assert min(card["statistics"]["frames"].values()) > 0
    for name in ("frames.png", "labels.png", "splits.png", "sample.png"):
        picture = decode((person.folder / name).read_bytes(), name)
        assert picture.std() > 10, f"{name} shows something"


def check_boxes(person: Person, classes: set[str]) -> None:
    source, out = person.data / "videos" / "ozlu_input.mp4", person.folder / "out.mp4"
    found = person.asks(f"its detect /footage/videos/ozlu_input.mp4 --every {EVERY} --confidence 0.05 --out {out}")
    plain, drawn = frames_of(source, EVERY), frames_of(out)
    assert found["version"] == 1
    assert found["frames"] == len(drawn) == len(plain) == len(found["findings"])
    boxes = [box for finding in found["findings"] for box in finding["boxes"]]
    assert boxes, "cars drive through the whole of this video"
    assert {box["class"] for box in boxes} <= classes
    height, width = plain[0].shape[:2]
    for x1, y1, x2, y2 in (box["box"] for box in boxes):
        assert -1 <= x1 < x2 <= width + 1
        assert -1 <= y1 < y2 <= height + 1
    fullest = max(range(len(drawn)), key=lambda i: len(found["findings"][i]["boxes"]))
    changed = np.abs(drawn[fullest].astype(int) - plain[fullest]).max(axis=2) > 60
    assert changed.mean() > 0.001, "boxes are drawn into the picture"
    assert len(frames_of(person.folder / "suburb.mp4")) == 302


def test_the_page_leads_from_footage_to_boxes_from_triton(person: Person) -> None:
    page = PAGE.read_text("utf-8")
    (written,) = re.findall(r"^```yaml\n(.*?)^```", page, re.S | re.M)
    person.home.mkdir(parents=True, exist_ok=True)
    (person.home / "settings.yaml").write_text(person.here(written), "utf-8")
    steps = steps_of(page)
    assert steps[-1].command == "its down"

    for step in steps[:-1]:
        done = person.types(step.command)
        assert done.returncode == 0, f"{step.command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert names_shown(step.shown) <= names_shown(done.stdout), f"the page shows other output of {step.command}"

    check_what_is_stored(person)
    check_boxes(person, set(yaml.safe_load(written)["classes"]))

    assert person.types(steps[-1].command).returncode == 0
    refused = person.types(
        f"its detect /footage/videos/ozlu_input.mp4 --every {EVERY} --out {person.folder / 'no.mp4'}"
    )
    assert refused.returncode == 1, "without Triton there are no boxes"
    assert "Traceback" not in refused.stderr
