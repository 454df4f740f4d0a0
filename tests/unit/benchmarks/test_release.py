"""What the benchmark of releases forgives: a slow attempt, and no request that failed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import release
from figures import Figure, Round


def measured(monkeypatch: pytest.MonkeyPatch, *attempts: tuple[int, float]) -> list[Figure]:
    """The figures of attempts with so many failed requests and so many seconds to a promotion."""
    taken: Iterator[dict[str, Round]] = iter(
        {
            release.FAILED.name: Round(float(failed), 0.0),
            release.PROMOTED.name: Round(promoted_s, promoted_s),
            release.BACK.name: Round(1.0, 1.0),
        }
        for failed, promoted_s in attempts
    )
    monkeypatch.setattr(release, "one_round", lambda progress: next(taken))
    return release.figures()


@pytest.mark.parametrize("failed", [(1, 0), (0, 1)])
def test_a_request_that_failed_in_any_attempt_counts(monkeypatch: pytest.MonkeyPatch, failed: tuple[int, int]) -> None:
    counted, promoted, _ = measured(monkeypatch, (failed[0], 9.0), (failed[1], 4.0))
    assert (counted.name, counted.ours, counted.passed) == (release.FAILED.name, 1, False)
    assert (promoted.attempts, promoted.passed) == ([9, 4], True)


def test_no_second_attempt_is_made_for_a_request_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, promoted, _ = measured(monkeypatch, (2, 4.0))
    assert (counted.ours, counted.passed, promoted.attempts) == (2, False, [4])


def test_where_no_request_failed_the_figure_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(figure.passed for figure in measured(monkeypatch, (0, 4.0)))
