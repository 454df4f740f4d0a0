"""The chain on a real PostgreSQL, which takes nothing but new rows, and in which any change is found."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from its_platform.cameras import add_camera
from its_platform.cameras.registry import make_camera
from its_platform.doctor.trail import check_trail
from its_platform.stores import Stores
from its_platform.stores.audit import ACTIONS, FIRST, Chain, append, digest_of, make_event, program_of, record
from its_platform.stores.journal import Journal
from its_platform.stores.schema import AuditRow, CameraRow
from tests.integration.trail import chain, past_the_trigger, rows, without_database, write

REWRITE = "UPDATE audit SET by = 'nobody' WHERE id = 3"


def test_a_row_says_who_did_what_from_where_when_why_and_how_it_went(stores: Stores) -> None:
    with stores.database.session() as session:
        record(session, "release.frozen", "production", "ann", "a parade", detail={"stage": "production"})
    (row,) = rows(stores)
    assert (row.id, row.by, row.action, row.subject) == (1, "ann", "release.frozen", "production")
    assert (row.outcome, row.why, row.detail, row.previous) == ("done", "a parade", {"stage": "production"}, FIRST)
    assert row.program.startswith("pytest") or row.program == "python"
    assert row.host == os.uname().nodename
    assert abs(datetime.now(UTC) - row.at) < timedelta(minutes=1)
    assert chain(stores) == Chain(1, 1, row.digest)


def test_an_action_that_nobody_knows_is_refused(stores: Stores) -> None:
    with pytest.raises(ValueError, match="painted"), stores.database.session() as session:
        record(session, "camera.painted", "north")  # type: ignore[arg-type]
    assert rows(stores) == []


def test_a_step_and_its_row_are_there_together_or_not_at_all(stores: Stores) -> None:
    def add_and_fail() -> None:
        with stores.database.session() as session:
            session.add(CameraRow(camera_id="north", source="sim://junction"))
            record(session, "camera.added", "north")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        add_and_fail()
    assert rows(stores) == []
    write(stores, 2)
    assert chain(stores).rows == 2


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET by = 'nobody'",
        "UPDATE audit SET by = 'nobody' WHERE false",
        "DELETE FROM audit WHERE id = 5",
        "TRUNCATE audit",
        "SET session_replication_role = replica; DELETE FROM audit",
    ],
)
def test_the_table_only_takes_inserts(stores: Stores, statement: str) -> None:
    write(stores)
    with pytest.raises(sa.exc.IntegrityError, match="only added"), stores.database.session() as session:
        session.execute(sa.text(statement))
    assert chain(stores).rows == 5


@pytest.mark.parametrize(
    ("statements", "first", "why"),
    [
        ((REWRITE,), 3, "its content"),
        (("UPDATE audit SET detail = '{\"number\": 7}' WHERE id = 3",), 3, "its content"),
        (("UPDATE audit SET at = at + interval '1 microsecond' WHERE id = 3",), 3, "its content"),
        (("DELETE FROM audit WHERE id = 3",), 3, "missing"),
        (("DELETE FROM audit WHERE id = 1",), 1, "missing"),
        (("DELETE FROM audit WHERE id = 3", "UPDATE audit SET id = id - 1 WHERE id > 3"), 3, "the row before"),
        (
            (
                "UPDATE audit SET id = -2 WHERE id = 2",
                "UPDATE audit SET id = 2 WHERE id = 3",
                "UPDATE audit SET id = 3 WHERE id = -2",
            ),
            2,
            "the row before",
        ),
    ],
)
def test_what_was_changed_past_the_trigger_is_found(
    stores: Stores, statements: tuple[str, ...], first: int, why: str
) -> None:
    write(stores)
    past_the_trigger(stores, *statements)
    found = chain(stores)
    assert found.broken is not None
    assert (found.broken[0], found.rows) == (first, first - 1)
    assert why in found.broken[1]


def test_a_row_that_was_rewritten_with_a_new_digest_is_found_at_the_next(stores: Stores) -> None:
    write(stores)
    past_the_trigger(stores, REWRITE)
    with stores.database.session() as session:
        digest = digest_of(session.get(AuditRow, 3))  # type: ignore[arg-type]
    past_the_trigger(stores, f"UPDATE audit SET digest = '{digest}' WHERE id = 3")
    assert chain(stores).broken == (4, "the row before it is not the one that it was written after")


def test_an_end_that_was_cut_off_is_found_by_who_noted_it_down(stores: Stores) -> None:
    write(stores)
    noted = chain(stores)
    past_the_trigger(stores, "DELETE FROM audit WHERE id > 3")
    assert chain(stores).broken is None
    found = chain(stores, known=(noted.newest, noted.digest))
    assert found.broken is not None
    assert found.broken[0] == 4
    write(stores, 4)
    found = chain(stores, known=(noted.newest, noted.digest))
    assert found.broken == (5, "its digest is not the one that was noted down")
    assert chain(stores, known=(3, rows(stores)[2].digest)).broken is None


def test_the_newest_rows_can_be_looked_at_alone(stores: Stores) -> None:
    assert chain(stores, newest=2) == Chain(0, 0, FIRST)
    write(stores)
    past_the_trigger(stores, REWRITE)
    assert chain(stores, newest=2) == Chain(2, 5, rows(stores)[-1].digest)
    assert chain(stores, newest=3).broken == (3, "its content is not what its digest says")


def test_writers_at_once_make_one_whole_chain(stores: Stores) -> None:
    begin = threading.Barrier(20)

    def one(number: int) -> None:
        begin.wait(30)
        add_camera(stores, make_camera(f"c{number}", "sim://junction"))

    writers = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert chain(stores) == Chain(20, 20, rows(stores)[-1].digest)
    assert {row.subject for row in rows(stores)} == {f"c{number}" for number in range(20)}


@pytest.mark.parametrize(
    "value",
    [
        1e16,
        1e-7,
        0.1,
        -0.0,
        100000.0,
        float("nan"),
        2**70,
        "é\u2028 \U0001f6a6",
        "\0 and \udc80",
        {3: {"b": 1, "a": 2}},
    ],
)
def test_what_a_detail_holds_comes_back_as_it_was_hashed(stores: Stores, value: object) -> None:
    with stores.database.session() as session:
        record(session, "camera.added", str(value), why=str(value), detail={"value": value, "path": Path("/a")})
    assert chain(stores).broken is None
    assert rows(stores)[0].detail["path"] == "/a"


def test_the_list_is_narrowed_by_time_kind_and_person(stores: Stores, its: Callable[..., tuple[int, str, str]]) -> None:
    now = datetime.now(UTC)
    with stores.database.session() as session:
        append(session, replace(make_event("camera.added", "old", "ann"), at=now - timedelta(days=3)))
        record(session, "release.frozen", "production", "ann", "a [bold] parade")
        record(session, "camera.added", "north", "bob")
    Journal(without_database(stores)).note("key.made", "master key", "bob")

    def listed(*words: str) -> list[str]:
        code, out, _ = its("audit", "list", "--json", *words)
        assert code == 0
        return [f"{row['action']} {row['subject']}" for row in json.loads(out)]

    everything = ["key.made master key", "camera.added north", "release.frozen production", "camera.added old"]
    assert listed() == everything
    assert listed("--since", f"{now - timedelta(days=1):%Y-%m-%d}") == everything[:3]
    assert listed("--kind", "camera") == [everything[1], everything[3]]
    assert listed("--by", "ann") == everything[2:]
    assert listed("--kind", "camera", "--by", "bob") == [everything[1]]
    assert listed("--limit", "1") == everything[:1]
    code, out, _ = its("audit", "list")
    assert code == 0
    assert "a [bold] parade" in out
    code, _, err = its("audit", "list", "--kind", "weather")
    assert code == 1
    assert "camera" in err


def test_verify_ends_with_1_and_names_the_first_broken_row(
    stores: Stores, its: Callable[..., tuple[int, str, str]]
) -> None:
    write(stores)
    newest = chain(stores)
    code, out, err = its("audit", "verify")
    assert code == 0
    assert f"5 rows, each as it was written; the newest is 5, {newest.digest}" in " ".join(out.split())
    assert f"its audit verify --known 5:{newest.digest}" in err
    assert its("audit", "verify", "--known", f"5:{newest.digest}")[0] == 0
    assert its("audit", "verify", "--known", f"5:{FIRST}")[0] == 1
    assert its("audit", "verify", "--known", "5")[0] == 1
    past_the_trigger(stores, REWRITE)
    code, out, _ = its("audit", "verify")
    assert code == 1
    assert "Row 3: its content is not what its digest says" in out
    code, out, _ = its("audit", "verify", "--json")
    assert (code, json.loads(out)["broken"][0]) == (1, 3)


def test_the_doctor_looks_at_the_newest_rows_and_at_what_waits(stores: Stores) -> None:
    write(stores)
    (found,) = check_trail(stores.settings)
    assert (found.is_well, found.finding) == (True, "the newest 5 rows are as they were written")
    Journal(without_database(stores)).note("key.made", "master key")
    (found,) = check_trail(stores.settings)
    assert (found.is_well, found.is_severe) == (False, False)
    Journal(stores.settings).settle()
    past_the_trigger(stores, REWRITE)
    (found,) = check_trail(stores.settings)
    assert (found.is_well, found.is_severe) == (False, True)
    assert found.finding == "row 3: its content is not what its digest says"


def test_every_action_is_in_the_document() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text("utf-8")
    rows_of = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    told = {kind: cells[2] for cells in rows_of for kind in re.findall(r"`([a-z]+)`", cells[1])}
    words = [action.replace("_", " ").partition(".") for action in ACTIONS]
    assert [f"{kind}.{done}" for kind, _, done in words if done not in told.get(kind, "")] == []


@pytest.mark.parametrize(
    ("argv", "program"),
    [
        (["/usr/bin/its", "keys", "destroy", "--camera", "north"], "its keys destroy"),
        (["/a/its_platform/cli/__main__.py", "--debug", "certs", "client", "north"], "its certs client"),
        (["its", "camera", "add", "north", "rtsp://ann:hunter2@10.0.0.7/a"], "its camera add"),
        (["its", "loop", "/footage/hunter2"], "its loop"),
        (["/usr/lib/python3/dagster/__main__.py", "api", "grpc"], "dagster"),
        (["/usr/bin/pytest"], "pytest"),
        (["-c", "hunter2"], "python"),
    ],
)
def test_a_program_is_told_without_what_it_was_given(argv: list[str], program: str) -> None:
    assert program_of(argv) == program
