"""Frames and their boxes: the same for the same seed, tight, large enough, and true to the picture."""

from __future__ import annotations

import numpy as np
import pytest

from its_platform.errors import BadInput, NotFound
from its_platform.simulation import LIGHTS, WEATHERS, render, truth, view_named, views
from its_platform.simulation.ground import scene_of
from its_platform.simulation.renderer import SMALLEST_PX, _bodies, _owners
from its_platform.simulation.roads import CLASSES

SEED = 5
MOMENTS = [60.0 + 17.3 * i for i in range(8)]


def test_the_same_seed_gives_the_same_frame_in_any_order() -> None:
    first = render("junction", SEED, 61.0, "night", "rain")
    render("junction", SEED, 3000.0)
    render("junction", SEED + 1, 61.0)
    again = render("junction", SEED, 61.0, "night", "rain")
    assert np.array_equal(first.image, again.image)
    assert first.boxes == again.boxes


def test_another_seed_or_another_moment_gives_another_frame() -> None:
    image = render("motorway", SEED, 61.0).image
    assert not np.array_equal(image, render("motorway", SEED + 1, 61.0).image)
    assert not np.array_equal(image, render("motorway", SEED, 61.2).image)


@pytest.mark.parametrize("view", views())
def test_frames_have_the_shape_and_the_boxes_lie_inside_and_are_large_enough(view: str) -> None:
    found = 0
    for at_s in MOMENTS:
        frame = render(view, SEED, at_s)
        assert frame.image.shape == (360, 640, 3)
        assert frame.image.dtype == np.uint8
        for box in frame.boxes:
            assert 0 <= box.x1 < box.x2 <= 640
            assert 0 <= box.y1 < box.y2 <= 360
            assert box.x2 - box.x1 >= SMALLEST_PX
            assert box.y2 - box.y1 >= SMALLEST_PX
            assert box.class_name in CLASSES
        found += len(frame.boxes)
    assert found >= 2 * len(MOMENTS)


@pytest.mark.parametrize("view", views())
def test_a_box_ends_where_its_body_is_seen_to_end(view: str) -> None:
    seen = view_named(view)
    for at_s in MOMENTS[:3]:
        bodies = _bodies(seen, SEED, at_s)
        owners = _owners(bodies, scene_of(seen).sprites)
        index = {body.traveller.track_id: i for i, body in enumerate(bodies)}
        for box in truth(view, SEED, at_s):
            rows, columns = np.nonzero(owners == index[box.track_id] + 1)
            assert (box.x1, box.y1) == (columns.min(), rows.min())
            assert (box.x2, box.y2) == (columns.max() + 1, rows.max() + 1)


def test_few_bodies_stand_whole_in_the_picture_without_a_box() -> None:
    whole = unlabelled = 0
    for view in views():
        seen = view_named(view)
        for at_s in MOMENTS:
            bodies = _bodies(seen, SEED, at_s)
            owners = _owners(bodies, scene_of(seen).sprites)
            labelled = {box.track_id for box in truth(view, SEED, at_s)}
            for index, body in enumerate(bodies):
                is_inside = (body.pixels.min(0) > 0).all() and (body.pixels.max(0) < (640, 360)).all()
                if is_inside and (owners == index + 1).any():
                    whole += 1
                    unlabelled += body.traveller.track_id not in labelled
    assert whole > 60
    assert unlabelled / whole < 0.1


def test_truth_without_a_picture_is_the_pictures_truth_under_every_condition() -> None:
    boxes = truth("crossing", SEED, 77.0)
    assert boxes
    for light in LIGHTS:
        for weather in WEATHERS:
            assert render("crossing", SEED, 77.0, light, weather).boxes == boxes


def test_night_is_darker_than_day_and_fog_has_less_contrast() -> None:
    day = render("boulevard", SEED, 80.0, "day", "clear").image.astype(float)
    dusk = render("boulevard", SEED, 80.0, "dusk", "clear").image.astype(float)
    night = render("boulevard", SEED, 80.0, "night", "clear").image.astype(float)
    fog = render("boulevard", SEED, 80.0, "day", "fog").image.astype(float)
    assert day.mean() > dusk.mean() + 15
    assert dusk.mean() > night.mean() + 12
    assert fog.std() < 0.75 * day.std()


def test_the_sensor_is_noisier_at_night() -> None:
    def grain(light: str) -> float:
        image = render("motorway", SEED, 80.0, light, "clear").image.astype(float).mean(2)
        corner = image[300:350, 20:70]
        return float(np.abs(np.diff(corner, axis=1)).mean() / corner.mean())

    assert grain("night") > 2 * grain("day")


def test_head_lamps_shine_at_night_where_the_day_is_dull() -> None:
    brightest = 0.0
    for at_s in MOMENTS:
        night = render("motorway", SEED, at_s, "night", "clear").image.max(2)
        brightest = max(brightest, float((night > 235).mean()))
    assert brightest > 0.0001


def test_every_class_is_seen_by_the_demos_cameras() -> None:
    seen = {box.class_name for view in views() for i in range(25) for box in truth(view, SEED, 40 + 9.7 * i)}
    assert seen == set(CLASSES)


def test_an_unknown_view_light_or_weather_is_refused() -> None:
    with pytest.raises(NotFound, match="nowhere"):
        render("nowhere", 1, 0.0)
    with pytest.raises(BadInput, match="noon"):
        render("junction", 1, 0.0, "noon", "clear")
    with pytest.raises(BadInput, match="snow"):
        render("junction", 1, 0.0, "day", "snow")


def test_numbered_cameras_are_others_than_the_demos() -> None:
    demo = {view_named(name).camera for name in views()}
    numbered = [view_named(f"camera-{n}") for n in range(12)]
    assert len({v.camera for v in numbered} | demo) == 12 + len(demo)
    assert {v.layout.kind for v in numbered} == set(views())
