"""Checks of frames, and the runner that other stages use."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd
import pytest

from its_platform import cli
from its_platform.cameras import add_camera
from its_platform.cameras.registry import make_camera
from its_platform.errors import BadInput
from its_platform.frames.expectations import CheckResult, check_frames, run_expectations
from its_platform.frames.index import FrameIndex, FrameRow
from its_platform.frames.ingest import ingest
from its_platform.simulation.timeline import append_segment
from its_platform.stores import Stores


@pytest.fixture
def taken(stores: Stores) -> Stores:
    add_camera(stores, make_camera("s", "sim://junction", sample_interval_s=2))
    append_segment(stores.settings, "day", "clear", 8)
    ingest(stores, "s")
    return stores


def first_row(stores: Stores) -> FrameRow:
    record = FrameIndex(stores).query().iloc[0].to_dict()
    record.pop("day")
    return FrameRow(**{**record, "sequence": None})


def test_frames_as_ingest_leaves_them_pass(taken: Stores) -> None:
    result = check_frames(taken)
    assert result.passed
    assert result.failures == []
    assert result.statistics["rows"] == result.statistics["objects_checked"] == 4
    assert result.statistics["light"] == {"day": 4}


def test_no_frames_are_not_good_frames(stores: Stores) -> None:
    assert not check_frames(stores).passed


def test_a_missing_and_a_damaged_object_are_told(taken: Stores) -> None:
    keys = list(FrameIndex(taken).query()["object_key"])
    taken.objects.delete(keys[0])
    taken.objects.put(keys[1], b"something else")
    result = check_frames(taken)
    assert not result.passed
    assert "is missing" in " ".join(result.failures)
    assert keys[1] in " ".join(result.failures)


def test_a_lost_object_beside_the_sample_is_found_where_all_are_read(
    taken: Stores, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ITS_DATABASE_URL", str(taken.settings.database_url))
    monkeypatch.setattr("its_platform.frames.expectations.SAMPLE_OBJECTS", 2)
    df = FrameIndex(taken).query()
    sampled = df.sample(2, random_state=0).index
    taken.objects.delete(df.drop(sampled)["object_key"].iloc[0])
    codes, read = [], []
    for words in (["frames", "check", "--json"], ["frames", "check", "--all", "--json"]):
        with pytest.raises(SystemExit) as end:
            cli.main(words)
        codes.append(end.value.code)
        read.append(json.loads(capsys.readouterr().out)["statistics"]["objects_checked"])
    assert codes == [0, 1]
    assert read == [2, 4]


def test_a_figure_out_of_its_range_is_told(taken: Stores) -> None:
    FrameIndex(taken).add([replace(first_row(taken), camera_id="t", brightness=7.0, light="noon")])
    told = " ".join(check_frames(taken).failures)
    assert "brightness" in told
    assert "noon" in told


def test_a_camera_whose_picture_stands_still_is_told(taken: Stores) -> None:
    FrameIndex(taken).add([replace(first_row(taken), camera_id="stuck", is_frozen=True)])
    assert "the picture of stuck stands still" in " ".join(check_frames(taken).failures)


def test_an_expectation_that_cannot_be_computed_counts_as_failed() -> None:
    import great_expectations.expectations as gxe

    df = pd.DataFrame({"a": [1, 2, 2]})
    result = run_expectations(
        df, "t", [gxe.ExpectColumnValuesToBeUnique(column="a"), gxe.ExpectColumnToExist(column="b")]
    )
    assert not result.passed
    assert len(result.failures) == 2
    missing = run_expectations(df, "t", [gxe.ExpectColumnValuesToBeBetween(column="b", min_value=0)])
    assert not missing.passed
    assert "b" in missing.failures[0]


def test_an_empty_suite_is_refused() -> None:
    with pytest.raises(BadInput):
        run_expectations(pd.DataFrame({"a": [1]}), "t", [])


def test_checks_add_up() -> None:
    both = CheckResult(True, [], {"a": 1}) & CheckResult(False, ["wrong"], {"b": 2})
    assert both == CheckResult(False, ["wrong"], {"a": 1, "b": 2})
