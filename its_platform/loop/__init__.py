"""The loop, run through Dagster and watched from outside: what every play of it shares, and the play on real footage.

Read `play` (steps that can be taken up again, and what is waited for), `footage` (a folder of labelled cameras as the
world outside the platform), then `run`, `summary` and `report`. The play on a simulated world is `its_platform.demo`.
"""

from __future__ import annotations

from its_platform.loop.run import LoopPlan, run_loop

__all__ = ["LoopPlan", "run_loop"]
