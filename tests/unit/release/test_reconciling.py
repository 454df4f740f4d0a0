"""Wish and truth: what happens to the served state, whatever is asked for and wherever it breaks off."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from its_platform.errors import BadInput, GateNotPassed, LeaseHeld, NotFound, ServerUnavailable
from its_platform.notifications import Event
from its_platform.release import reconciling, truth, verdicts
from its_platform.release.asking import pending, stage, status
from its_platform.release.gates import GateResult
from its_platform.release.placing import VersionDoesNotServe
from its_platform.release.upkeep import mend, restore
from its_platform.stores.registry import MODEL_NAME
from its_platform.telemetry import correlated
from tests.fakes import CORRUPT, Crash
from tests.unit.release.platform import FAILED, MODEL, PASSED, Platform


def test_a_version_that_passed_is_served_and_written_down(platform: Platform) -> None:
    version = platform.train_good()
    change = platform.promote(version)
    assert change.kind == "released"
    assert change.release is not None
    assert (change.release.by, change.release.why, change.release.until) == ("tester", "a test", None)
    assert change.release.digest == platform.registry.versions[version].onnx_digest
    assert change.release.endpoint == platform.stores.settings.triton_grpc
    platform.assert_served(version)


def test_a_row_names_the_run_that_wrote_it_and_no_earlier_one(platform: Platform) -> None:
    with correlated(run="r-1"):
        platform.promote(platform.train_good())
    first = truth.served(platform.stores)
    assert first is not None
    assert first.evidence["dagster_run"] == "r-1"
    with truth.lease(platform.stores) as held:
        again = truth.record_release(
            held,
            stage="production",
            version=1,
            model=MODEL,
            digest="",
            endpoint="",
            by="",
            why="",
            evidence=first.evidence,
            action="canary.widened",
        )
    assert again.evidence == {name: value for name, value in first.evidence.items() if name != "dagster_run"}


def test_the_former_row_ends_when_the_next_begins(platform: Platform) -> None:
    platform.promote(platform.train_good())
    platform.promote(platform.train_good())
    later, former = truth.history(platform.stores, "production")
    assert (former.version, later.version) == (1, 2)
    assert former.until == later.since
    assert later.fencing is not None
    assert former.fencing is not None
    assert later.fencing > former.fencing


@pytest.mark.parametrize("judged", [None, FAILED, replace(PASSED, verdict="no_verdict")])
def test_promoting_what_has_not_passed_changes_nothing(platform: Platform, judged: GateResult | None) -> None:
    platform.promote(platform.train_good())
    bad = platform.train()
    if judged is not None:
        platform.judge(bad, judged, served=1)
    with pytest.raises(GateNotPassed):
        platform.promote(bad)
    platform.assert_served(1)
    assert platform.triton.placed() == {MODEL: {1}}


def test_the_refusal_names_the_gate_with_its_numbers(platform: Platform) -> None:
    bad = platform.train()
    platform.judge(bad, FAILED)
    with pytest.raises(GateNotPassed, match=r"accuracy_floor failed: mAP50 0\.300 on 200 golden boxes"):
        platform.promote(bad)


def test_an_alias_set_by_hand_is_honoured_when_the_gates_were_passed(platform: Platform) -> None:
    platform.promote(platform.train_good())
    second = platform.train_good()
    platform.registry.set_alias(MODEL_NAME, "production", second)
    (change,) = platform.reconcile()
    assert (change.kind, change.version, change.previous) == ("released", 2, 1)
    platform.assert_served(second)


def test_an_alias_set_by_hand_on_a_version_that_failed_is_refused_visibly_and_once(platform: Platform) -> None:
    platform.promote(platform.train_good())
    bad = platform.train()
    platform.judge(bad, FAILED, served=1)
    platform.registry.set_alias(MODEL_NAME, "production", bad)
    (change,) = platform.reconcile()
    assert (change.kind, change.version, change.previous) == ("refused", bad, 1)
    assert "accuracy_floor" in change.reason
    assert "accuracy_floor" in platform.registry.versions[bad].tags["release_refused"]
    assert platform.reconcile() == []
    assert platform.served() == platform.answering() == 1


def test_a_new_reason_is_told_again(platform: Platform) -> None:
    bad = platform.train()
    platform.registry.set_alias(MODEL_NAME, "production", bad)
    assert "not been judged" in platform.reconcile()[0].reason
    platform.judge(bad, FAILED)
    assert "accuracy_floor" in platform.reconcile()[0].reason


def test_a_version_judged_against_another_than_the_served_one_is_refused(platform: Platform) -> None:
    platform.promote(platform.train_good())
    second, third = platform.train_good(), platform.train_good()
    platform.promote(third)
    with pytest.raises(GateNotPassed, match="judged against version 1, and version 3 is served"):
        platform.promote(second)


def test_a_waiver_by_name_lets_a_failed_gate_go(platform: Platform) -> None:
    bad = platform.train()
    platform.judge(bad, FAILED)
    verdicts.waive(platform.stores, platform.registry.get(MODEL_NAME, bad), "accuracy_floor", "ada", "night only")
    platform.promote(bad)
    platform.assert_served(bad)
    (waiver,) = verdicts.waivers(platform.stores, bad)
    assert (waiver.gate, waiver.by, waiver.reason) == ("accuracy_floor", "ada", "night only")


@pytest.mark.parametrize(
    ("gate", "by", "reason"),
    [("accuracy_floor", "", "why"), ("accuracy_floor", "ada", " "), ("latency_ratio", "ada", "why")],
)
def test_a_waiver_needs_a_name_a_reason_and_a_gate_that_is_in_the_way(
    platform: Platform, gate: str, by: str, reason: str
) -> None:
    bad = platform.train()
    platform.judge(bad, FAILED)
    with pytest.raises(BadInput):
        verdicts.waive(platform.stores, platform.registry.get(MODEL_NAME, bad), gate, by, reason)
    assert verdicts.waivers(platform.stores, bad) == []


def test_staging_serves_beside_production_without_gates(platform: Platform) -> None:
    platform.promote(platform.train_good())
    candidate = platform.train()
    row = stage(platform.stores, candidate, "tester", "to measure it", outside=platform.outside)
    assert (row.stage, row.version, row.why) == ("staging", candidate, "to measure it")
    platform.assert_served(candidate, "staging")
    platform.assert_served(1, "production")


def test_asking_for_what_is_served_changes_nothing(platform: Platform) -> None:
    version = platform.train_good()
    platform.promote(version)
    loads = list(platform.triton.loads)
    assert platform.promote(version).kind == "unchanged"
    assert platform.reconcile() == []
    assert platform.triton.loads == loads
    assert len(truth.history(platform.stores)) == 1


def test_a_deleted_alias_changes_nothing(platform: Platform) -> None:
    platform.promote(platform.train_good())
    platform.registry.delete_alias(MODEL_NAME, "production")
    assert platform.reconcile() == []
    assert platform.served() == platform.answering() == 1


def test_a_failed_read_of_the_registry_changes_nothing(platform: Platform) -> None:
    platform.promote(platform.train_good())
    platform.registry.is_away = True
    with pytest.raises(ServerUnavailable):
        platform.reconcile()
    assert platform.served() == platform.answering() == 1
    assert platform.triton.placed() == {MODEL: {1}}


def test_an_alias_on_a_version_that_is_gone_is_refused(platform: Platform) -> None:
    platform.promote(platform.train_good())
    platform.registry.aliases_set["production"] = 99
    (change,) = platform.reconcile()
    assert change.kind == "refused"
    assert platform.served() == platform.answering() == 1


def corrupt(platform: Platform) -> int:
    return platform.train(CORRUPT)


def garbled(platform: Platform) -> int:
    version = platform.train()
    platform.triton.garbled.add(version)
    return version


def endless(platform: Platform) -> int:
    return platform.train(b'{"boxes": [[0, 0, 9, 9, Infinity, 0]]}')


def unknown_class(platform: Platform) -> int:
    return platform.train(b'{"boxes": [[0, 0, 9, 9, 0.5, 7]]}')


def altered(platform: Platform) -> int:
    version = platform.train()
    platform.registry.files[version] += b" "
    return version


@pytest.mark.parametrize("make", [corrupt, garbled, endless, unknown_class, altered])
def test_a_version_that_does_not_serve_leaves_the_old_one_serving_and_no_trace(
    platform: Platform, make: Callable[[Platform], int]
) -> None:
    platform.promote(platform.train_good())
    bad = make(platform)
    platform.judge(bad, served=1)
    with pytest.raises(VersionDoesNotServe, match=f"[Vv]ersion {bad}"):
        platform.promote(bad)
    platform.assert_served(1)
    assert platform.triton.placed() == {MODEL: {1}}
    assert platform.triton.ready() == {MODEL: {1}}
    assert platform.reconcile() == []


def test_a_front_that_does_not_follow_leaves_the_old_one_serving(platform: Platform) -> None:
    platform.promote(platform.train_good())
    second = platform.train_good()
    platform.restart_triton()
    platform.reconcile()
    platform.triton.front_ignores_routes = True
    with pytest.raises(VersionDoesNotServe, match="answers with version 1"):
        platform.promote(second)
    platform.triton.front_ignores_routes = False
    platform.assert_served(1)


def test_a_first_version_that_does_not_serve_leaves_no_alias_and_nothing_served(platform: Platform) -> None:
    bad = platform.train(CORRUPT)
    platform.judge(bad)
    with pytest.raises(VersionDoesNotServe):
        platform.promote(bad)
    assert platform.registry.aliases_set == {}
    assert platform.served() is None
    assert platform.triton.placed() == {}
    assert platform.triton.routed() == {}


def test_a_wish_that_keeps_failing_is_tried_three_times_and_then_refused(platform: Platform) -> None:
    platform.promote(platform.train_good())
    bad = platform.train()
    platform.judge(bad, served=1)
    platform.triton.garbled.add(bad)
    platform.registry.set_alias(MODEL_NAME, "production", bad)
    kinds = [[change.kind for change in platform.reconcile()] for _ in range(5)]
    assert kinds == [["failed"], ["failed"], ["failed"], ["refused"], []]
    platform.triton.garbled.clear()
    platform.promote(bad)
    platform.assert_served(bad)


def test_rollback_returns_to_the_last_good_version_and_rejects_the_present_one(platform: Platform) -> None:
    for _ in range(2):
        platform.promote(platform.train_good())
    change = platform.rollback()
    assert (change.kind, change.version, change.previous) == ("rolled_back", 1, 2)
    assert "it misses buses" in platform.registry.versions[2].tags["rejected"]
    platform.assert_served(1)


def test_a_rollback_needs_no_registry_file_because_the_last_good_version_is_kept(platform: Platform) -> None:
    for _ in range(3):
        platform.promote(platform.train_good())
    assert platform.triton.placed() == {MODEL: {2, 3}}
    assert platform.triton.ready() == {MODEL: {2, 3}}


def test_two_rollbacks_go_back_twice(platform: Platform) -> None:
    for _ in range(3):
        platform.promote(platform.train_good())
    platform.rollback()
    platform.rollback()
    platform.assert_served(1)


def test_without_a_good_version_before_it_there_is_no_rollback(platform: Platform) -> None:
    with pytest.raises(NotFound):
        platform.rollback()
    platform.promote(platform.train_good())
    with pytest.raises(NotFound):
        platform.rollback()
    assert "rejected" not in platform.registry.versions[1].tags
    platform.assert_served(1)


def test_a_rejected_version_is_refused_until_a_waiver_for_that_rejection(platform: Platform) -> None:
    for _ in range(2):
        platform.promote(platform.train_good())
    platform.rollback()
    with pytest.raises(GateNotPassed, match="rejected"):
        platform.promote(2)
    platform.registry.set_alias(MODEL_NAME, "production", 2)
    assert platform.reconcile()[0].kind == "refused"
    verdicts.waive(platform.stores, platform.registry.get(MODEL_NAME, 2), "rejected", "ada", "it was the lens")
    platform.reconcile()
    platform.assert_served(2)
    platform.rollback()
    with pytest.raises(GateNotPassed, match="rejected"):
        platform.promote(2)


def test_tagging_the_served_version_rejected_by_hand_rolls_it_back(platform: Platform) -> None:
    for _ in range(2):
        platform.promote(platform.train_good())
    platform.registry.set_tag(MODEL_NAME, 2, "rejected", "seen on the wall")
    (change,) = platform.reconcile()
    assert (change.kind, change.version) == ("rolled_back", 1)
    platform.assert_served(1)


def test_a_rollback_happens_although_the_alias_names_a_refused_version(platform: Platform) -> None:
    for _ in range(2):
        platform.promote(platform.train_good())
    bad = platform.train()
    platform.registry.set_alias(MODEL_NAME, "production", bad)
    platform.reconcile()
    platform.rollback()
    platform.assert_served(1)


def test_a_rollback_is_told_with_the_version_that_is_back(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Event] = []
    monkeypatch.setattr(reconciling, "tell", lambda _, event: told.append(event))
    for _ in range(2):
        platform.promote(platform.train_good())
    assert told == []
    platform.rollback()
    assert [(event.kind, event.facts["version"], event.facts["previous"]) for event in told] == [("rollback", 1, 2)]


def test_a_triton_with_empty_memory_serves_again_what_the_truth_says(platform: Platform) -> None:
    platform.promote(platform.train_good())
    stage(platform.stores, platform.train(), "tester", "", outside=platform.outside)
    platform.restart_triton()
    platform.registry.is_away = True
    changes = restore(platform.stores, outside=platform.outside)
    assert [(change.kind, change.version) for change in changes] == [("restored", 2)]
    platform.registry.is_away = False
    platform.assert_served(1)
    platform.assert_served(2, "staging")
    assert len(truth.history(platform.stores)) == 2


def test_files_and_routes_that_are_gone_come_back_from_the_registry(platform: Platform) -> None:
    platform.promote(platform.train_good())
    platform.triton.route({})
    platform.triton.remove(MODEL, 1)
    platform.restart_triton()
    restore(platform.stores, outside=platform.outside)
    platform.assert_served(1)


@pytest.mark.parametrize("broken", [1, 2])
def test_a_bad_file_in_the_repository_does_not_keep_the_served_version_down(platform: Platform, broken: int) -> None:
    platform.promote(platform.train_good())
    folder = platform.stores.settings.model_repository / MODEL / str(broken)
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(CORRUPT)
    platform.restart_triton()
    restore(platform.stores, outside=platform.outside)
    platform.assert_served(1)
    assert platform.triton.placed() == {MODEL: {1}}


def test_files_that_are_not_whole_are_replaced_before_a_restart_needs_them(platform: Platform) -> None:
    platform.promote(platform.train_good())
    repository = platform.stores.settings.model_repository / MODEL
    (repository / "1" / "model.onnx").write_bytes(CORRUPT)
    (repository / "99").mkdir()
    loads = list(platform.triton.loads)
    restore(platform.stores, outside=platform.outside)
    assert platform.triton.broken() == {}
    assert platform.triton.placed() == {MODEL: {1}}
    assert platform.triton.loads == loads, "what is loaded is not disturbed"
    platform.restart_triton()
    restore(platform.stores, outside=platform.outside)
    platform.assert_served(1)


def test_the_repository_is_mended_while_triton_is_away(platform: Platform) -> None:
    platform.promote(platform.train_good())
    repository = platform.stores.settings.model_repository / MODEL
    (repository / "1" / "model.onnx").write_bytes(CORRUPT)
    (repository / "99").mkdir()
    platform.triton.is_away = True
    mend(platform.stores, platform.outside)
    assert platform.triton.broken() == {}
    assert platform.triton.placed() == {MODEL: {1}}


def test_a_broken_file_stays_where_the_registry_cannot_replace_it(platform: Platform) -> None:
    platform.promote(platform.train_good())
    (platform.stores.settings.model_repository / MODEL / "1" / "model.onnx").write_bytes(CORRUPT)
    platform.registry.is_away = True
    with pytest.raises(ServerUnavailable):
        restore(platform.stores, outside=platform.outside)
    assert platform.triton.placed() == {MODEL: {1}}
    platform.registry.is_away = False
    restore(platform.stores, outside=platform.outside)
    assert platform.triton.broken() == {}


def test_the_last_judgement_counts_although_the_clock_was_set_back_before_it(platform: Platform) -> None:
    version = platform.train()
    platform.judge(version, FAILED)
    with platform.stores.database.session() as session:
        session.execute(sa.text("UPDATE gate_results SET at = at + interval '1 day'"))
    platform.judge(version)
    assert platform.promote(version).kind == "released"


def test_a_lease_of_the_future_that_a_dead_process_left_is_no_obstacle(platform: Platform) -> None:
    platform.promote(platform.train_good())
    with platform.stores.database.session() as session:
        session.execute(sa.text("UPDATE leases SET holder = 'dead', expires_at = clock_timestamp() + interval '1 day'"))
    platform.promote(platform.train_good())
    platform.assert_served(2)


def test_a_clock_that_jumps_past_a_lease_keeps_its_holder_from_writing(platform: Platform) -> None:
    with truth.lease(platform.stores) as held:
        with platform.stores.database.session() as session:
            session.execute(sa.text("UPDATE leases SET expires_at = clock_timestamp() - interval '1 hour'"))
        with pytest.raises(LeaseHeld):
            held.renew()


def test_routes_that_cannot_be_read_are_written_again(platform: Platform) -> None:
    platform.promote(platform.train_good())
    (platform.stores.settings.model_repository.parent / "routes.json").write_text("{")
    platform.reconcile()
    platform.assert_served(1)


def test_routes_written_by_somebody_else_are_put_right(platform: Platform) -> None:
    for _ in range(2):
        platform.promote(platform.train_good())
    routes = platform.triton.routed()
    assert routes is not None
    platform.triton.route({"production": replace(routes["production"], version=1)})
    platform.reconcile()
    platform.assert_served(2)


def test_a_triton_that_is_away_changes_nothing_and_the_next_reconcile_goes_on(platform: Platform) -> None:
    platform.promote(platform.train_good())
    second = platform.train_good()
    platform.registry.set_alias(MODEL_NAME, "production", second)
    platform.triton.is_away = True
    with pytest.raises(ServerUnavailable):
        platform.reconcile()
    assert platform.served() == 1
    platform.triton.is_away = False
    platform.reconcile()
    platform.assert_served(second)


def test_an_empty_platform_reconciles_without_triton(platform: Platform) -> None:
    platform.triton.is_away = True
    assert platform.reconcile() == []


def _clean_steps(platform: Platform, act: Callable[[Platform], object]) -> int:
    before = len(platform.steps.seen)
    act(platform)
    return len(platform.steps.seen) - before


def _promote_third(platform: Platform) -> object:
    return platform.promote(3)


def _roll_back(platform: Platform) -> object:
    return platform.rollback()


def _prepare_promotion(platform: Platform) -> None:
    """Two served one after the other, a third that has passed: it will push the first out of the repository."""
    _prepare_rollback(platform)
    platform.train_good()


def _prepare_rollback(platform: Platform) -> None:
    platform.promote(platform.train_good())
    platform.promote(platform.train_good())


PROMOTION_STEPS, ROLLBACK_STEPS = 20, 22


@pytest.mark.parametrize("step", range(PROMOTION_STEPS))
def test_a_promotion_killed_at_any_step_is_finished_by_the_next_reconcile(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    _with_rows_as_steps(platform, monkeypatch)
    _prepare_promotion(platform)
    platform.steps.break_at = len(platform.steps.seen) + step
    with pytest.raises(Crash):
        _promote_third(platform)
    _heal(platform, served=2 if step == 0 else 3, rows=2 if step == 0 else 3)


@pytest.mark.parametrize("step", range(ROLLBACK_STEPS))
def test_a_rollback_killed_at_any_step_is_finished_by_the_next_reconcile(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    _with_rows_as_steps(platform, monkeypatch)
    _prepare_rollback(platform)
    platform.steps.break_at = len(platform.steps.seen) + step
    with pytest.raises(Crash):
        _roll_back(platform)
    _heal(platform, served=2 if step == 0 else 1, rows=2 if step == 0 else 3)


def test_the_steps_that_are_killed_are_all_there_are(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_rows_as_steps(platform, monkeypatch)
    _prepare_promotion(platform)
    counted = _clean_steps(platform, _promote_third), _clean_steps(platform, _roll_back)
    assert counted == (PROMOTION_STEPS, ROLLBACK_STEPS)


def _with_rows_as_steps(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a crash possible around the writing of rows too."""
    for name in ("record_release",):
        real = getattr(truth, name)

        def stepped(*given: object, _real: Callable = real, _name: str = name, **named: object) -> object:
            with platform.steps.around(_name):
                return _real(*given, **named)

        monkeypatch.setattr(truth, name, stepped)


