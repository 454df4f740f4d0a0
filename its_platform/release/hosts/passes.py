"""What a host remembers of its passes: the last one, for who looks later, and the generation that it must not go below.

Kept in `home/triton/sync.json`, with the key of the publisher whom it is about: another publisher counts anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from its_platform.errors import BadInput
from its_platform.private_files import write_file
from its_platform.release.hosts.signing import fingerprint
from its_platform.serving.repository import state_folder
from its_platform.settings import Settings


@dataclass(frozen=True)
class SyncPass:
    """What a pass found and did. at: its end. generation: of the newest wish that was seen, 0 before one.

    serves: the version by stage. refused: what was not trusted or did not serve, a line each. problem: what may be
    better in a moment, as a store that is away. failures: how often in a row each version of this wish did not serve.
    """

    at: datetime
    generation: int
    serves: Mapping[str, int]
    fetched: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    problem: str = ""
    failures: Mapping[str, int] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """On one line, for people."""
        serves = ", ".join(f"version {version} at {stage}" for stage, version in self.serves.items()) or "nothing"
        told = f"generation {self.generation}, serves {serves}; last pass {self.at:%Y-%m-%d %H:%M:%S} UTC"
        trouble = [*(f"refused: {one}" for one in self.refused), *([self.problem] if self.problem else [])]
        return "; ".join([told, *trouble])


def last_pass(settings: Settings, key: Ed25519PublicKey | None = None) -> SyncPass | None:
    """What the last pass came to, where a key is given after a wish of that publisher; None before the first.

    Raises `BadInput` where it cannot be read.
    """
    return _read(settings, key)[1]


def accepted_generation(settings: Settings, key: Ed25519PublicKey) -> int:
    """That of the newest wish of this publisher that was ever seen here; 0 before the first. Raises `BadInput`."""
    return _read(settings, key)[0]


def accept_generation(settings: Settings, key: Ed25519PublicKey, generation: int) -> None:
    """Go below this one no more, whatever comes of the pass that goes on from here."""
    _write(settings, key, generation, last_pass(settings, key))


def write_pass(settings: Settings, key: Ed25519PublicKey, done: SyncPass) -> None:
    """Keep what a pass came to."""
    _write(settings, key, done.generation, done)


def state_path(settings: Settings) -> Path:
    return state_folder(settings) / "sync.json"


def _read(settings: Settings, key: Ed25519PublicKey | None) -> tuple[int, SyncPass | None]:
    path = state_path(settings)
    try:
        read: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if key is not None and read["key"] != fingerprint(key):
            return 0, None
        if (facts := read["pass"]) is None:
            return int(read["generation"]), None
        lists = {name: tuple(facts[name]) for name in ("fetched", "removed", "refused")}
        done = SyncPass(**{**facts, "at": datetime.fromisoformat(facts["at"]), **lists})
        return int(read["generation"]), done
    except FileNotFoundError:
        return 0, None
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} cannot be read: {error!r}.",
            "Remove it once you know that the store is sound: the next wish is followed whatever its generation.",
        ) from error


def _write(settings: Settings, key: Ed25519PublicKey, generation: int, done: SyncPass | None) -> None:
    told = None if done is None else {**asdict(done), "at": done.at.isoformat()}
    facts = {"key": fingerprint(key), "generation": generation, "pass": told}
    write_file(state_path(settings), json.dumps(facts, indent=1).encode())
