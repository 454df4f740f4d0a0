"""Each change that a person or the platform makes leaves one row of `audit`, with no secret in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from its_platform import stack
from its_platform.backup import create_backup, open_target, prune_backups
from its_platform.cameras import add_camera
from its_platform.cameras.registry import make_camera, remove_camera
from its_platform.certificates import server_names
from its_platform.errors import BadInput, GateNotPassed, NotFound
from its_platform.release import (
    freeze,
    hold_canary,
    look_at_canary,
    resume_canary,
    rollout,
    stop_canary,
    thaw,
    waive,
)
from its_platform.release.canary import Evidence, Verdict
from its_platform.release.placing import VersionDoesNotServe
from its_platform.retraining import Decision, record_decision
from its_platform.stores import Stores, versions
from its_platform.stores.journal import Journal
from its_platform.stores.key_export import export_keys, import_keys
from its_platform.stores.keys import Owner
from its_platform.stores.objects import open_keys
from its_platform.stores.registry import MODEL_NAME
from tests.fakes import CORRUPT, Steps, fake_outside
from tests.integration.trail import chain, rows, said
from tests.unit.dataset.footage import add_frames
from tests.unit.experiments.test_running import Laboratory
from tests.unit.release.platform import FAILED, Platform

NORTH = Owner.of("north", datetime(2026, 5, 1, tzinfo=UTC))


@pytest.fixture
def platform(stores: Stores) -> Platform:
    steps = Steps()
    return Platform(stores, fake_outside(stores.settings, steps=steps), steps)


def test_cameras(stores: Stores) -> None:
    camera = make_camera("north", "rtsp://ann:hunter2@10.0.0.7/a?token=hunter2")
    add_camera(stores, camera)
    add_camera(stores, camera)
    with pytest.raises(BadInput):
        add_camera(stores, make_camera("north", "sim://junction"))
    add_camera(stores, make_camera("north", "sim://junction"), replace=True)
    remove_camera(stores, "north")
    with pytest.raises(NotFound):
        remove_camera(stores, "north")
    done = [("camera.added", "north", "done"), ("camera.changed", "north", "done"), ("camera.removed", "north", "done")]
    assert said(stores) == done
    assert "hunter2" not in json.dumps([row.detail for row in rows(stores)])
    assert rows(stores)[1].detail["after"]["source"] == "sim://junction"


def test_releases(platform: Platform) -> None:
    stores = platform.stores
    first = platform.train_good()
    platform.promote(first, "staging")
    platform.promote(first)
    platform.promote(first)
    bad = platform.train()
    platform.judge(bad, FAILED, served=first)
    with pytest.raises(GateNotPassed):
        platform.promote(bad)
    waive(stores, platform.registry.get(MODEL_NAME, bad), FAILED.key, "ann", "it is a test")
    platform.promote(bad)
    platform.rollback()
    corrupt = platform.train(CORRUPT)
    platform.judge(corrupt, served=first)
    with pytest.raises(VersionDoesNotServe):
        platform.promote(corrupt)
    freeze(stores, "ann", "a parade", platform.outside)
    thaw(stores, "ann", "it is over")
    assert said(stores) == [
        ("release.staged", "1", "done"),
        ("release.promoted", "1", "done"),
        ("release.refused", "2", "refused"),
        ("release.waived", "2", "done"),
        ("release.promoted", "2", "done"),
        ("release.rolled_back", "1", "done"),
        ("release.failed", "3", "failed"),
        ("release.frozen", "production", "done"),
        ("release.thawed", "production", "done"),
    ]
    assert [row.by for row in rows(stores)][:3] == ["tester"] * 3
    assert rows(stores)[5].why == "it misses buses"
    assert chain(stores).broken is None


def test_what_the_reconciler_does_by_itself(platform: Platform) -> None:
    platform.promote(platform.train_good())
    second, bad = platform.train_good(), platform.train()
    platform.registry.set_alias(MODEL_NAME, "production", second)
    platform.reconcile()
    platform.reconcile()
    platform.registry.set_alias(MODEL_NAME, "production", bad)
    platform.reconcile()
    platform.reconcile()
    assert said(platform.stores)[1:] == [("release.promoted", "2", "done"), ("release.refused", "3", "refused")]
    assert [row.by for row in rows(platform.stores)][1:] == ["tester", "tester"]
    assert rows(platform.stores)[1].why == "the alias production names version 2"


def test_a_canary(platform: Platform) -> None:
    stores, outside = platform.stores, platform.outside
    platform.promote(platform.train_good())
    platform.promote(platform.train_good(), "canary")
    hold_canary(stores, "ann", "wait for the night")
    resume_canary(stores, "ann", "it is night")
    stop_canary(stores, "ann", "it flickers", outside=outside)
    assert said(stores)[1:] == [
        ("canary.started", "2", "done"),
        ("canary.held", "2", "done"),
        ("canary.resumed", "2", "done"),
        ("canary.ended", "2", "done"),
    ]
    assert rows(stores)[-1].why == "it flickers"


def test_a_canary_that_is_widened_until_it_is_in_production(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = platform.stores
    monkeypatch.setattr(rollout, "gather_evidence", lambda *given: Evidence((), 0))
    monkeypatch.setattr(rollout, "proven_lights", lambda *given: set())
    monkeypatch.setattr(rollout, "judge_canary", lambda *given: Verdict("advance", ["nothing against it"]))
    platform.promote(platform.train_good())
    platform.promote(platform.train_good(), "canary")
    steps = stores.settings.canary.steps
    for _ in steps:
        look_at_canary(stores, "sensor", outside=platform.outside)
    assert said(stores)[1:] == [
        ("canary.started", "2", "done"),
        *[("canary.widened", "2", "done")] * (len(steps) - 1),
        ("release.promoted", "2", "done"),
        ("canary.ended", "2", "done"),
    ]
    assert [row.detail.get("percent") for row in rows(stores)[1 : len(steps) + 1]] == list(steps)
    assert {row.by for row in rows(stores)[2:]} == {"sensor"}


def test_an_experiment(stores: Stores) -> None:
    steps = Steps()
    laboratory = Laboratory(stores, fake_outside(stores.settings, steps=steps), steps)
    laboratory.promote(laboratory.train_good())
    laboratory.train_good()
    laboratory.start()
    laboratory.stop()
    assert said(stores)[1:] == [
        ("experiment.started", "1", "done"),
        ("canary.started", "2", "done"),
        ("experiment.ended", "1", "done"),
        ("canary.ended", "2", "done"),
    ]
    assert rows(stores)[1].why == "it sees more at dusk"
    assert rows(stores)[2].detail["experiment"] == 1
    assert rows(stores)[3].detail == {"decision": "stopped"}


def test_a_decision_to_train_and_not_one_to_wait(stores: Stores) -> None:
    record_decision(stores, Decision("wait", ["A training is under way."]))
    train = Decision("retrain", ["It drifted."], {"served_version": 1}, key="k")
    record_decision(stores, train)
    record_decision(stores, train)
    assert said(stores) == [("retraining.decided", "retrain", "done")]


def test_keys(stores: Stores, tmp_path: Path) -> None:
    keys = open_keys(stores.settings)
    keys.for_sealing(NORTH)
    keys.for_sealing(None)
    keys.rotate()
    export_keys(keys, tmp_path / "safe.json", "a passphrase of mine")
    import_keys(keys, tmp_path / "safe.json", "a passphrase of mine")
    keys.destroy(NORTH, "ann", "asked for")
    with pytest.raises(NotFound):
        keys.destroy(Owner("nobody", NORTH.day), "ann")
    file = str(tmp_path / "safe.json")
    assert said(stores) == [
        ("key.made", "master key", "done"),
        ("key.rotated", "master key", "done"),
        ("key.exported", file, "done"),
        ("key.imported", file, "done"),
        ("key.destroyed", "north/2026-05-01", "done"),
        ("key.destroyed", "nobody/2026-05-01", "failed"),
    ]
    secret = next((keys.folder / "master").glob("*.key")).read_text()
    kept = json.dumps([row.detail for row in rows(stores)])
    assert secret not in kept
    assert "a passphrase of mine" not in kept
    assert Journal(stores.settings).waiting() == 0


def test_certificates(stores: Stores, its: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    assert its("certs", "make", "--name", "triton.example.org")[0] == 0
    assert its("certs", "make")[0] == 1
    assert its("certs", "renew")[0] == 0
    assert its("certs", "client", "north", "--out", tmp_path / "north")[0] == 0
    folder = str(stores.settings.certificates)
    assert said(stores) == [
        ("certificate.made", folder, "done"),
        ("certificate.made", folder, "failed"),
        ("certificate.renewed", folder, "done"),
        ("certificate.issued", "north", "done"),
    ]
    assert rows(stores)[0].detail["names"] == [*server_names(stores.settings), "triton.example.org"]
    assert [row.program for row in rows(stores)] == ["its certs make"] * 2 + ["its certs renew", "its certs client"]


def test_labels(stores: Stores, its: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    add_camera(stores, make_camera("north", "sim://junction"))
    (frame,) = add_frames(stores, "north", [0])
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / f"{frame}.txt").write_text("0 .5 .5 .2 .2\n")
    words = ("labels", "import", "yolo", tmp_path, "--camera", "north", "--classes", "car")
    before = len(rows(stores))
    assert its(*words, "--dry-run")[0] == 0
    assert its(*words)[0] == 0
    assert its(*words)[0] == 0
    (row,) = rows(stores)[before:]
    assert (row.action, row.outcome, row.program) == ("labels.added", "done", "its labels import")
    assert row.detail == {"frames": 1, "boxes": {"car": 1}, "origins": ["imported"], "reviewed": 1}


def test_backups(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    target = open_target(stores.settings, (tmp_path / "target").as_uri())
    made = create_backup(stores.settings, target).backup
    create_backup(stores.settings, open_target(stores.settings, (tmp_path / "target").as_uri()))
    prune_backups(stores.settings, target, keep=1)
    name = target.name
    assert said(stores) == [("backup.created", name, "done")] * 2 + [("backup.pruned", name, "done")]
    assert rows(stores)[0].detail["backup"] == made.id
    assert rows(stores)[2].detail == {"keep": 1, "removed": [made.id]}


def test_servers_and_their_profile(
    stores: Stores, its: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "start_stack", lambda *given: [])
    monkeypatch.setattr(stack, "stop_stack", lambda *given: ["triton"])
    assert its("up", "--profile", "services")[0] == 0
    assert its("up", "--profile", "services")[0] == 0
    assert its("down")[0] == 0
    monkeypatch.setattr(stack, "stop_stack", lambda *given: [])
    assert its("down")[0] == 0
    home = str(stores.settings.home)
    assert said(stores) == [
        ("settings.changed", "profile", "done"),
        ("stack.started", home, "done"),
        ("stack.started", home, "done"),
        ("stack.stopped", home, "done"),
    ]
    assert rows(stores)[0].detail == {"profile": "services"}


def test_a_push_by_hand(
    stores: Stores, its: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ITS_DATA_REMOTE", "s3+https://key:hunter2@10.0.0.7:9000/data")
    monkeypatch.setattr(versions, "push", lambda settings: 3)
    assert its("dataset", "push", "--json")[1] == '{\n  "files_proved": 3\n}\n'
    (row,) = rows(stores)
    assert (row.action, row.outcome, row.detail) == ("dataset.pushed", "done", {"files_proved": 3})
    assert "10.0.0.7" in row.subject
    assert "hunter2" not in row.subject
