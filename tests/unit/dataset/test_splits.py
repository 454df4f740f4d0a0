from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from its_platform.dataset.splits import (
    ENOUGH_BLOCKS,
    SPLITS,
    Place,
    Spacing,
    guard_breaches,
    keep_guard,
    share_blocks,
)

SPACING = Spacing(block_s=60, guard_s=2, block_frames=10, guard_frames=1)
SHARES = {"train": 0.6, "val": 0.15, "test": 0.1, "golden": 0.15}


def places(at: list[float], camera: str = "a", is_timed: bool = True) -> list[Place]:
    return [Place(f"{camera}{i}", camera, value, is_timed, "day") for i, value in enumerate(at)]


def split_of(found: list[Place], fixed: dict[str, str] | None = None, seed: int = 0) -> dict[str, str]:
    strata = {place.block(SPACING): (place.camera_id, place.stratum) for place in found}
    blocks = share_blocks(strata, dict.fromkeys(strata, SHARES), fixed or {}, seed)
    wanted = {place.frame_hash: blocks[place.block(SPACING)] for place in found}
    kept = keep_guard(found, wanted, SPACING)
    return {frame: split for frame, split in wanted.items() if frame in kept}


times = st.lists(st.floats(0, 3000, allow_nan=False), min_size=1, max_size=80, unique=True)