def _heal(platform: Platform, served: int, rows: int) -> None:
    """Killed before the first step, nothing was asked for; after it, the wish is known and gets done."""
    platform.steps.break_at = None
    # A crash of the machine takes Triton's memory with it.
    platform.restart_triton()
    platform.reconcile()
    platform.assert_served(served)
    assert len(truth.history(platform.stores, "production")) == rows
    good = {version for version in (served, served - 1) if version}
    assert platform.triton.placed() == {MODEL: good}
    assert platform.triton.ready() == {MODEL: good}
    assert platform.reconcile() == []


def test_of_two_at_once_one_wins_and_the_other_is_told(platform: Platform) -> None:
    platform.promote(platform.train_good())
    second, third = platform.train_good(), platform.train_good()
    inside, go_on = threading.Event(), threading.Event()
    place = platform.triton.place

    def slow_place(*given: object) -> None:
        inside.set()
        assert go_on.wait(30)
        place(*given)  # type: ignore[arg-type]

    platform.triton.place = slow_place  # type: ignore[method-assign, assignment]
    winner = threading.Thread(target=platform.promote, args=(second,))
    winner.start()
    try:
        assert inside.wait(30)
        with pytest.raises(LeaseHeld):
            platform.promote(third)
    finally:
        go_on.set()
        winner.join(30)
    platform.assert_served(second)
    assert len(truth.history(platform.stores)) == 2


