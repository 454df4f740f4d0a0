"""The model card says what is known, what was let go by name, and what nobody judged; both pages stand alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from its_platform.cli import model as commands
from its_platform.contract import ImageSize
from its_platform.errors import ServerUnavailable
from its_platform.model.scoring import Evaluation, SliceScore
from its_platform.release import (
    GateResult,
    Judgement,
    ReleaseChange,
    Waiver,
    publish_card,
    publish_cards,
    read_model_card,
    verdicts,
    write_card,
)
from its_platform.release import card as card_module
from its_platform.release.card import ModelCard, VersionFile
from its_platform.release.card_pages import as_html, as_markdown, chart
from its_platform.release.truth import ChangeKind
from its_platform.stores import Stores
from its_platform.stores.registry import MODEL_NAME, ModelVersion, Registry, VersionFacts
from tests.fakes import card_of, tiny_onnx

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def score(slice: str, ap50: float, class_name: str | None = None, boxes: int = 200) -> SliceScore:
    return SliceScore(slice, class_name, boxes, 20, ap50, ap50 / 2, ap50, ap50, ap50 - 0.05, ap50 + 0.05)


EVALUATION = Evaluation(
    slices=(
        score("all", 0.81),
        score("all", 0.91, "*"),
        score("golden", 0.8),
        score("golden", 0.9, "*"),
        score("golden", 0.85, "car"),
        score("golden", 0.2, "bus", boxes=12),
        score("golden/light=day", 0.87),
        score("golden/light=night", 0.41),
        score("class=car", 0.85),
    ),
    classes=("car", "bus", "tram"),
    thresholds={"car": 0.31},
    dataset="v1",
)
VERSION = ModelVersion(
    MODEL_NAME, 3, "run3", "d" * 64, "v1", "yolo", 320, ["car", "bus", "tram"], {"car": 0.31}, "e" * 64,
    {"dataset_digest": "f" * 64}, NOON,
)  # fmt: skip
FAILED = GateResult("accuracy_floor", "any_class_ap50", "golden", 0.8, 0.9, 200, "failed", "AP50 <b>0.800</b> | low")
PASSED = GateResult("export_parity", "matched_share", "all", 1.0, 0.99, None, "passed", "all of them")
CAMERAS = {"cameras": {"north": {"world": "simulated", "privacy": "none"}}, "licence": "CC BY 4.0"}
CARD = ModelCard(
    version=VERSION,
    weights=2_600_000,
    trained={"epochs": "2", "seed": "0"},
    run={"code_commit": "abc", "code_is_dirty": "true", "data_commit": "def", "dagster_run_id": "run-77"},
    dataset={**card_of("v1"), **CAMERAS},
    evaluation=EVALUATION,
    judgement=Judgement(3, NOON, "round", 2, (PASSED, FAILED)),
    waivers=(),
    releases=(),
    aliases=("staging",),
    files=(VersionFile("model.onnx", "ONNX", 123456, "e" * 64),),
    minimum_boxes=50,
    made_at=NOON,
)


@pytest.mark.parametrize("render", [as_markdown, as_html])
def test_both_pages_hold_every_part(render: Any) -> None:
    page = render(CARD)
    for part in (
        "traffic-detector version 3", "not passed", "car, bus, tram", "2,600,000", "0.410", "0.36", "accuracy_floor",
        "CC BY 4.0", "simulated", "epochs", "e" * 64, "f" * 64, "abc (changed)", "run-77", "its trace model:3",
        "identifies nobody", "golden/light=night",
    ):  # fmt: skip
        assert part in page, part


@pytest.mark.parametrize(("size", "shown"), [(320, "320x320 px"), ((192, 320), "320x192 px")])
@pytest.mark.parametrize("render", [as_markdown, as_html])
def test_the_input_is_told_as_width_by_height(render: Any, size: ImageSize, shown: str) -> None:
    page = render(replace(CARD, version=replace(VERSION, image_size=size)))
    assert f"{shown}, RGB, letterboxed" in page


def test_the_limits_name_what_was_not_judged() -> None:
    said = " ".join(CARD.limits())
    assert "judged on light day, light night" in said
    assert "bus (12), tram (0)" in said
    assert "Weakest where it was judged: golden/light=night, mAP50 0.410" in said
    assert "simulated world alone" in said
    assert "not judged on a golden set" in replace(CARD, evaluation=None).limits()[0]


def test_a_waiver_is_shown_and_the_verdict_stays_what_it_is() -> None:
    waived = replace(CARD, waivers=(Waiver(3, "accuracy_floor", "Ada", "a first try", NOON),))
    assert (CARD.outcome, waived.outcome) == ("not passed", "passed")
    for page in (as_markdown(waived), as_html(waived)):
        assert "Ada" in page
        assert "a first try" in page
        assert "waived" in page


def test_what_somebody_wrote_cannot_become_markup() -> None:
    page = as_html(CARD)
    assert "<b>0.800</b>" not in page
    assert "&lt;b&gt;0.800" in page
    rows = [line for line in as_markdown(CARD).splitlines() if "accuracy_floor" in line]
    assert all("\\| low" in row for row in rows)


def test_the_page_needs_nothing_from_outside() -> None:
    page = as_html(CARD)
    assert re.findall(r"(?:src|href)=|url\(|@import|<script", page) == []


def test_a_version_of_which_little_is_known_still_has_a_card() -> None:
    bare = replace(
        CARD,
        version=replace(VERSION, thresholds={}, tags={}, registered_at=None),
        weights=None,
        trained={},
        run={},
        dataset=None,
        evaluation=None,
        judgement=None,
        files=(),
        aliases=(),
    )
    assert bare.outcome == "not judged"
    assert chart(bare) == ""
    for page in (as_markdown(bare), as_html(bare)):
        assert "has no card in these stores" in page
        assert "ot judged yet" in page


def test_the_chart_has_a_row_for_each_slice_that_has_boxes() -> None:
    assert chart(CARD).count('class="mean"') == 4
    assert chart(CARD).count('class="any"') == 2


@pytest.fixture
def registered(stores: Stores, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stores:
    """Version 1 in MLflow, judged."""
    folder = tmp_path / "version"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(tiny_onnx())
    (folder / "evaluation.json").write_text(json.dumps(EVALUATION.as_dict()))
    client = registry.client()
    run = client.create_run(registry.experiment(), tags={"code_commit": "abc"}).info.run_id
    client.log_param(run, "epochs", 2)
    facts = VersionFacts("v1", "yolo", 64, ["car", "bus", "tram"], {"car": 0.3}, {"dataset_digest": "f" * 64})
    registry.create_version(run, folder, facts)
    verdicts.record_judgement(stores, 1, "test", None, [PASSED, FAILED])
    monkeypatch.setattr(card_module, "card_reader", lambda _: card_of)
    return stores


def test_the_card_lies_with_the_run_and_its_gist_on_the_page_of_the_version(registered: Stores) -> None:
    before = registered.registry.get(MODEL_NAME, 1)
    publish_card(registered, 1)
    client = registered.registry.client()
    assert {file.path for file in client.list_artifacts(before.run_id, "card")} == {
        "card/model_card.html",
        "card/model_card.md",
    }
    described = client.get_model_version(MODEL_NAME, "1").description
    assert "Gates: **not passed** (accuracy_floor)." in described
    assert "Rejected" not in described
    assert "AP50 of any class 0.900" in described
    assert registered.registry.get(MODEL_NAME, 1) == before, "the version itself is as it was registered"


def test_a_card_written_again_says_what_was_waived_since(registered: Stores) -> None:
    publish_card(registered, 1)
    known = registered.registry.get(MODEL_NAME, 1)
    verdicts.waive(registered, known, "accuracy_floor", "Ada", "a first try")
    assert publish_card(registered, 1).outcome == "passed"
    assert "Gates: **passed**" in registered.registry.client().get_model_version(MODEL_NAME, "1").description


def test_the_page_of_the_version_says_that_it_was_rejected_and_why(registered: Stores) -> None:
    registered.registry.set_tag(MODEL_NAME, 1, "rejected", "2026-05-01 by the sensor: it is worse")
    publish_card(registered, 1)
    described = registered.registry.client().get_model_version(MODEL_NAME, "1").description
    assert "**Rejected**, 2026-05-01 by the sensor: it is worse." in described


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The versions whose cards were asked for."""
    asked: list[int] = []
    monkeypatch.setattr(card_module, "publish_card", lambda stores, version: asked.append(version))
    return asked


