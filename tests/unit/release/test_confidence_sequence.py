"""Confidence sequences hold at every look, and find what is there."""

from __future__ import annotations

import numpy as np
import pytest

from its_platform.release.confidence_sequence import confidence_sequence


def test_without_values_nothing_is_known() -> None:
    assert confidence_sequence([]) == (0.0, 1.0)


@pytest.mark.parametrize("mean", [0.05, 0.5, 0.9])
def test_the_mean_is_rarely_outside_at_any_look(mean: float) -> None:
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(200):
        # A mean that was given up at one look stays so: the last look tells of all.
        low, high = confidence_sequence(rng.beta(mean * 8, (1 - mean) * 8, 40), alpha=0.1)
        missed += not low - 1e-9 <= mean <= high + 1e-9
    assert missed / 200 <= 0.1


def test_a_clear_difference_is_found_within_few_blocks_and_an_even_match_is_not() -> None:
    rng = np.random.default_rng(3)
    worse = rng.normal(0.30, 0.05, 20).clip(0, 1)
    even = rng.normal(0.50, 0.05, 200).clip(0, 1)
    assert confidence_sequence(worse, alpha=0.01)[1] < 0.5
    low, high = confidence_sequence(even, alpha=0.01)
    assert low < 0.5 < high


def test_more_values_say_more() -> None:
    values = np.random.default_rng(1).uniform(0.4, 0.6, 100)
    widths = [np.subtract(*confidence_sequence(values[:count])[::-1]) for count in (5, 20, 100)]
    assert widths[0] > widths[1] > widths[2]


@pytest.mark.parametrize("values", [[1.2], [-0.1], [float("nan")]])
def test_values_outside_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        confidence_sequence(values)