def test_one_who_lost_the_lease_without_knowing_writes_nothing(platform: Platform) -> None:
    platform.promote(platform.train_good())
    with truth.lease(platform.stores) as held:
        platform.stores.database.release_lease(truth.LEASE, held.fencing)
        platform.stores.database.lease(truth.LEASE, "somebody else", 60)
        with pytest.raises(LeaseHeld):
            truth.record_release(
                held,
                stage="production",
                version=7,
                model=MODEL,
                digest="",
                endpoint="",
                by="",
                why="",
                evidence={},
                action="release.promoted",
            )
    assert platform.served() == 1


def test_what_is_pending_is_told_until_it_is_done_or_refused(platform: Platform) -> None:
    assert pending(platform.stores, platform.outside) == []
    platform.promote(platform.train_good())
    assert pending(platform.stores, platform.outside) == []
    bad = platform.train()
    platform.judge(bad, FAILED, served=1)
    platform.registry.set_alias(MODEL_NAME, "production", bad)
    assert pending(platform.stores, platform.outside) == [
        "production: version 2 is asked for and to be refused, 1 is served"
    ]
    platform.reconcile()
    assert pending(platform.stores, platform.outside) == []
    platform.judge(bad, served=1)
    assert pending(platform.stores, platform.outside) != []
    platform.reconcile()
    assert pending(platform.stores, platform.outside) == []


