"""The semantic version of a registered model, computed from what changed since those before it.

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


Numbered = tuple[str, Contract]


def next_version(former: Sequence[Numbered], new: Contract) -> str:
    """The version that follows the former ones, given oldest first; 1.0.0 where there are none.

    Weights that were registered before, whenever that was, get the next patch of their own version.
    """
    if not former:
        return "1.0.0"
    numbers = [tuple(int(part) for part in version.split(".")) for version, _ in former]
    for (major, minor, _), (_, known) in zip(reversed(numbers), reversed(former), strict=True):
        is_same = new.weights and (known.weights, known.classes) == (new.weights, new.classes)
        if is_same and known.image_size == new.image_size:
            return f"{major}.{minor}.{max(patch for *line, patch in numbers if line == [major, minor]) + 1}"
    last = former[-1][1]
    major, minor, _ = max(numbers)
    if (last.classes, last.image_size) != (new.classes, new.image_size):
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0"


def versions_of(contracts: Sequence[Contract]) -> list[str]:
    """The semantic version of each, oldest first."""
    found: list[Numbered] = []
    for contract in contracts:
        found.append((next_version(found, contract), contract))
    return [version for version, _ in found]
