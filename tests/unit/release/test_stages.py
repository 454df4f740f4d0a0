"""The stages: every step that there is and every one that there is not."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from its_platform.errors import BadInput
from its_platform.release.stages import STEPS, Stage, check_step, stage_of

STAGES = get_args(Stage)
LEGAL = {
    ("development", "staging"),
    ("development", "canary"),
    ("development", "production"),
    ("development", "retired"),
    ("staging", "development"),
    ("staging", "canary"),
    ("staging", "production"),
    ("staging", "retired"),
    ("canary", "staging"),
    ("canary", "production"),
    ("canary", "retired"),
    ("production", "staging"),
    ("production", "retired"),
    ("retired", "staging"),
    ("retired", "canary"),
    ("retired", "production"),
}


def test_every_stage_says_where_it_leads() -> None:
    assert set(STEPS) == set(STAGES)


@pytest.mark.parametrize(("present", "wanted"), list(product(STAGES, STAGES)))
def test_each_step_is_legal_or_told(present: Stage, wanted: Stage) -> None:
    if present == wanted or (present, wanted) in LEGAL:
        check_step(7, present, wanted)
        return
    with pytest.raises(BadInput, match=f"Version 7 is in {present} and cannot go to {wanted}") as told:
        check_step(7, present, wanted)
    assert all(way in (told.value.hint or "") for way in STEPS[present])


@pytest.mark.parametrize(
    ("served", "formerly_live", "is_rejected", "stage"),
    [
        ({}, set(), False, "development"),
        ({"staging": 3}, set(), False, "staging"),
        ({"staging": 3, "canary": 3}, {3}, False, "canary"),
        ({"staging": 3, "production": 3}, {3}, False, "production"),
        ({"production": 4}, {3, 4}, False, "retired"),
        ({"staging": 3}, {3}, True, "retired"),
        ({"canary": 3}, {3}, True, "canary"),
        ({}, set(), True, "retired"),
    ],
)
def test_a_version_is_at_the_furthest_stage_that_has_it(
    served: dict[str, int], formerly_live: set[int], is_rejected: bool, stage: str
) -> None:
    assert stage_of(3, served, formerly_live, is_rejected) == stage