def test_a_served_version_that_was_rejected_by_hand_is_pending(platform: Platform) -> None:
    for _ in range(2):
        platform.promote(platform.train_good())
    platform.registry.set_tag(MODEL_NAME, 2, "rejected", "seen on the wall")
    assert pending(platform.stores, platform.outside) != []
    platform.reconcile()
    assert pending(platform.stores, platform.outside) == []


def test_the_status_says_what_stands_between_wish_and_truth(platform: Platform) -> None:
    platform.promote(platform.train_good())
    bad = platform.train()
    platform.judge(bad, FAILED, served=1)
    platform.registry.set_alias(MODEL_NAME, "production", bad)
    staging, _, production = status(platform.stores, platform.outside)
    assert (staging.wished, staging.served, staging.in_the_way) == (None, None, None)
    assert (production.wished, production.served) == (bad, 1)
    assert production.in_the_way is not None
    assert "accuracy_floor" in production.in_the_way


def test_a_canary_that_is_rejected_by_hand_ends_with_the_next_reconcile(platform: Platform) -> None:
    platform.promote(platform.train_good())
    second = platform.train_good()
    platform.promote(second, "canary")
    platform.assert_served(second, "canary")
    assert pending(platform.stores, platform.outside) == []
    platform.registry.set_tag(MODEL_NAME, second, verdicts.REJECTED, "ada: it sees ghosts")
    assert pending(platform.stores, platform.outside) != []
    platform.reconcile()
    assert platform.served("canary") is None
    assert platform.served() == 1
    assert "canary" not in platform.registry.aliases_set
    assert "canary" not in (platform.triton.routed() or {})
    assert platform.registry.versions[second].tags["stage"] == "retired"
    assert platform.reconcile() == []


