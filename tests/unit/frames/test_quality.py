"""Figures, light, and what counts as a change."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from its_platform.frames import quality
from its_platform.frames.images import decode, encode
from its_platform.settings import REPOSITORY, FrameSettings
from its_platform.simulation import render


def grey(value: float, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(value + rng.normal(0, noise, (360, 640, 3)), 0, 255).astype(np.uint8)


def textured(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(40, 200, (45, 80, 3), np.uint8), (640, 360), interpolation=cv2.INTER_NEAREST)


def test_brightness_and_exposure_are_shares() -> None:
    half = grey(0)
    half[:, 320:] = 255
    figures = quality.figures(half)
    assert figures["brightness"] == pytest.approx(0.5, abs=0.01)
    assert figures["contrast"] == pytest.approx(0.5, abs=0.01)
    assert figures["overexposed"] == pytest.approx(0.5, abs=0.01)
    assert figures["underexposed"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("sigma", [0, 2, 5, 10, 20])
def test_noise_is_the_sigma_that_was_added(sigma: float) -> None:
    assert quality.figures(grey(120, sigma))["noise"] == pytest.approx(sigma, abs=0.15 + 0.05 * sigma)


def test_texture_is_not_noise() -> None:
    assert quality.figures(textured())["noise"] < 1.0


def test_a_blurred_picture_is_less_sharp() -> None:
    crisp = textured()
    blurred = cv2.GaussianBlur(crisp, (0, 0), 4)
    assert quality.figures(blurred)["sharpness"] < quality.figures(crisp)["sharpness"] - 1


@pytest.mark.parametrize("shape", [(16, 16), (1080, 1920), (90, 2000), (1500, 40)])
def test_any_shape_has_finite_figures(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    assert all(np.isfinite(value) for value in quality.figures(image).values())


@pytest.mark.parametrize("weather", ["clear", "rain", "fog"])
@pytest.mark.parametrize("light", ["day", "night"])
@pytest.mark.parametrize("view", ["junction", "motorway", "crossing"])
def test_the_simulated_light_is_told_in_each_weather(view: str, light: str, weather: str) -> None:
    image = decode(encode(render(view, 3, 100.0, light, weather).image, 92))
    assert quality.light_of(quality.figures(image)) == light


def test_simulated_dusk_is_neither() -> None:
    assert quality.light_of(quality.figures(render("junction", 3, 100.0, "dusk", "clear").image)) == "dusk"


def test_the_figures_need_numpy_and_opencv_alone() -> None:
    code = (
        "import sys, importlib.util as u\n"
        f"spec = u.spec_from_file_location('picture', {str(quality.PICTURE_MODULE)!r})\n"
        "module = u.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "print([n for n in sys.modules if n.split('.')[0] in ('its_platform', 'pandas', 'scipy', 'PIL', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "[]"


def unchanged_share() -> float:
    return FrameSettings().duplicate_changed_share


def stored(image: np.ndarray) -> np.ndarray:
    return decode(encode(image, 92))


@pytest.mark.parametrize("noise", [0, 3, 8, 15])
def test_noise_and_compression_are_no_change(noise: float) -> None:
    base = textured().astype(float)
    first, second = (
        stored(np.clip(base + np.random.default_rng(i).normal(0, noise, base.shape), 0, 255).astype(np.uint8))
        for i in (1, 2)
    )
    assert quality.measure(second, first).changed_share < unchanged_share()


@pytest.mark.parametrize("noise", [0, 3, 8])
def test_a_lone_pedestrian_is_a_change(noise: float) -> None:
    base = np.full((360, 640, 3), 60.0)
    walked = base.copy()
    base[200:224, 100:110] = 100
    walked[200:224, 130:140] = 100
    first, second = (
        stored(np.clip(p + np.random.default_rng(i).normal(0, noise, p.shape), 0, 255).astype(np.uint8))
        for i, p in enumerate((base, walked))
    )
    assert quality.measure(second, first).changed_share >= unchanged_share()


def test_a_lone_simulated_pedestrian_in_fog_by_night_is_a_change() -> None:
    first, second = (stored(render("crossing", 7, t, "night", "fog").image) for t in (114.0, 115.0))
    assert quality.measure(second, first).changed_share >= unchanged_share()


def test_a_picture_that_stands_still_has_no_difference() -> None:
    frozen = stored(textured())
    assert quality.measure(frozen, frozen).difference < FrameSettings().frozen_difference
    live = stored(np.clip(textured() + np.random.default_rng(1).normal(0, 2, (360, 640, 3)), 0, 255).astype(np.uint8))
    assert quality.measure(live, frozen).difference > FrameSettings().frozen_difference


def test_a_picture_of_another_shape_has_changed_entirely() -> None:
    assert quality.measure(textured(), textured()[:300]).changed_share == 1.0


def test_the_first_picture_has_nothing_to_compare_with() -> None:
    measured = quality.measure(textured())
    assert measured.difference is None
    assert measured.changed_share is None


@pytest.mark.parametrize("size", [3843, 3844])
def test_the_median_that_is_counted_is_the_median(size: int) -> None:
    values = np.random.default_rng(0).integers(0, 300, (4, size)).astype(np.int16)
    values[3] = 7
    assert quality._picture()._medians(values) == pytest.approx(np.median(values, axis=1))


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1440, 900), (2561, 1441)])
def test_the_signature_of_a_large_picture_sees_each_of_its_pixels(width: int, height: int) -> None:
    picture = np.full((height, width, 3), 120, np.uint8)
    plain = quality.signature(picture, 0.0)
    assert plain.grey.shape == (round(height * 640 / width), 640)
    rng = np.random.default_rng(0)
    for x, y in zip(rng.integers(8, width - 8, 20), rng.integers(8, height - 8, 20), strict=True):
        spotted = picture.copy()
        spotted[y : y + 2, x : x + 2] = 255
        assert (quality.signature(spotted, 0.0).grey != plain.grey).any(), (x, y)
