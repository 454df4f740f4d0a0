"""A canary's way: a share of the live traffic, more of it step by step, production; or back at once.

Each look collects what came in, judges it, and does what follows under the release lease. The share is part of the
canary's row in `releases`, so that each step is a row with who, when and why. A person can hold a canary, which keeps
it from going on and never from going back.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from its_platform.errors import BadInput, NotFound
from its_platform.model.scoring import ANY_CLASS
from its_platform.notifications import Event, tell
from its_platform.release import truth, verdicts
from its_platform.release.asking import promote, put_alias_back
from its_platform.release.canary import Verdict, judge_canary, most_different
from its_platform.release.comparing import gather_evidence
from its_platform.release.experiment import experiment_at
from its_platform.release.experimenting import stop_for_freeze
from its_platform.release.gates import GOLDEN
from its_platform.release.outside import Outside, real_outside
from its_platform.release.reconciling import end_canary, reconcile_held, tag_stages
from its_platform.release.truth import Lease, ReleaseChange, change_now
from its_platform.release.upkeep import route_as_json, true_routes
from its_platform.settings import CanarySettings
from its_platform.stores import Stores
from its_platform.stores.registry import MODEL_NAME


@dataclass(frozen=True, slots=True)
class CanaryState:
    """A canary as it stands. since: when it began; percent: its share of the live traffic, since `step_since`.

    trial: the number of the row in `releases` with which it began; what was said of an earlier trial is not about this.
    """

    trial: int
    version: int
    against: int
    percent: float
    since: datetime
    step_since: datetime
    by: str
    held: str | None
    verdict: dict[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the canary found, and what was done; `change` is None where nothing changed."""

    version: int
    percent: float
    verdict: Verdict
    change: ReleaseChange | None


def release(
    stores: Stores, version: int, by: str, why: str, wait_s: float = 0.0, outside: Outside | None = None
) -> ReleaseChange:
    """Bring a version that passed its gates to live traffic: as a canary where the settings have steps, else at once.

    A first version has nothing to be compared with and goes to production. Raises as `promote` does.
    """
    production = truth.served(stores, "production")
    is_compared = bool(stores.settings.canary.steps) and production is not None and production.version != version
    return promote(stores, version, "canary" if is_compared else "production", by, why, wait_s, outside)


def canary_state(stores: Stores) -> CanaryState | None:
    """The canary that answers live traffic now, None where there is none; an experiment's challenger is none."""
    rows = truth.served_everywhere(stores)
    row, production = rows.get("canary"), rows.get("production")
    if row is None or production is None or experiment_at(row) is not None:
        return None
    first = truth.first_row(stores, row)
    held = verdicts.latest_of(stores, (verdicts.HELD, verdicts.RESUMED))
    is_held = held is not None and held.action == verdicts.HELD and held.numbers.get("trial") == first.id
    looked = verdicts.latest_of(stores, (verdicts.LOOKED,))
    is_of_this = looked is not None and looked.numbers.get("trial") == first.id
    return CanaryState(
        trial=first.id,
        version=row.version,
        against=production.version,
        percent=float(row.evidence["route"]["percent"]),
        since=first.since,
        step_since=row.since,
        by=row.by,
        held=f"by {held.numbers['by']}: {held.reasons[0]}" if held is not None and is_held else None,
        verdict={"reasons": looked.reasons, **looked.numbers} if looked is not None and is_of_this else None,
    )


