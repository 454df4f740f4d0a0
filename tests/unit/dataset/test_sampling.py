from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from its_platform.dataset.sampling import spread_sample
from its_platform.dataset.splits import Place, Spacing

SPACING = Spacing(60, 2, 10, 1)


def places(camera: str, count: int) -> list[Place]:
    return [Place(f"{camera}{i}", camera, i * 5.0, True, "night") for i in range(count)]


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 300), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_a_sample_has_the_size_that_was_asked_for_and_no_frame_twice(a: int, b: int, n: int, seed: int) -> None:
    found = places("a", a) + places("b", b)
    drawn = spread_sample(found, n, seed, SPACING)
    assert len(drawn) == min(n, a + b) == len(set(drawn))
    assert drawn == spread_sample(reversed(found), n, seed, SPACING)


def test_a_busy_camera_does_not_crowd_out_a_quiet_one() -> None:
    drawn = Counter(name[0] for name in spread_sample(places("a", 500) + places("b", 60), 100, 0, SPACING))
    assert drawn == {"a": 50, "b": 50}


def test_frames_come_from_all_blocks_before_a_block_gives_a_second_one() -> None:
    found = places("a", 120)
    blocks = {place.frame_hash: place.block(SPACING) for place in found}
    assert len({blocks[name] for name in spread_sample(found, 10, 0, SPACING)}) == 10


def test_another_seed_draws_other_frames() -> None:
    found = places("a", 120)
    assert spread_sample(found, 20, 0, SPACING) != spread_sample(found, 20, 1, SPACING)
