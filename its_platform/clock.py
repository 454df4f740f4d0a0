"""Whether somebody set the machine's clock: the time of day against the time since the boot, which nobody sets.

Both run on together; only a step changes their difference at once. What follows from a step is not known here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

# Between two looks a few seconds apart NTP slews a clock by a thousandth of a second or so.
TOLERANCE_S = 60.0


def offset_s() -> float:
    """Seconds by which the time of day is ahead of the time since the boot, sleep of the machine included."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def step_s(before: float, now: float) -> float:
    """By how many seconds the clock was set between two offsets, forward positive; 0 where it only drifted."""
    return now - before if abs(now - before) > TOLERANCE_S else 0.0


@dataclass
class Clock:
    """The clock as one process has seen it. set_by_s: the sum of all steps so far; one that was taken back is none."""

    offset_s: float = field(default_factory=offset_s)
    set_by_s: float = 0.0

    def look(self) -> float:
        """By how many seconds it was set since the last look. From look to look, so that years of slewing are none."""
        now = offset_s()
        step, self.offset_s = step_s(self.offset_s, now), now
        self.set_by_s += step
        return step
