"""The stages of a version, and which step from one to another there is.

A version begins in development. It is staged, where it answers nobody by default and its last gate is measured; it gets
a share of the live traffic as a canary; it is in production; and it is retired when another takes its place or it was
rejected. The aliases `staging`, `canary` and `production` say where one version is to be; the tag `stage` of a version
says where it is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from its_platform.errors import BadInput

Stage = Literal["development", "staging", "canary", "production", "retired"]
SERVED: tuple[Stage, ...] = ("staging", "canary", "production")

STEPS: Mapping[Stage, frozenset[Stage]] = {
    # A first version has nothing to be compared with and goes to production without having been a canary.
    "development": frozenset({"staging", "canary", "production", "retired"}),
    "staging": frozenset({"development", "canary", "production", "retired"}),
    "canary": frozenset({"staging", "production", "retired"}),
    # Staging answers nobody by default: what is in production can be measured there once more.
    "production": frozenset({"staging", "retired"}),
    # Back into production by a rollback, or to be looked at once more.
    "retired": frozenset({"staging", "canary", "production"}),
}


def has_step(present: Stage, wanted: str) -> bool:
    """Whether a version may go from a stage to another. To stay is always allowed."""
    return wanted == present or wanted in STEPS[present]


def check_step(version: int, present: Stage, wanted: str) -> None:
    """Raise `BadInput` where there is no such step."""
    if has_step(present, wanted):
        return
    ways = ", ".join(sorted(STEPS[present]))
    raise BadInput(f"Version {version} is in {present} and cannot go to {wanted}.", f"From there it goes to: {ways}.")


def stage_of(version: int, served: Mapping[str, int], formerly_live: Collection[int], is_rejected: bool) -> Stage:
    """The furthest stage at which a version is.

    served: the version by stage, as the truth has it. formerly_live: those that were canary or in production.
    """
    if served.get("production") == version:
        return "production"
    if served.get("canary") == version:
        return "canary"
    if is_rejected:
        # It may still lie at staging, where it meets nobody.
        return "retired"
    if served.get("staging") == version:
        return "staging"
    return "retired" if version in formerly_live else "development"
