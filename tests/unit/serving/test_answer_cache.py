"""Identical pictures are answered from memory, within bounds, and never by another version's rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from its_platform.errors import BadInput
from its_platform.serving.repository import cache_counts, state_folder
from its_platform.settings import Settings

Front = Callable[[str], ModuleType]
PICTURES = np.random.default_rng(0).integers(0, 255, (3, 20, 30, 3), dtype=np.uint8)


class Site:
    """A cache over a folder of detectors, and a detector that counts the pictures that it was given."""

    def __init__(self, front: Front, folder: Path, most_bytes: int = 100_000, redis: Any = None) -> None:
        self.module = front("answer_cache")
        self.folder = folder
        self.detected = 0
        self.route = front("routing").Route("production", "detector", 7, 320, ("car", "bus"), (0.5, 0.25))
        self.place(7, "abc")
        self.cache = self.module.AnswerCache(folder, folder / "answer_cache.json", most_bytes, redis)

    def place(self, version: int, digest: str) -> None:
        path = self.folder / "detector" / str(version) / "version.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(json.dumps({"onnx_digest": digest}))

    def detect(self, images: Any) -> list[Any]:
        self.detected += len(images)
        return [np.full((2, 6), float(image.mean()), np.float32) for image in images]

    def ask(self, images: Any, **changed: Any) -> tuple[list[Any], list[bool]]:
        found: tuple[list[Any], list[bool]] = self.cache.rows(replace(self.route, **changed), images, self.detect)
        return found

    def counts(self) -> dict[str, int]:
        self.cache.close()
        found: dict[str, int] = json.loads((self.folder / "answer_cache.json").read_text())["counts"]
        return found


@pytest.fixture
def site(front: Front, tmp_path: Path) -> Site:
    return Site(front, tmp_path)


def test_only_pictures_that_were_not_seen_before_are_detected(site: Site) -> None:
    first, are_cached = site.ask(PICTURES[:2])
    assert are_cached == [False, False]
    again, are_cached = site.ask(PICTURES)
    assert are_cached == [True, True, False]
    assert site.detected == 3
    for rows, same in zip(first, again[:2], strict=True):
        assert np.array_equal(rows, same)
    assert float(again[2][0, 0]) == pytest.approx(float(PICTURES[2].mean()))
    assert site.counts() == {"misses": 3, "hits_memory": 2}


def test_one_pixel_makes_another_picture(site: Site) -> None:
    site.ask(PICTURES[:1])
    other = PICTURES[:1].copy()
    other[0, 19, 29, 2] ^= 1
    assert site.ask(other)[1] == [False]
    assert site.ask(PICTURES[:1].reshape(1, 30, 20, 3))[1] == [False], "the same bytes in another shape"


@pytest.mark.parametrize(
    "changed",
    [{"version": 8}, {"thresholds": (0.6, 0.25)}, {"image_size": 640}, {"classes": ("bus", "car")}, {"model": "other"}],
)
def test_no_version_is_answered_by_anothers_rows(site: Site, changed: dict[str, Any]) -> None:
    site.place(8, "abc")
    (site.folder / "other" / "7").mkdir(parents=True)
    (site.folder / "other" / "7" / "version.json").write_text(json.dumps({"onnx_digest": "abc"}))
    site.ask(PICTURES[:1])
    assert site.ask(PICTURES[:1], **changed)[1] == [False]


def test_the_same_version_answers_alike_at_each_stage(site: Site) -> None:
    site.ask(PICTURES[:1])
    assert site.ask(PICTURES[:1], stage="canary")[1] == [True]


def test_another_file_under_the_same_number_is_another_model(site: Site) -> None:
    site.ask(PICTURES[:1])
    site.place(7, "def")
    assert site.ask(PICTURES[:1])[1] == [False]


def test_a_model_whose_file_is_not_known_is_never_answered_from_memory(site: Site) -> None:
    (site.folder / "detector" / "7" / "version.json").unlink()
    assert [site.ask(PICTURES[:1])[1] for _ in range(2)] == [[False], [False]]
    assert site.detected == 2


def test_memory_is_bounded_and_the_longest_unused_leave(front: Front, tmp_path: Path) -> None:
    size = 2 * 6 * 4 + front("answer_cache").ENTRY_BYTES
    site = Site(front, tmp_path, most_bytes=2 * size)
    site.ask(PICTURES[:1])
    site.ask(PICTURES[1:2])
    site.ask(PICTURES[:1])
    site.ask(PICTURES[2:])
    assert site.ask(PICTURES[:1])[1] == [True]
    assert site.ask(PICTURES[1:2])[1] == [False]
    assert site.cache._bytes <= 2 * size
    assert site.counts()["evictions"] == 2


def test_instances_add_to_one_count(front: Front, tmp_path: Path) -> None:
    for _ in range(2):
        site = Site(front, tmp_path)
        site.ask(PICTURES[:1])
        counts = site.counts()
    assert counts == {"misses": 2}


def test_a_redis_that_is_away_is_counted_and_let_rest_and_never_told(front: Front, tmp_path: Path) -> None:
    module = front("answer_cache")
    redis = module.RedisAnswers("redis://127.0.0.1:1/0")
    site = Site(front, tmp_path, redis=redis)
    redis.on_error, redis.on_skip = site.cache.redis_failed, site.cache.redis_skipped
    for _ in range(2):
        for number in range(3):
            site.ask(PICTURES[number : number + 1])
    assert site.detected == 3
    counts = site.counts()
    assert counts["hits_memory"] == 3
    assert counts["redis_errors"] == 1, "asked once, and then let rest"
    assert counts["redis_not_written"] == 3


def test_settings_may_switch_it_off(front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ITS_SERVING__REDIS_URL", "")
    module = front("answer_cache")
    assert module.open_cache(tmp_path, tmp_path, 0.0) is None
    opened = module.open_cache(tmp_path, tmp_path, 1.0)
    opened.close()
    assert opened._redis is None


def test_the_counts_are_read_by_the_platform(settings: Settings) -> None:
    assert cache_counts(settings) == {}
    path = state_folder(settings) / "answer_cache.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"counts": {"misses": 3}, "at": "now"}))
    assert cache_counts(settings) == {"misses": 3}
    path.write_text("{half")
    with pytest.raises(BadInput, match=r"answer_cache\.json"):
        cache_counts(settings)


def test_what_could_not_be_counted_is_counted_later(front: Front, tmp_path: Path) -> None:
    counts = front("answer_cache")._Counts(tmp_path / "missing" / "counts.json")
    counts.add("misses")
    counts._write()
    (tmp_path / "missing").mkdir()
    counts.add("misses")
    counts.close()
    assert json.loads((tmp_path / "missing" / "counts.json").read_text())["counts"] == {"misses": 2}