def change(kind: ChangeKind, version: int, previous: int | None = None) -> ReleaseChange:
    return ReleaseChange("production", kind, version, previous, "a test", NOON)


@pytest.mark.parametrize(
    ("changes", "versions"),
    [
        ([change("released", 2, 1), change("ended", 2)], [1, 2]),
        ([change("rolled_back", 1, 2)], [1, 2]),
        ([change("ended", 0), change("released", 3)], [3]),
        ([change(kind, 2, 1) for kind in ("restored", "refused", "failed", "unchanged")], []),
    ],
)
def test_the_cards_of_what_began_or_ceased_to_be_served_are_written_anew(
    stores: Stores, published: list[int], changes: list[ReleaseChange], versions: list[int]
) -> None:
    publish_cards(stores, changes)
    assert published == versions


def test_a_card_that_cannot_be_written_is_told_and_breaks_nothing(
    registered: Stores, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlflow.exceptions import MlflowException

    publish_cards(registered, [change("released", 1, 9)])
    client = registered.registry.client()
    assert "Gates" in client.get_model_version(MODEL_NAME, "1").description
    assert "There is no version 9" in caplog.text

    def away(*_: object) -> None:
        raise MlflowException("the disk is full")

    monkeypatch.setattr(client, "log_artifact", away)
    publish_cards(registered, [change("released", 1)])
    with pytest.raises(ServerUnavailable, match="the disk is full"):
        publish_card(registered, 1)


def test_a_version_in_another_format_has_a_card_at_once(
    stores: Stores, published: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_stores", lambda: stores)
    monkeypatch.setattr("its_platform.release.publish_card", card_module.publish_card)
    made = replace(VERSION, version=4, format="onnx-int8")
    monkeypatch.setattr("its_platform.model.formats.export_format", lambda *_: made)
    monkeypatch.setattr("its_platform.model.formats.formats_of", lambda *_: [])
    words = ["export", "3", "--format", "onnx-int8", "--json"]
    done = CliRunner().invoke(commands.app, words, catch_exceptions=False)
    assert json.loads(done.stdout)["version"] == 4
    assert published == [4]


def test_the_facts_are_read_from_where_they_live(registered: Stores) -> None:
    card = read_model_card(registered, 1)
    assert card.trained == {"epochs": "2"}
    assert card.weights == 300 * 6
    assert [file.name for file in card.files] == ["evaluation.json", "model.onnx"]
    assert card.evaluation == EVALUATION
    assert card.version.registered_at is not None
    assert abs((card.made_at - card.version.registered_at).total_seconds()) < 600


def test_the_command_prints_the_card_and_writes_its_pages(
    registered: Stores, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(commands, "_stores", lambda: registered)
    out = tmp_path / "out"
    done = CliRunner().invoke(commands.app, ["card", "1", "--out", str(out), "--json"], catch_exceptions=False)
    told = json.loads(done.stdout)
    assert told["outcome"] == "not passed"
    assert [Path(page).name for page in told["pages"]] == ["model_card.md", "model_card.html"]
    assert all(Path(page).is_file() for page in told["pages"])
    shown = CliRunner().invoke(commands.app, ["card", "1"], catch_exceptions=False).stdout
    assert "Use and limits" in shown


@pytest.mark.screens
def test_the_page_opens_in_a_browser_without_asking_anyone(tmp_path: Path, require: Any) -> None:
    from e2e.screens import QUIET, find_chromium

    require(find_chromium() is not None, "Chromium")
    from playwright.sync_api import sync_playwright

    _, page_file = write_card(CARD, tmp_path)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(QUIET))
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_file.as_uri())
        assert page.get_by_role("heading", name="traffic-detector version 3").is_visible()
        assert page.locator("svg circle").count() == 6
        width = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        browser.close()
    assert asked == [page_file.as_uri()]
    assert width[0] <= width[1]
