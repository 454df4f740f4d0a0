"""When a new model is trained, and when not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from its_platform.retraining import (
    Decision,
    EarlierTraining,
    RetrainingHistory,
    decide,
    list_decisions,
    read_history,
    record_decision,
)
from its_platform.settings import RetrainingSettings
from its_platform.stores import Stores

NOW = datetime(2026, 5, 1, 22, tzinfo=UTC)
SINCE, UNTIL = NOW - timedelta(hours=1), NOW - timedelta(minutes=40)
SETTINGS = RetrainingSettings(minimum_reviewed_frames=40, first_model_frames=60, cool_down_s=3600)
DRIFTED = RetrainingHistory(
    served_version=1,
    newest_version=1,
    windows=3,
    drifted=2,
    needed=2,
    looked_at=3,
    drifted_since=SINCE,
    drifted_until=UNTIL,
    latest_report="r2",
    worst="brightness is 9.1 times its threshold.",
    frames=120,
    reviewed_frames=50,
)
EARLIER = EarlierTraining(at=NOW - timedelta(hours=3), action="retrain", version=1, key="retrain-v1-r1", newest_then=1)


def test_a_drifted_state_with_enough_reviewed_frames_retrains_on_the_drifted_windows() -> None:
    decision = decide(DRIFTED, SETTINGS, NOW)
    assert decision.action == "retrain"
    assert decision.window == (SINCE, UNTIL)
    assert decision.key == "retrain-v1-r2"
    assert "2 of the last 3 windows of version 1 have drifted" in decision.reasons[0]
    assert decision.numbers["reviewed_frames"] == 50


def test_fewer_than_k_drifted_windows_start_nothing() -> None:
    decision = decide(replace(DRIFTED, drifted=1), SETTINGS, NOW)
    assert (decision.action, decision.key, decision.window) == ("nothing", "", None)


def test_no_training_starts_while_something_is_found_out_in_live_traffic() -> None:
    decision = decide(replace(DRIFTED, trial="Version 2 is a canary"), SETTINGS, NOW)
    assert (decision.action, decision.reasons) == ("wait", ["Version 2 is a canary; a training waits for it."])


def test_without_a_judged_window_nothing_is_claimed_about_drift() -> None:
    decision = decide(replace(DRIFTED, drifted=0, windows=0, worst=""), SETTINGS, NOW)
    assert decision.reasons == ["No window of version 1 has been judged yet."]


def test_too_few_reviewed_frames_wait_for_labels_and_say_how_many_are_missing() -> None:
    decision = decide(replace(DRIFTED, reviewed_frames=12), SETTINGS, NOW)
    assert decision.action == "waiting_for_labels"
    assert "12 of 120 frames of the drifted windows are reviewed; 40 are needed." in decision.reasons[1]


def test_frames_that_the_simulated_reviewer_can_do_count_as_labels_to_come() -> None:
    decision = decide(replace(DRIFTED, reviewed_frames=0, reviewable_frames=120), SETTINGS, NOW)
    assert decision.action == "retrain"
    assert "120 can be reviewed on demand" in decision.reasons[1]


def test_the_cool_down_after_the_training_of_the_served_model_holds() -> None:
    history = replace(
        DRIFTED, served_version=2, newest_version=2, last_training=replace(EARLIER, at=NOW - timedelta(minutes=20))
    )
    decision = decide(history, SETTINGS, NOW)
    assert decision.action == "wait"
    assert "20 min ago; cool-down for another 40 min" in decision.reasons[1]
    assert decide(history, SETTINGS, NOW + timedelta(minutes=41)).action == "retrain"


def test_a_candidate_for_the_same_drift_waits_for_the_windows_to_recover() -> None:
    history = replace(DRIFTED, newest_version=2, last_training=EARLIER)
    waiting = decide(history, SETTINGS, NOW)
    assert waiting.action == "wait"
    assert "Version 2 was trained for this drift" in waiting.reasons[1]
    recovered = decide(replace(history, last_training=replace(EARLIER, recovered=True)), SETTINGS, NOW)
    assert recovered.action == "retrain"
    assert recovered.key == "retrain-v1-r2"


def test_a_version_refused_before_the_drift_does_not_count_as_its_candidate() -> None:
    history = replace(DRIFTED, newest_version=2, last_training=replace(EARLIER, newest_then=2))
    assert decide(history, SETTINGS, NOW).action == "retrain"


def test_a_training_asked_for_twice_keeps_its_key_so_that_it_starts_once() -> None:
    history = replace(DRIFTED, latest_report="r3", last_training=replace(EARLIER, at=NOW - timedelta(minutes=1)))
    decision = decide(history, SETTINGS, NOW)
    assert (decision.action, decision.key) == ("retrain", EARLIER.key)


def test_a_training_that_gave_no_model_is_tried_again_after_the_cool_down_but_not_for_ever() -> None:
    decision = decide(replace(DRIFTED, last_training=EARLIER), SETTINGS, NOW)
    assert (decision.action, decision.key) == ("retrain", "retrain-v1-r1#2")
    tired = replace(DRIFTED, last_training=replace(EARLIER, attempts=SETTINGS.attempts, key="retrain-v1-r1#5"))
    assert decide(tired, SETTINGS, NOW).action == "wait"


def test_no_more_trainings_are_started_in_a_day_than_the_policy_allows() -> None:
    settings = SETTINGS.model_copy(update={"most_a_day": 3})
    assert decide(replace(DRIFTED, trainings_of_day=2), settings, NOW).action == "retrain"
    stopped = decide(replace(DRIFTED, trainings_of_day=3), settings, NOW)
    assert (stopped.action, stopped.key, stopped.window) == ("wait", "", None)
    assert stopped.reasons[-1] == "3 trainings were started in the last 24 h; 3 are allowed."
    again = replace(DRIFTED, trainings_of_day=3, last_training=replace(EARLIER, at=NOW - timedelta(minutes=1)))
    assert decide(again, settings, NOW).key == EARLIER.key, "the one that was asked for already is not another one"


def test_a_clock_that_was_set_back_does_not_make_the_cool_down_endless() -> None:
    years_ahead = replace(EARLIER, at=NOW + timedelta(days=700), version=0)
    assert decide(replace(DRIFTED, last_training=years_ahead), SETTINGS, NOW).action == "retrain"
    same_drift = replace(EARLIER, at=NOW + timedelta(days=700))
    decision = decide(replace(DRIFTED, last_training=same_drift), SETTINGS, NOW)
    assert decision.action == "retrain"
    assert decision.key == f"{EARLIER.key}#2", "a key of its own, or Dagster would start nothing"


def test_a_clock_a_few_seconds_ahead_does_not_cut_the_cool_down_short() -> None:
    ahead = replace(EARLIER, at=NOW + timedelta(seconds=5), version=0)
    assert decide(replace(DRIFTED, last_training=ahead), SETTINGS, NOW).action == "wait"


def test_a_running_training_and_a_switch_that_is_off_come_first() -> None:
    assert decide(replace(DRIFTED, is_training=True), SETTINGS, NOW).action == "wait"
    off = SETTINGS.model_copy(update={"enabled": False})
    assert decide(DRIFTED, off, NOW).action == "nothing"


@pytest.mark.parametrize(
    ("history", "action"),
    [
        (RetrainingHistory(), "nothing"),
        (RetrainingHistory(frames=100, reviewed_frames=10), "waiting_for_labels"),
        (RetrainingHistory(frames=100, reviewed_frames=10, reviewable_frames=90), "train_first"),
        (RetrainingHistory(frames=100, reviewed_frames=60), "train_first"),
        (RetrainingHistory(frames=100, reviewed_frames=60, newest_version=1), "wait"),
    ],
)
def test_a_first_model_needs_frames_labels_and_no_candidate(history: RetrainingHistory, action: str) -> None:
    decision = decide(history, SETTINGS, NOW)
    assert decision.action == action
    assert decision.window is None
    assert bool(decision.key) is decision.is_training


def test_the_same_decision_is_kept_once_and_another_one_beside_it(stores: Stores) -> None:
    wait = Decision("wait", ["The last training was started 5 s ago; cool-down for another 55 s."])
    assert record_decision(stores, wait)
    assert not record_decision(
        stores, Decision("wait", ["The last training was started 7 s ago; cool-down for another 53 s."])
    )
    first = decide(DRIFTED, SETTINGS, NOW)
    assert record_decision(stores, first)
    assert not record_decision(stores, first)
    kept = list_decisions(stores)
    assert [row["action"] for row in kept] == ["retrain", "wait"]
    assert kept[0]["report_id"] == "r2"
    assert kept[0]["numbers"]["window"] == [SINCE.isoformat(), UNTIL.isoformat()]


def test_an_empty_platform_has_nothing_to_decide(stores: Stores, registry: object) -> None:
    history = read_history(stores)
    assert history == RetrainingHistory(needed=2, looked_at=3)
    assert decide(history, SETTINGS, NOW).reasons == ["There are no frames yet."]


def test_what_was_decided_is_read_back_with_its_first_time_and_its_attempt(stores: Stores, registry: object) -> None:
    record_decision(stores, decide(DRIFTED, SETTINGS, NOW))
    record_decision(stores, Decision("wait", ["A training is under way."]))
    record_decision(stores, decide(DRIFTED, SETTINGS, NOW))
    last = read_history(stores).last_training
    assert last is not None
    assert (last.version, last.key, last.attempts, last.newest_then) == (1, "retrain-v1-r2", 1, 1)
    assert last.at == list_decisions(stores)[-1]["at"]
