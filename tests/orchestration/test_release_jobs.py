"""The jobs that change what is served: in whose name they do it, and whose cards are written anew."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from its_platform.definitions import build_defs
from its_platform.release import ReleaseChange
from its_platform.resources import StoresResource
from its_platform.settings import Settings

STORES = SimpleNamespace()
CHANGE = ReleaseChange("production", "released", 8, 7, "the alias", datetime(2026, 5, 1, tzinfo=UTC))
LOOK = SimpleNamespace(
    version=8,
    percent=100.0,
    verdict=SimpleNamespace(action="advance", reasons=["nothing against it"], labels_wanted=[], numbers={}),
    change=CHANGE,
)
FUNCTIONS = {
    "reconcile": ("its_platform.release.reconcile", [CHANGE]),
    "canary": ("its_platform.release.look_at_canary", LOOK),
    "experiment": ("its_platform.experiments.look_at_experiment", None),
}


class NoStores(StoresResource):
    def open(self) -> Any:
        return STORES


@pytest.fixture
def defs(settings: Settings) -> dg.Definitions:
    return build_defs({"stores": NoStores(home=str(settings.home))})


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """by: in whose name it was done. published: the changes whose cards were asked for."""
    noted = SimpleNamespace(by=[], published=[])

    def standing_in(answer: Any) -> Any:
        def act(stores: Any, by: str) -> Any:
            noted.by.append(by)
            return answer

        return act

    for where, answer in FUNCTIONS.values():
        monkeypatch.setattr(where, standing_in(answer))
    monkeypatch.setattr(
        "its_platform.release.publish_cards", lambda stores, changes: noted.published.append((stores, list(changes)))
    )
    return noted


@pytest.mark.parametrize(
    ("job", "trigger", "by"),
    [
        ("reconcile", "registry", "registry sensor"),
        ("canary", "canary", "canary sensor"),
        ("experiment", "experiment", "canary sensor"),
        ("reconcile", None, "Dagster's page"),
        ("canary", None, "Dagster's page"),
        ("experiment", None, "Dagster's page"),
        ("reconcile", "something else", "Dagster's page"),
    ],
)
def test_a_run_acts_in_the_name_of_what_started_it(
    defs: dg.Definitions, instance: dg.DagsterInstance, called: Any, job: str, trigger: str | None, by: str
) -> None:
    tags = {"its/trigger": trigger} if trigger else {}
    assert defs.resolve_job_def(job).execute_in_process(instance=instance, tags=tags).success
    assert called.by == [by]


@pytest.mark.parametrize("job", ["reconcile", "canary"])
def test_the_cards_of_what_changed_are_written_anew(
    defs: dg.Definitions, instance: dg.DagsterInstance, called: Any, job: str
) -> None:
    assert defs.resolve_job_def(job).execute_in_process(instance=instance).success
    assert called.published == [(STORES, [CHANGE])]


def test_a_look_that_changed_nothing_writes_no_card(
    defs: dg.Definitions, instance: dg.DagsterInstance, called: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = SimpleNamespace(**{**vars(LOOK), "change": None})
    monkeypatch.setattr("its_platform.release.look_at_canary", lambda stores, by: waiting)
    assert defs.resolve_job_def("canary").execute_in_process(instance=instance).success
    assert called.published == []
