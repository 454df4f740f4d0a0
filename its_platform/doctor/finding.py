"""What one look at the platform found, in words that a person can act on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """What one check found. is_severe: the platform cannot do its work as it is."""

    name: str
    is_well: bool
    finding: str
    remedy: str = ""
    is_severe: bool = True
