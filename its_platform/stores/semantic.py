"""The semantic version of a registered model, computed from what changed since the one before it.

Major: the class list or the input and output contract, so that whoever reads its answers has to look. Minor: the data
or the architecture. Patch: the same weights, exported or quantised anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from its_platform.contract import ImageSize


@dataclass(frozen=True, slots=True)
class Contract:
    """What a semantic version depends on. weights: a digest of the trained weights, empty where it is unknown."""

    classes: tuple[str, ...]
    image_size: ImageSize
    family: str
    dataset_version: str
    weights: str = ""


def next_version(before: str | None, former: Contract | None, new: Contract) -> str:
    """The version that follows `before`, which belongs to `former`; 1.0.0 where there was none."""
    if before is None or former is None:
        return "1.0.0"
    major, minor, patch = (int(part) for part in before.split("."))
    if (former.classes, former.image_size) != (new.classes, new.image_size):
        return f"{major + 1}.0.0"
    if new.weights and former.weights == new.weights:
        return f"{major}.{minor}.{patch + 1}"
    return f"{major}.{minor + 1}.0"


def versions_of(contracts: Sequence[Contract]) -> list[str]:
    """The semantic version of each, oldest first."""
    found: list[str] = []
    for number, contract in enumerate(contracts):
        found.append(next_version(found[-1] if found else None, contracts[number - 1] if number else None, contract))
    return found