@pytest.mark.parametrize("how", ["rollback", "promotion"])
def test_a_canary_ends_unrejected_when_what_it_is_compared_with_leaves_production(platform: Platform, how: str) -> None:
    for _ in range(2):
        platform.promote(platform.train_good())
    canary, other = platform.train_good(), platform.train_good()
    platform.promote(canary, "canary")
    if how == "rollback":
        platform.rollback()
    else:
        platform.promote(other)
    assert platform.served("canary") is None
    assert "canary" not in platform.registry.aliases_set
    assert "canary" not in (platform.triton.routed() or {})
    assert not platform.registry.versions[canary].tags.get(verdicts.REJECTED)
    assert pending(platform.stores, platform.outside) == []
    # Judged anew it may try again.
    platform.judge(canary, served=platform.served())
    platform.promote(canary, "canary")
    platform.assert_served(canary, "canary")


def test_a_canary_alias_set_by_hand_on_production_is_refused_and_the_trial_goes_on(platform: Platform) -> None:
    platform.promote(platform.train_good())
    second = platform.train_good()
    platform.promote(second, "canary")
    platform.registry.set_alias(MODEL_NAME, "canary", 1)
    (change,) = platform.reconcile()
    assert (change.kind, change.reason) == ("refused", "it is in production, from where there is no way to canary")
    assert platform.served("canary") == second
    assert platform.answering("canary") == second
    assert pending(platform.stores, platform.outside) == []


def test_a_canary_whose_end_was_cut_off_stays_pending(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.promote(platform.train_good())
    second = platform.train_good()
    platform.promote(second, "canary")
    platform.registry.set_tag(MODEL_NAME, second, verdicts.REJECTED, "ada: it sees ghosts")

    def away(*_: object) -> None:
        raise ServerUnavailable("The registry is away.")

    with monkeypatch.context() as patch:
        patch.setattr(platform.registry, "delete_alias", away)
        with pytest.raises(ServerUnavailable):
            platform.reconcile()
    assert pending(platform.stores, platform.outside) == ["canary: it is to end, it was rejected (ada: it sees ghosts)"]
    platform.reconcile()
    assert platform.served("canary") is None
    assert pending(platform.stores, platform.outside) == []


def test_a_wish_that_failed_too_often_is_no_longer_pending(platform: Platform) -> None:
    platform.promote(platform.train_good())
    bad = platform.train()
    platform.judge(bad, served=1)
    platform.triton.garbled.add(bad)
    platform.registry.set_alias(MODEL_NAME, "production", bad)
    for _ in range(4):
        assert pending(platform.stores, platform.outside) != []
        platform.reconcile()
    assert pending(platform.stores, platform.outside) == []
