"""A sweep as a page that needs nothing from outside: throughput over latency as a picture, and the table.

A `Sweep` enters, text leaves. Nothing is measured or chosen here.
"""

from __future__ import annotations

from dataclasses import dataclass

from its_platform.serving.sweep import Sweep

WIDTH, HEIGHT, MARGIN = 720, 360, 56


@dataclass(frozen=True)
class Point:
    """A candidate on the picture, in its pixels."""

    x: float
    y: float
    name: str
    is_best: bool
    is_in_force: bool


def page_of(found: Sweep) -> str:
    """The whole page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("its_platform.serving", "."), undefined=StrictUndefined, autoescape=True, trim_blocks=True
    )
    most_ms = max([found.limit_p95_ms if found.choice.is_within_limit else 0.0, *(m.p95_ms for m in found.measured)])
    most_rate = max(m.images_per_s for m in found.measured) or 1.0
    return environment.get_template("sweep.html.j2").render(
        sweep=found,
        points=points_of(found, most_ms * 1.1, most_rate * 1.1),
        limit_x=_x(found.limit_p95_ms, most_ms * 1.1) if found.choice.is_within_limit else None,
        width=WIDTH,
        height=HEIGHT,
        margin=MARGIN,
        most_ms=most_ms * 1.1,
        most_rate=most_rate * 1.1,
    )


def points_of(found: Sweep, most_ms: float, most_rate: float) -> list[Point]:
    return [
        Point(
            _x(one.p95_ms, most_ms),
            HEIGHT - MARGIN - one.images_per_s / most_rate * (HEIGHT - 2 * MARGIN),
            one.candidate.name,
            one.candidate == found.choice.best.candidate,
            one.candidate == found.in_force,
        )
        for one in found.measured
    ]


def _x(p95_ms: float, most_ms: float) -> float:
    return MARGIN + p95_ms / most_ms * (WIDTH - 2 * MARGIN)
