"""The folder of keys: who meets on which key, rotation that was cut off, keys in a file for a safe."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import stat
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from its_platform.cli import main
from its_platform.errors import BadInput, NotFound
from its_platform.stores import key_export
from its_platform.stores.key_export import export_keys, import_keys
from its_platform.stores.keys import DataKeyDamaged, KeyDestroyed, KeyFolder, MasterKeyMissing, Owner

NORTH = Owner("north", date(2026, 5, 1))
DAYS = [Owner("north", date(2026, 5, day)) for day in range(1, 6)]
PASSPHRASE = "correct horse battery"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guessing is made costly elsewhere."""
    monkeypatch.setitem(key_export._COST, "n", 2**14)


@pytest.fixture
def keys(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path / "keys")


def anew(keys: KeyFolder) -> KeyFolder:
    return KeyFolder(keys.folder)


def masters(keys: KeyFolder) -> list[str]:
    return sorted(path.stem for path in (keys.folder / "master").glob("*.key"))


def wrapping(keys: KeyFolder) -> set[str]:
    return {json.loads(path.read_text())["master"] for path in keys.data_files()}


def killed_at_unlink(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process were killed where it removes a key."""
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.suffix != ".part":
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", killed)


def test_a_key_is_made_once_and_kept(keys: KeyFolder) -> None:
    made = keys.for_sealing(NORTH)
    assert anew(keys).for_sealing(NORTH) == made == anew(keys).for_opening(made.name, made.number)
    assert len({keys.for_sealing(owner).secret for owner in DAYS}) == 5


def test_everything_is_readable_by_its_owner_alone(keys: KeyFolder) -> None:
    keys.for_sealing(NORTH)
    keys.for_sealing(None)
    files = [path for path in keys.folder.rglob("*") if path.is_file() and not path.name.endswith(".lock")]
    parts = {path.relative_to(keys.folder).parts[0] for path in files}
    assert parts == {"ring.json", "master", "data", "platform.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(keys.folder.stat().st_mode) == 0o700


def test_a_data_key_lies_wrapped(keys: KeyFolder) -> None:
    secret = keys.for_sealing(NORTH).secret
    text = (keys.folder / "data/north/2026-05-01.json").read_bytes()
    assert secret not in text
    assert secret.hex().encode() not in text


def _make(folder: str, gate: object, answers: object) -> None:
    gate.wait()  # type: ignore[attr-defined]
    answers.put([KeyFolder(Path(folder)).for_sealing(owner).secret for owner in DAYS])  # type: ignore[attr-defined]


def test_processes_that_begin_a_day_at_once_meet_on_one_key(keys: KeyFolder) -> None:
    own = multiprocessing.get_context("fork")
    gate, answers = own.Barrier(4), own.Queue()
    makers = [own.Process(target=_make, args=(str(keys.folder), gate, answers)) for _ in range(4)]
    for maker in makers:
        maker.start()
    found = [answers.get(timeout=60) for _ in makers]
    for maker in makers:
        maker.join(60)
    assert found == [[keys.for_sealing(owner).secret for owner in DAYS]] * 4
    assert len(masters(keys)) == 1


def test_a_lost_ring_is_not_begun_anew(keys: KeyFolder) -> None:
    keys.for_sealing(NORTH)
    (keys.folder / "ring.json").unlink()
    with pytest.raises(MasterKeyMissing, match=r"ring\.json is missing"):
        anew(keys).for_sealing(DAYS[1])


def test_rotation_wraps_every_key_anew_and_changes_none(keys: KeyFolder) -> None:
    before, ring, old = [keys.for_sealing(owner) for owner in (*DAYS, None)], keys.ring(), masters(keys)
    master, wrapped = keys.rotate()
    assert (wrapped, masters(keys), wrapping(keys)) == (6, [master], {master})
    assert old != [master]
    assert keys.ring() == ring
    assert [anew(keys).for_sealing(owner) for owner in (*DAYS, None)] == before
    assert [keys.for_sealing(owner) for owner in (*DAYS, None)] == before


@pytest.mark.parametrize("wrapped_before", [0, 1, 3, 5])
def test_a_rotation_that_was_killed_leaves_every_key_and_is_finished(
    keys: KeyFolder, monkeypatch: pytest.MonkeyPatch, wrapped_before: int
) -> None:
    before, old = [keys.for_sealing(owner) for owner in DAYS], masters(keys)[0]
    write, count = KeyFolder._write, iter(range(100))

    def killed(self: KeyFolder, path: Path, entry: dict[str, object]) -> None:
        if "data" in path.parts and next(count) == wrapped_before:
            raise KeyboardInterrupt
        write(self, path, entry)

    monkeypatch.setattr(KeyFolder, "_write", killed)
    if wrapped_before < len(DAYS):
        with pytest.raises(KeyboardInterrupt):
            keys.rotate()
        monkeypatch.undo()
        assert len(masters(keys)) == 2
        assert [anew(keys).for_sealing(owner) for owner in DAYS] == before
    else:
        # Killed between the last key and the removal of the old master key.
        killed_at_unlink(monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            keys.rotate()
        monkeypatch.undo()
    master, _ = anew(keys).rotate()
    assert masters(keys) == [master]
    assert wrapping(keys) == {master}
    assert master != old
    assert [anew(keys).for_sealing(owner) for owner in DAYS] == before


def test_a_rotation_begins_no_other_before_the_last_is_finished(
    keys: KeyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner in DAYS:
        keys.for_sealing(owner)
    write, count = KeyFolder._write, iter(range(100))

    def killed(self: KeyFolder, path: Path, entry: dict[str, object]) -> None:
        if "data" in path.parts and next(count) == 2:
            raise KeyboardInterrupt
        write(self, path, entry)

    monkeypatch.setattr(KeyFolder, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        keys.rotate()
    monkeypatch.undo()
    begun = json.loads((keys.folder / "ring.json").read_text())["master"]
    assert keys.rotate() == (begun, 3)


def test_a_key_is_opened_while_another_process_rotates(keys: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    before, other = keys.for_sealing(NORTH), anew(keys)
    read, rotated = KeyFolder._read, []

    def rotated_after(self: KeyFolder, path: Path) -> dict[str, Any] | None:
        entry = read(self, path)
        if self is other and path.name == "2026-05-01.json" and entry is not None and not rotated:
            rotated.append(keys.rotate())
        return entry

    monkeypatch.setattr(KeyFolder, "_read", rotated_after)
    assert other.for_opening(before.name, before.number) == before
    rotated.clear()
    assert other.check() == (1, [])
    assert len(rotated) == 1


def test_a_key_that_cannot_be_unwrapped_keeps_its_master_key(keys: KeyFolder) -> None:
    keys.for_sealing(NORTH)
    path, old = keys.folder / "data/north/2026-05-01.json", masters(keys)
    path.write_text(path.read_text().replace('"number": "', '"number": "0'))
    with pytest.raises(DataKeyDamaged, match=r"north/2026-05-01\.json was changed"):
        anew(keys).rotate()
    assert set(old) <= set(masters(keys))


def test_what_is_destroyed_is_recorded_with_who_and_why(keys: KeyFolder) -> None:
    keys.for_sealing(NORTH)
    keys.for_sealing(DAYS[1])
    keys.destroy(NORTH, "a person", "asked for")
    keys.destroy(NORTH, "another", "again")
    assert not (keys.folder / "data/north/2026-05-01.json").exists()
    facts = [(one.name, one.state, one.by, one.why) for one in keys.facts()]
    assert facts == [
        ("north/2026-05-01", "destroyed", "a person", "asked for"),
        ("north/2026-05-02", "in use", None, None),
    ]


def test_a_key_that_never_was_cannot_be_destroyed(keys: KeyFolder) -> None:
    keys.for_sealing(NORTH)
    with pytest.raises(NotFound, match="south/2026-05-01"):
        keys.destroy(Owner("south", NORTH.day), "a person")


def test_a_destruction_that_was_killed_counts_and_is_finished(keys: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.for_sealing(NORTH)
    killed_at_unlink(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        keys.destroy(NORTH, "a person")
    monkeypatch.undo()
    with pytest.raises(KeyDestroyed):
        keys.for_sealing(NORTH)
    assert [one.state for one in keys.facts()] == ["destroyed"]
    keys.destroy(NORTH, "a person")
    assert list(keys.data_files()) == []


@pytest.fixture
def exported(keys: KeyFolder, tmp_path: Path) -> Path:
    for owner in (*DAYS, None):
        keys.for_sealing(owner)
    assert export_keys(keys, tmp_path / "safe.json", PASSPHRASE) == 6
    return tmp_path / "safe.json"


def test_exported_keys_come_to_another_home_and_no_passphrase_or_key_stands_in_the_file(
    keys: KeyFolder, exported: Path, tmp_path: Path
) -> None:
    there = KeyFolder(tmp_path / "there")
    assert import_keys(there, exported, PASSPHRASE) == (6, 0)
    assert there.ring() == keys.ring()
    assert [there.for_sealing(owner) for owner in (*DAYS, None)] == [keys.for_sealing(owner) for owner in (*DAYS, None)]
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600
    master = next((keys.folder / "master").glob("*.key")).read_text()
    assert master not in exported.read_text()
    assert PASSPHRASE not in exported.read_text()


def test_an_import_after_a_rotation_adds_what_is_missing(keys: KeyFolder, exported: Path) -> None:
    kept = keys.for_sealing(NORTH)
    keys.rotate()
    (keys.folder / "data/north/2026-05-01.json").unlink()
    assert import_keys(keys, exported, PASSPHRASE) == (1, 0)
    assert anew(keys).for_sealing(NORTH) == kept
    assert keys.rotate()[1] == 1


def test_an_import_brings_nothing_back_that_was_destroyed_and_destroys_what_was_destroyed_there(
    keys: KeyFolder, exported: Path, tmp_path: Path
) -> None:
    there = KeyFolder(tmp_path / "there")
    import_keys(there, exported, PASSPHRASE)
    keys.destroy(NORTH, "a person")
    assert import_keys(keys, exported, PASSPHRASE) == (0, 0)
    assert keys.destroyed() == {NORTH}
    export_keys(keys, tmp_path / "later.json", PASSPHRASE)
    assert import_keys(there, tmp_path / "later.json", PASSPHRASE) == (0, 1)
    with pytest.raises(KeyDestroyed):
        there.for_sealing(NORTH)
    assert not (there.folder / "data/north/2026-05-01.json").exists()


def test_an_export_of_before_a_rotation_opens_what_it_holds_in_a_home_that_has_only_wrapped_keys(
    keys: KeyFolder, exported: Path
) -> None:
    before = [keys.for_sealing(owner) for owner in (*DAYS, None)]
    late = keys.for_sealing(Owner("north", date(2026, 5, 6)))
    keys.rotate()
    # As after a restore: no backup holds a master key.
    shutil.rmtree(keys.folder / "master")
    assert import_keys(keys, exported, PASSPHRASE) == (6, 0)
    assert [anew(keys).for_opening(one.name, one.number) for one in before] == before
    anew(keys).for_sealing(Owner("north", date(2026, 5, 7)))
    with pytest.raises(MasterKeyMissing):
        anew(keys).for_opening(late.name, late.number)


@pytest.mark.parametrize("harm", ["{", '{"name": "north/2026-05-01"}', None])
def test_an_import_mends_a_key_whose_file_or_master_key_was_damaged(
    keys: KeyFolder, exported: Path, harm: str | None
) -> None:
    kept = keys.for_sealing(NORTH)
    if harm is None:
        (keys.folder / "master" / f"{masters(keys)[0]}.key").write_text("00" * 32)
    else:
        (keys.folder / "data/north/2026-05-01.json").write_text(harm)
    assert import_keys(keys, exported, PASSPHRASE) == (0 if harm is None else 1, 0)
    assert anew(keys).for_sealing(NORTH) == kept


def test_a_key_that_each_of_two_homes_made_for_itself_is_told(
    keys: KeyFolder, exported: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there = KeyFolder(tmp_path / "there")
    import_keys(there, exported, PASSPHRASE)
    late = Owner("north", date(2026, 5, 6))
    own, other = keys.for_sealing(late), there.for_sealing(late)
    export_keys(there, tmp_path / "later.json", PASSPHRASE)
    assert import_keys(keys, tmp_path / "later.json", PASSPHRASE) == (0, 0)
    facts = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    assert [(one["owner"], one["left_out"], one["kept"]) for one in facts] == [(str(late), other.number, own.number)]
    assert keys.for_sealing(late) == own


def test_a_wrong_passphrase_another_file_and_another_home_are_refused(
    keys: KeyFolder, exported: Path, tmp_path: Path
) -> None:
    there = KeyFolder(tmp_path / "there")
    with pytest.raises(BadInput, match="does not open"):
        import_keys(there, exported, PASSPHRASE + "!")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(BadInput, match="no exported keys"):
        import_keys(there, tmp_path / "other.json", PASSPHRASE)
    there.begin()
    with pytest.raises(BadInput, match="holds the keys"):
        import_keys(there, exported, PASSPHRASE)
    with pytest.raises(BadInput, match="is there already"):
        export_keys(keys, exported, PASSPHRASE)
    with pytest.raises(BadInput, match="fewer than 12"):
        export_keys(keys, tmp_path / "short.json", "secret")


def its(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    return int(ended.value.code or 0)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = KeyFolder(tmp_path / "home" / "keys")
    keys.for_sealing(NORTH)
    (tmp_path / "phrase").write_text(PASSPHRASE + "\n")
    options = ("--passphrase-file", str(tmp_path / "phrase"), "--json")
    assert its("keys", "export", str(tmp_path / "safe"), *options) == 0
    assert its("keys", "rotate", "--json") == 0
    assert its("keys", "import", str(tmp_path / "safe"), *options) == 0
    capsys.readouterr()
    assert its("keys", "list", "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["name"], listed["state"]) == ("north/2026-05-01", "in use")
    assert its("keys", "import", str(tmp_path / "safe")) == 1
    assert "--passphrase-file" in capsys.readouterr().err