def look_at_canary(stores: Stores, by: str, wait_s: float = 0.0, outside: Outside | None = None) -> Look | None:
    """Judge the canary by all that came in, and do what follows; None where there is no canary.

    Raises `LogUnreadable` where the pairs cannot be read: then nothing is concluded.
    """
    outside = outside or real_outside(stores)
    with truth.lease(stores, wait_s) as held:
        state = canary_state(stores)
        if state is None:
            return None
        settings = stores.settings
        evidence = gather_evidence(stores, state.against, state.version, state.since, state.step_since)
        proven = proven_lights(stores, state.against)
        verdict = judge_canary(evidence, settings.canary, settings.gates.latency_ratio, proven)
        frozen = verdicts.freeze_in_force(stores)
        if verdict.action == "advance" and (stop := state.held or frozen):
            verdict = replace(verdict, action="wait", reasons=[*verdict.reasons, f"held {stop}"])
        is_late = verdict.action == "wait" and is_past_patience(state, settings.canary)
        if is_late:
            verdict = replace(verdict, reasons=[*verdict.reasons, f"waiting since {state.step_since:%Y-%m-%d %H:%M}"])
        numbers = {
            **verdict.numbers,
            "by": by,
            "trial": state.trial,
            "action": verdict.action,
            "percent": state.percent,
            "labels_wanted": list(verdict.labels_wanted),
            "to_be_looked_at": most_different(evidence, verdict.labels_wanted),
            "is_late": is_late,
        }
        _tell_who_can_help(stores, state, verdict, numbers)
        _record_look(stores, state, verdict, numbers)
        change = _follow(held, outside, state, verdict, by)
        return Look(state.version, state.percent, verdict, change)


def is_past_patience(state: CanaryState, settings: CanarySettings) -> bool:
    """Whether the canary has been at its share for longer than it is left to itself."""
    return datetime.now(UTC) - state.step_since > timedelta(seconds=settings.patience_s)


def hold_canary(stores: Stores, by: str, why: str) -> CanaryState:
    """Keep the canary at its share until it is resumed. Raises `NotFound` where there is none."""
    return _said_of_canary(stores, verdicts.HELD, by, why)


def resume_canary(stores: Stores, by: str, why: str) -> CanaryState:
    return _said_of_canary(stores, verdicts.RESUMED, by, why)


def stop_canary(
    stores: Stores, by: str, why: str, wait_s: float = 0.0, outside: Outside | None = None
) -> ReleaseChange:
    """Take the canary from the live traffic and have its version refused until a waiver. Raises `NotFound`."""
    outside = outside or real_outside(stores)
    with truth.lease(stores, wait_s) as held:
        state = _canary_or_not_found(stores)
        return _take_back(held, outside, state, by, why)


def freeze(stores: Stores, by: str, why: str, outside: Outside | None = None) -> None:
    """Keep what live traffic meets as it is until a thaw; a rollback is always possible. An experiment ends."""
    if not why.strip():
        raise BadInput("A freeze needs a reason.", "Give --why.")
    verdicts.record_event(stores, verdicts.FROZEN, "production", 0, why, {"by": by})
    stop_for_freeze(stores, by, why, outside)


def thaw(stores: Stores, by: str, why: str) -> None:
    """End a freeze. Raises `NotFound` where nothing is frozen."""
    if verdicts.freeze_in_force(stores) is None:
        raise NotFound("Nothing is frozen.")
    verdicts.record_event(stores, verdicts.THAWED, "production", 0, why, {"by": by})


def proven_lights(stores: Stores, version: int) -> set[str]:
    """The lights in which a version passed: AP50 of any class at the light's floor, or that of real cameras."""
    from its_platform.model.registered import evaluation_of

    gates, start = stores.settings.gates, f"{GOLDEN}/light="
    scores = {
        score.slice.removeprefix(start): score
        for score in evaluation_of(stores, version).slices
        if score.slice.startswith(start) and score.class_name == ANY_CLASS and score.boxes >= gates.minimum_boxes
    }
    floors = {light: gates.slice_floors.get(f"light={light}", gates.real_floor) for light in scores}
    return {light for light, score in scores.items() if score.ap50 >= floors[light]}