@given(times, times, st.booleans(), st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_no_frame_is_within_the_guard_gap_of_another_split_and_no_block_is_in_two(
    first: list[float], second: list[float], is_timed: bool, seed: int
) -> None:
    found = places(first, "a", is_timed) + places(second, "b", is_timed)
    splits = split_of(found, seed=seed)
    guard = SPACING.guard_s if is_timed else SPACING.guard_frames
    blocks: dict[str, set[str]] = {}
    for one in found:
        if one.frame_hash not in splits:
            continue
        blocks.setdefault(one.block(SPACING), set()).add(splits[one.frame_hash])
        for other in found:
            if other.frame_hash in splits and splits[other.frame_hash] != splits[one.frame_hash]:
                assert one.camera_id != other.camera_id or abs(one.at - other.at) > guard
    assert all(len(found_splits) == 1 for found_splits in blocks.values())
    assert guard_breaches(found, splits, SPACING) == []


@given(times, times, st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_later_footage_moves_no_block(first: list[float], more: list[float], seed: int) -> None:
    early = places(first)
    before = share_blocks(
        {p.block(SPACING): ("a", "day") for p in early}, {p.block(SPACING): SHARES for p in early}, {}, seed
    )
    late = early + places([3000 + value for value in more], "a")
    after = share_blocks(
        {p.block(SPACING): ("a", "day") for p in late}, {p.block(SPACING): SHARES for p in late}, before, seed
    )
    assert {block: after[block] for block in before} == before


@given(times, times, st.booleans(), st.integers(0, 5), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_frames_decides_nothing(
    first: list[float], second: list[float], is_timed: bool, seed: int, random: Random
) -> None:
    found = places(first, "a", is_timed) + places(second, "b", is_timed)
    shuffled = list(found)
    random.shuffle(shuffled)
    assert split_of(shuffled, seed=seed) == split_of(found, seed=seed)


@given(times, times, st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_frames_of_an_earlier_version_stay_in_their_split_whatever_comes_near(
    early: list[float], more: list[float], seed: int
) -> None:
    old = places(early)
    before = split_of(old, seed=seed)
    held = [place for place in old if place.frame_hash in before]
    blocks = {place.block(SPACING): before[place.frame_hash] for place in held}
    late = [Place(f"late{i}", "a", at, True, "day") for i, at in enumerate(more)]
    strata = {place.block(SPACING): ("a", "day") for place in held + late}
    shared = share_blocks(strata, dict.fromkeys(strata, SHARES), blocks, seed)
    wanted = {place.frame_hash: shared[place.block(SPACING)] for place in held + late}
    kept = keep_guard(held + late, wanted, SPACING, first=before)
    assert {frame: wanted[frame] for frame in before if frame in kept} == before
    near = guard_breaches(held + late, {frame: wanted[frame] for frame in kept}, SPACING)
    assert near == []


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.sampled_from(["day", "night"]), max_size=20))
@settings(max_examples=60, deadline=None)
def test_every_block_gets_exactly_one_split_that_it_has_a_share_in(conditions: dict[str, str]) -> None:
    strata = {f"{name}/t0": (name, light) for name, light in conditions.items()}
    shares = {block: {**SHARES, "golden": 0.0 if "a" in block else 0.15} for block in strata}
    shared = share_blocks(strata, shares, {}, 0)
    assert shared.keys() == strata.keys()
    assert all(shares[block][split] > 0 for block, split in shared.items())


@given(st.integers(ENOUGH_BLOCKS, 40), st.integers(ENOUGH_BLOCKS, 40), st.integers(0, 9))
def test_each_camera_and_condition_reaches_each_split_once_it_has_enough_blocks(a: int, b: int, seed: int) -> None:
    strata = {f"a/{i}": ("a", "day") for i in range(a)} | {f"b/{i}": ("b", "night+fog") for i in range(b)}
    splits = share_blocks(strata, dict.fromkeys(strata, SHARES), {}, seed)
    for camera in "ab":
        assert {splits[block] for block in strata if block.startswith(camera)} == set(SPLITS)


def test_conditions_too_small_alone_are_pooled_over_cameras() -> None:
    strata = {f"{camera}/{i}": (camera, "night") for camera in "abcdef" for i in range(1)}
    splits = share_blocks(strata, dict.fromkeys(strata, SHARES), {}, 0)
    assert set(splits.values()) == set(SPLITS)


def test_blocks_are_shared_in_proportion_and_the_seed_decides_which() -> None:
    strata = {f"a/{i}": ("a", "day") for i in range(200)}
    shares = dict.fromkeys(strata, SHARES)
    one, again, other = (share_blocks(strata, shares, {}, seed) for seed in (1, 1, 2))
    assert Counter(one.values()) == {"train": 120, "val": 30, "test": 20, "golden": 30}
    assert one == again
    assert one != other


def test_with_three_blocks_there_is_something_to_train_and_to_judge_on() -> None:
    strata = {f"a/{i}": ("a", "day") for i in range(3)}
    assert set(share_blocks(strata, dict.fromkeys(strata, SHARES), {}, 0).values()) == {"train", "golden", "val"}


def test_half_of_a_small_stratum_is_left_for_training() -> None:
    strata = {f"a/{i}": ("a", "day") for i in range(ENOUGH_BLOCKS)}
    splits = Counter(share_blocks(strata, dict.fromkeys(strata, SHARES), {}, 0).values())
    assert splits == {"train": 3, "val": 1, "test": 1, "golden": 1}


def test_a_block_without_a_golden_share_never_goes_there() -> None:
    strata = {f"a/{i}": ("a", "day") for i in range(20)}
    splits = share_blocks(strata, {block: {**SHARES, "golden": 0.0} for block in strata}, {}, 0)
    assert set(splits.values()) == {"train", "val", "test"}


def test_at_the_guard_gap_the_teaching_frame_gives_way() -> None:
    found = places([59.0, 61.0])
    kept = keep_guard(found, {"a0": "train", "a1": "golden"}, SPACING)
    assert kept == {"a1"}


def test_a_frame_that_was_there_first_stays_whatever_comes_near() -> None:
    found = places([59.0, 61.0])
    assert keep_guard(found, {"a0": "train", "a1": "golden"}, SPACING, first=["a0"]) == {"a0"}


def test_numbered_frames_are_blocked_by_number_and_never_neighbour_timed_ones() -> None:
    numbered, timed = places([9, 10], "a", False), places([9.0], "a")
    assert [place.block(SPACING) for place in numbered] == ["a/n0", "a/n1"]
    assert timed[0].block(SPACING) == "a/t0"
    assert timed[0].line != numbered[0].line
