"""Frames of the simulated world: that each is drawn once, whoever wants it, and the recorder's room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from its_platform import simulation
from its_platform.cameras import Camera, parse_address
from its_platform.frames import simulated
from its_platform.frames.frame import Frame
from its_platform.frames.simulated import read_simulated
from its_platform.settings import Settings, load_settings
from its_platform.simulation import append_segment

CAMERA = Camera(camera_id="junction", source="sim://junction", site="town", privacy="none", sample_interval_s=2.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = load_settings(home=tmp_path / "home")
    append_segment(found, "day", "clear", 6.0)
    return found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds of the world that were drawn."""
    seconds: list[float] = []
    render: Callable[..., Any] = simulation.render

    def counted(view: str, seed: int, at_s: float, *scene: str) -> Any:
        seconds.append(at_s)
        return render(view, seed, at_s, *scene)

    monkeypatch.setattr(simulation, "render", counted)
    return seconds


def read(settings: Settings, since: datetime | None = None) -> list[Frame]:
    return list(read_simulated(CAMERA, parse_address(CAMERA.source), settings, since))


def recorded(settings: Settings) -> list[Path]:
    return sorted((settings.home / "simulation" / "recorded").iterdir())


def test_a_frame_is_drawn_once_and_the_same_for_all(settings: Settings, drawn: list[float]) -> None:
    first, second = read(settings), read(settings)
    assert drawn == [0.0, 2.0, 4.0]
    assert [frame.jpeg for frame in first] == [frame.jpeg for frame in second]
    assert (first[1].image == second[1].image).all()
    assert len({frame.jpeg for frame in first}) == 3


def test_another_light_or_quality_is_another_frame(settings: Settings, drawn: list[float]) -> None:
    day = read(settings)[0]
    coarse = settings.model_copy(update={"frames": settings.frames.model_copy(update={"jpeg_quality": 30})})
    assert len(read(coarse)[0].jpeg or b"") < len(day.jpeg or b"")
    append_segment(settings, "night", "fog", 2.0)
    assert len(read(settings)) == 4
    assert drawn == [0.0, 2.0, 4.0, 0.0, 2.0, 4.0, 6.0]


def test_the_oldest_make_room(settings: Settings, drawn: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "MOST_RECORDED", 2)
    frames = read(settings)
    assert len(recorded(settings)) == 3
    again = read(settings)
    assert [frame.jpeg for frame in again] == [frame.jpeg for frame in frames]
    assert drawn == [0.0, 2.0, 4.0, 0.0, 2.0], "the newest was kept"


def test_without_room_each_reader_draws(
    settings: Settings, drawn: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert [frame.jpeg for frame in read(settings)] == [frame.jpeg for frame in read(settings)]
    assert drawn == [0.0, 2.0, 4.0] * 2
    assert recorded(settings) == []
