"""The retraining policy as a person reads it: what starts a training, on what data, how often at most, who is told.

Enters: the settings, where each of its numbers is set (`retraining`, `drift.windows`, `notifications`). Leaves: a
`Policy` in words. How it is carried out is in `deciding`.
"""

from __future__ import annotations

from dataclasses import dataclass

from its_platform.notifications import addressees
from its_platform.settings import Settings


@dataclass(frozen=True)
class Policy:
    """Each part is a list of sentences."""

    starts: tuple[str, ...]
    data: tuple[str, ...]
    at_most: tuple[str, ...]
    told: tuple[str, ...]


def policy_of(settings: Settings) -> Policy:
    """The policy that these settings make."""
    ours, drift, told = settings.retraining, settings.drift, settings.notifications
    starts: tuple[str, ...] = (
        f"A first training once {ours.first_model_frames} frames are reviewed and nothing was trained yet.",
        f"A retraining once {drift.windows_drifted} of the last {drift.windows} windows of the served version have "
        f"drifted and {ours.minimum_reviewed_frames} frames of those windows are reviewed.",
    )
    if not ours.enabled:
        starts = ("Nothing: retraining is switched off (retraining.enabled).",)
    epochs = f"{ours.epochs} epochs" if ours.epochs else f"{settings.training.epochs} epochs, as of a first training"
    blocks = "drawn at random" if ours.judge_blocks == "random" else "the latest"
    who = addressees(told)
    return Policy(
        starts=starts,
        data=(
            "A first training learns from everything that is reviewed.",
            f"A retraining learns from the served version's dataset and {ours.sample_frames} frames drawn from the "
            "drifted windows; it begins where the served model ends.",
            f"{ours.judge_share:.0%} of that sample, by blocks {blocks}, only judge.",
            f"It takes {epochs}.",
        ),
        at_most=(
            f"{ours.cool_down_s:g} s lie between a training and the next drift that starts one.",
            f"At most {ours.most_a_day} trainings are started within 24 h.",
            f"At most {ours.attempts} starts for the same reason; then a person has to look.",
            "One candidate for one drift: the next waits until the windows were stable again.",
            "None while a canary or an experiment answers live traffic.",
        ),
        told=tuple(f"{one} of each {', '.join(told.events)}." for one in who) or ("Nobody (notifications).",),
    )