def _follow(held: Lease, outside: Outside, state: CanaryState, verdict: Verdict, by: str) -> ReleaseChange | None:
    why = "; ".join(verdict.reasons)
    if verdict.action == "roll_back":
        return _take_back(held, outside, state, by, why)
    if verdict.action == "wait":
        return None
    further = [step for step in held.stores.settings.canary.steps if step > state.percent]
    if further:
        return _widen(held, outside, state, further[0], by, why)
    before = outside.registry.by_alias(MODEL_NAME, "production")
    outside.registry.set_alias(MODEL_NAME, "production", state.version)
    changes = reconcile_held(held, outside, by, why, only_new=False)
    change = next((change for change in changes if change.stage == "production"), None)
    if change is not None and change.kind in {"failed", "refused"}:
        put_alias_back(outside, "production", before)
    return change


def _widen(held: Lease, outside: Outside, state: CanaryState, percent: float, by: str, why: str) -> ReleaseChange:
    """Give the canary a larger share; no model is loaded for that."""
    row = truth.served(held.stores, "canary")
    assert row is not None
    route = replace(true_routes(held.stores)["canary"], percent=percent)
    release = truth.record_release(
        held,
        stage="canary",
        version=row.version,
        model=row.model,
        digest=row.digest,
        endpoint=row.endpoint,
        by=by,
        why=f"{percent:g} % of the live traffic: {why}",
        evidence={**row.evidence, "route": route_as_json(route)},
        action="canary.widened",
    )
    outside.server.route(true_routes(held.stores))
    return change_now("canary", "released", state.version, state.version, release.why, release)


def _take_back(held: Lease, outside: Outside, state: CanaryState, by: str, why: str) -> ReleaseChange:
    # The rejection is written first: if all else fails, no reconcile serves this version again.
    mark = f"{datetime.now(UTC).isoformat(timespec='microseconds')} by {by}: {why}"
    outside.registry.set_tag(MODEL_NAME, state.version, verdicts.REJECTED, mark)
    ended = replace(end_canary(held, outside, by, why), kind="rolled_back")
    reconcile_held(held, outside, by, why)
    tag_stages(held.stores, outside, [ended])
    facts = {"version": state.version, "against": state.against, "percent": state.percent}
    tell(held.stores, Event("rollback", f"The canary, version {state.version}, is taken back: {why}", facts))
    return ended


def _record_look(stores: Stores, state: CanaryState, verdict: Verdict, numbers: dict[str, Any]) -> None:
    """Keep a verdict; the same one as last time is kept once."""
    kept = {name: numbers[name] for name in ("action", "percent", "labels_wanted")}
    last = state.verdict
    if last is not None and last["reasons"] == ["; ".join(verdict.reasons)] and kept.items() <= last.items():
        return
    verdicts.record_event(stores, verdicts.LOOKED, "canary", state.version, "; ".join(verdict.reasons), numbers)


def _tell_who_can_help(stores: Stores, state: CanaryState, verdict: Verdict, numbers: dict[str, Any]) -> None:
    """Tell, once, of lights in which only labels can say which version is right, and of a canary that gets nowhere."""
    last = state.verdict or {}
    facts = {"version": state.version, "against": state.against, "percent": state.percent}
    if asked := sorted(set(verdict.labels_wanted) - set(last.get("labels_wanted", []))):
        where = {"lights": asked, "to_be_looked_at": numbers["to_be_looked_at"]}
        said = f"Version {state.version} sees other things than production by {', '.join(asked)}; labels would decide"
        tell(stores, Event("canary", said, facts | where))
    if numbers["is_late"] and not last.get("is_late"):
        tell(stores, Event("canary", f"Version {state.version} goes neither on nor back: {verdict.reasons[0]}", facts))


def _said_of_canary(stores: Stores, action: str, by: str, why: str) -> CanaryState:
    state = _canary_or_not_found(stores)
    verdicts.record_event(stores, action, "canary", state.version, why, {"by": by, "trial": state.trial})
    return _canary_or_not_found(stores)


def _canary_or_not_found(stores: Stores) -> CanaryState:
    state = canary_state(stores)
    if state is None:
        raise NotFound("There is no canary.", "`its release promote N --stage canary` makes one.")
    return state
