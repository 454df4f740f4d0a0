"""What a kind of bad input is: how it is made, which command it is given to, and what the answer has to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from its_platform.stores import Stores


@dataclass(frozen=True)
class Place:
    """Where a case makes its input: an empty folder, beside a home that has a camera `north` with labelled frames."""

    folder: Path
    stores: Stores

    def camera(self, source: str | Path, privacy: str = "none") -> str:
        """Enter a camera of this source; its name."""
        from its_platform.cameras.registry import add_camera, make_camera

        add_camera(self.stores, make_camera("bad", str(source), privacy=privacy), replace=True)
        return "bad"

    @property
    def footage(self) -> Path:
        """The folder of pictures that the camera `north` was taken in from."""
        return self.stores.settings.home.parent / "north"


@dataclass(frozen=True)
class Case:
    """One kind.

    kind: what is wrong with the input, as the document lists it. command: as a person types it. make: makes the input
    and gives the words of the command. says: what the answer has to hold. code: how the command ends.
    lines: how many lines the answer has. is_partial: the rest of the input was good and has been taken; the bad part
    is told.
    environment: settings that are in force.
    """

    kind: str
    command: str
    make: Callable[[Place], Sequence[str]]
    says: tuple[str, ...]
    code: int = 1
    lines: int = 1
    is_partial: bool = False
    environment: dict[str, str] = field(default_factory=dict)
