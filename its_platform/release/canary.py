"""Whether a canary goes back, goes on, or has to wait: a verdict on what it and production saw in the same pictures.

Enters: `Evidence`, blocks of one camera and one minute each, the unit in which pictures count as independent. Leaves: a
`Verdict` with its reasons and figures. Errors, latency and the truth speak against a canary anywhere. That it differs
from production speaks against it only where production passed its gates: a model that was made for the night has to
differ by night, and there somebody has to look instead.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from its_platform.release.confidence_sequence import confidence_sequence
from its_platform.settings import CanarySettings

Action = Literal["roll_back", "advance", "wait"]
LEAST_TIMED = 20
# As the front's `picture.light_of` names them.
LIGHTS = ("day", "dusk", "night")


@dataclass(frozen=True, slots=True)
class Block:
    """The pairs of one camera in one minute, all under one light.

    disagreement: mean of 1 - F1 between both answers, 0 to 1. gain: mean F1 of the canary against the truth less that
    of production, -1 to 1; None where no picture of the block has a truth.
    """

    camera_id: str
    minute: datetime
    light: str
    pairs: int
    disagreement: float
    gain: float | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What has come in since the canary began.

    failures: pictures for which the canary failed and production did not, of `pictures`. latency: milliseconds of
    both in the same place, by place: those that a caller waited for, and those asked after him; or, where all callers
    wait for the canary, of both for the same pictures. Production first.
    blocks_now: how many of the blocks came in since the last change of the canary's share.
    """

    blocks: tuple[Block, ...]
    blocks_now: int
    pictures: int = 0
    failures: int = 0
    latency: tuple[tuple[Sequence[float], Sequence[float]], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What follows. labels_wanted: the lights in which only somebody who looks can tell which version is right."""

    action: Action
    reasons: list[str]
    numbers: dict[str, float] = field(default_factory=dict)
    labels_wanted: tuple[str, ...] = ()


def judge_canary(
    evidence: Evidence, settings: CanarySettings, latency_ratio: float, proven: Collection[str]
) -> Verdict:
    """The verdict. proven: the lights in which production passed its gates; latency_ratio: the slowest allowed.

    The order of the blocks is the order in which they came in; each look holds together with all earlier ones.
    """
    numbers: dict[str, float] = {"blocks": len(evidence.blocks), "pictures": evidence.pictures}
    against = [*unsafe(evidence, settings, latency_ratio, numbers), *_truth(evidence, settings, numbers)]
    differing, labels_wanted = _disagreement(evidence, settings, proven, numbers)
    against += differing
    if against:
        return Verdict("roll_back", against, numbers, labels_wanted)
    missing = settings.minimum_blocks - evidence.blocks_now
    if missing > 0:
        said = f"not enough evidence: {evidence.blocks_now} of {settings.minimum_blocks} blocks of camera and minute"
        return Verdict("wait", [said], numbers, labels_wanted)
    if (gain := numbers.get("gain")) is not None and gain < -settings.margin:
        said = f"not enough evidence: F1 {gain:+.3f} against production, which may still be chance"
        return Verdict("wait", [said], numbers, labels_wanted)
    known = "" if "gain" not in numbers else f", F1 {numbers['gain']:+.3f} against production"
    return Verdict("advance", [f"{evidence.blocks_now} blocks and nothing against it{known}"], numbers, labels_wanted)


def most_different(evidence: Evidence, lights: Collection[str], most: int = 5) -> list[str]:
    """Camera and minute (UTC) of the blocks without a truth in which the two differ most, for who is to label them."""
    blocks = [block for block in evidence.blocks if block.light in lights and block.gain is None]
    blocks.sort(key=lambda block: -block.disagreement)
    return [f"{block.camera_id} {block.minute:%Y-%m-%d %H:%M}" for block in blocks[:most]]


def unsafe(evidence: Evidence, settings: CanarySettings, latency_ratio: float, numbers: dict[str, float]) -> list[str]:
    """What ends a canary or an experiment always, whatever else is found: failures and latency.

    The figures go into `numbers`.
    """
    return [*_failures(evidence, settings, numbers), *_latency(evidence, latency_ratio, numbers)]


def _failures(evidence: Evidence, settings: CanarySettings, numbers: dict[str, float]) -> list[str]:
    numbers["failures"] = evidence.failures
    if evidence.failures < settings.failures:
        return []
    return [f"it failed for {evidence.failures} pictures of {evidence.pictures} that production answered"]


def _latency(evidence: Evidence, most: float, numbers: dict[str, float]) -> list[str]:
    ratios = [
        statistics.median(ours) / statistics.median(theirs)
        for theirs, ours in evidence.latency
        if min(len(theirs), len(ours)) >= LEAST_TIMED
    ]
    if not ratios:
        return []
    # A canary that is slow in one place only may have met a busy minute; one that is slow is slow in both.
    numbers["latency_ratio"] = ratio = min(ratios)
    return [f"it takes {ratio:.2f} times as long as production, at most {most:.2f} is allowed"] if ratio > most else []


def _truth(evidence: Evidence, settings: CanarySettings, numbers: dict[str, float]) -> list[str]:
    """What the truth says: of all cameras together at half of alpha, and of each by itself at a share of the rest.

    A loss at one camera of many is diluted by the others, and may be all that is wrong: a view nobody had in mind.
    """
    gains = [block.gain for block in evidence.blocks if block.gain is not None]
    if not gains:
        return []
    low, high = _sequence_of_gains(gains, settings.alpha / 2)
    numbers |= {"gain": statistics.fmean(gains), "gain_low": low, "gain_high": high, "blocks_with_truth": len(gains)}
    against = []
    if high < 0 and numbers["gain"] <= -settings.margin:
        told = f"F1 {numbers['gain']:+.3f} against production in {len(gains)} blocks with a truth"
        against.append(f"it is worse: {told} ({low:+.3f} to {high:+.3f} at every look)")
    # In the order in which they were first seen: a camera that comes later takes nothing from those before it, and
    # the shares 1/2, 1/6, 1/12, ... of any number of cameras sum up to one.
    cameras = dict.fromkeys(block.camera_id for block in evidence.blocks)
    for place, camera_id in enumerate(cameras, start=1):
        own = [block.gain for block in evidence.blocks if block.camera_id == camera_id and block.gain is not None]
        if not own or (gain := statistics.fmean(own)) > -settings.camera_margin:
            continue
        low, high = _sequence_of_gains(own, settings.alpha / 2 / (place * (place + 1)))
        if high < 0:
            numbers[f"gain/{camera_id}"] = gain
            told = f"F1 {gain:+.3f} against production in {len(own)} blocks with a truth"
            against.append(f"it is worse at camera {camera_id}: {told} ({low:+.3f} to {high:+.3f} at every look)")
    return against


def _sequence_of_gains(gains: Sequence[float], alpha: float) -> tuple[float, float]:
    """The confidence sequence of gains in F1, -1 to 1."""
    low, high = confidence_sequence([(gain + 1) / 2 for gain in gains], alpha)
    return 2 * low - 1, 2 * high - 1


def _disagreement(
    evidence: Evidence, settings: CanarySettings, proven: Collection[str], numbers: dict[str, float]
) -> tuple[list[str], tuple[str, ...]]:
    against, wanted = [], []
    # Shared among all lights that there are, and not among those seen so far: one that comes later changes nothing.
    alpha = settings.alpha / len(LIGHTS)
    for light in sorted({block.light for block in evidence.blocks}):
        # Where there is a truth it decides: being different is not being wrong.
        values = [block.disagreement for block in evidence.blocks if block.light == light and block.gain is None]
        if not values:
            continue
        low, _ = confidence_sequence(values, alpha)
        numbers[f"disagreement/{light}"] = statistics.fmean(values)
        if low <= settings.disagreement:
            continue
        if light in proven:
            against.append(
                f"by {light}, where production passed its gates, {numbers[f'disagreement/{light}']:.0%} of what they "
                f"see differs in {len(values)} blocks, at most {settings.disagreement:.0%} is allowed"
            )
        else:
            wanted.append(light)
    return against, tuple(wanted)
