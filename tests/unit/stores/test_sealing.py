"""What sealing promises: only whoever has the key reads an object, and only as it was put."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from its_platform.errors import BadInput, PermanentError
from its_platform.stores.keys import DataKey, DataKeyMissing, KeyDestroyed, KeyFolder, MasterKeyMissing, Owner
from its_platform.stores.object_store import ObjectDamaged
from its_platform.stores.objects import DirectoryStore
from its_platform.stores.sealing import BEGIN, END, MARKER, SealedStore, is_sealed, seal, unseal

NORTH = Owner("north", date(2026, 5, 1))
SOUTH = Owner("south", date(2026, 5, 1))
KEY = DataKey("north/2026-05-01", "0123456789abcdef", bytes(range(32)))


class OneKey:
    """A key store with one key, which no file holds."""

    def __init__(self, key: DataKey) -> None:
        self.key = key

    def ring(self) -> str | None:
        return "ring"

    def begin(self) -> str:
        return "ring"

    def for_sealing(self, owner: Owner | None) -> DataKey:
        return self.key

    def for_opening(self, name: str, number: str) -> DataKey:
        if (name, number) != (self.key.name, self.key.number):
            raise DataKeyMissing(f"There is no key {name}.")
        return self.key

    def destroyed(self) -> set[Owner]:
        return set()


@pytest.fixture
def store(tmp_path: Path) -> SealedStore:
    return SealedStore(DirectoryStore(tmp_path / "objects"), KeyFolder(tmp_path / "keys"))


def again(store: SealedStore, is_sealing: bool = True) -> SealedStore:
    """The same store in another process: nothing is remembered."""
    assert isinstance(store.keys, KeyFolder)
    return SealedStore(store.inner, KeyFolder(store.keys.folder), is_sealing)


@given(st.binary(max_size=4096), st.sampled_from(["a", "frames/north/2026-05-01/a.jpg"]))
def test_what_is_sealed_is_opened_as_it_was_and_shows_nothing_of_it(data: bytes, name: str) -> None:
    sealed = seal(KEY, name, data)
    assert is_sealed(sealed)
    assert unseal(OneKey(KEY), name, sealed) == data
    assert len(data) < 8 or data not in sealed[len(BEGIN) + 1 + sealed[len(BEGIN)] : -len(END)]


@given(st.binary(max_size=256), st.data())
def test_no_changed_byte_goes_unnoticed(data: bytes, draw: st.DataObject) -> None:
    sealed = bytearray(seal(KEY, "a", data))
    sealed[draw.draw(st.integers(0, len(sealed) - 1))] ^= draw.draw(st.integers(1, 255))
    assert is_sealed(bytes(sealed))
    with pytest.raises((ObjectDamaged, DataKeyMissing)):
        unseal(OneKey(KEY), "a", bytes(sealed))


@given(st.binary(max_size=256), st.data())
def test_a_sealed_object_that_was_cut_or_added_to_is_damaged(data: bytes, draw: st.DataObject) -> None:
    sealed = seal(KEY, "a", data)
    cut = sealed[: draw.draw(st.integers(len(BEGIN), len(sealed) - 1))]
    for changed in (cut, sealed + b"x", sealed[: -len(END)] + b"x" + END):
        with pytest.raises((ObjectDamaged, DataKeyMissing)):
            unseal(OneKey(KEY), "a", changed)


@given(st.binary(max_size=64))
def test_an_object_in_the_place_of_another_is_damaged(data: bytes) -> None:
    with pytest.raises(ObjectDamaged, match="frames/b was changed"):
        unseal(OneKey(KEY), "frames/b", seal(KEY, "frames/a", data))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=1, max_size=64))
def test_another_key_under_the_same_name_opens_nothing(secret: bytes, data: bytes) -> None:
    other = DataKey(KEY.name, KEY.number, secret)
    if other.secret != KEY.secret:
        with pytest.raises(ObjectDamaged):
            unseal(OneKey(other), "a", seal(KEY, "a", data))


@given(st.binary(max_size=64))
def test_the_same_bytes_are_sealed_differently_each_time(data: bytes) -> None:
    assert seal(KEY, "a", data) != seal(KEY, "a", data)


@pytest.mark.parametrize("name", ["../../../etc/x", "north/2026-05-01/..", "x" * 200, ""])
def test_a_header_cannot_name_a_file_outside_of_the_keys(name: str) -> None:
    forged = BEGIN + bytes([len(name)]) + name.encode() + bytes(40) + END
    with pytest.raises(ObjectDamaged):
        unseal(OneKey(KEY), "a", forged)


def test_a_secret_stays_out_of_words() -> None:
    assert "secret" not in repr(KEY)


def test_an_object_is_sealed_by_the_key_of_its_camera_and_day(store: SealedStore) -> None:
    store.put("frames/a", b"picture", NORTH)
    store.put("other", b"no camera's")
    assert b"north/2026-05-01" in store.inner.get("frames/a")
    assert b"picture" not in store.inner.get("frames/a")
    assert b"platform" in store.inner.get("other")
    assert (again(store).get("frames/a"), again(store).get("other")) == (b"picture", b"no camera's")


def test_the_day_is_that_of_utc() -> None:
    east = datetime.fromisoformat("2026-05-02T01:00:00+02:00")
    assert Owner.of("north", east) == Owner.of("north", datetime(2026, 5, 1, 23, tzinfo=UTC)) == NORTH


def test_a_destroyed_key_erases_its_own_objects_and_no_others(store: SealedStore) -> None:
    store.put("frames/north", b"picture", NORTH)
    store.put("frames/south", b"picture", SOUTH)
    copy, reader = store.inner.get("frames/north"), again(store)
    assert reader.get("frames/north") == b"picture"
    assert isinstance(store.keys, KeyFolder)
    store.keys.destroy(NORTH, "a person")
    for one in (store, reader, again(store)):
        with pytest.raises(KeyDestroyed, match="north/2026-05-01 was erased"):
            one.get("frames/north")
        with pytest.raises(KeyDestroyed):
            unseal(one.keys, "frames/north", copy)
        assert one.get("frames/south") == b"picture"
        with pytest.raises(KeyDestroyed):
            one.put("frames/late", b"picture", NORTH)
    assert store.keys.destroyed() == {NORTH}


def test_objects_from_before_sealing_are_read_and_new_ones_are_sealed(store: SealedStore) -> None:
    plain = again(store, is_sealing=False)
    plain.put("frames/old", b"picture", NORTH)
    assert store.inner.get("frames/old") == b"picture"
    assert not store.is_sealed("frames/old")
    store.put("frames/new", b"picture", NORTH)
    assert store.is_sealed("frames/new")
    assert [one.get(f"frames/{name}") for one in (store, plain) for name in ("old", "new")] == [b"picture"] * 4


@pytest.mark.parametrize("data", [BEGIN + b"rest", b"start" + END])
def test_bytes_that_look_sealed_are_not_stored_unsealed(store: SealedStore, data: bytes) -> None:
    with pytest.raises(BadInput, match="looks like a sealed object"):
        again(store, is_sealing=False).put("a", data)
    store.put("a", data)
    assert store.get("a") == data


def test_keys_that_were_lost_are_told_and_never_made_anew(store: SealedStore, tmp_path: Path) -> None:
    store.put("frames/a", b"picture", NORTH)
    (tmp_path / "keys").rename(tmp_path / "lost")
    bare = again(store)
    with pytest.raises(DataKeyMissing, match="its keys import"):
        bare.get("frames/a")
    with pytest.raises(MasterKeyMissing, match="this home has none"):
        bare.put("frames/b", b"picture", NORTH)
    assert not list((tmp_path / "keys").glob("**/*.*"))


def test_a_process_that_outlives_its_keys_makes_no_others(store: SealedStore, tmp_path: Path) -> None:
    store.put("frames/a", b"picture", NORTH)
    # As when the file system that `objects.keys` names is not mounted any more.
    (tmp_path / "keys").rename(tmp_path / "lost")
    for owner in (NORTH, SOUTH, None):
        with pytest.raises(MasterKeyMissing, match="this home has none"):
            store.put("frames/b", b"picture", owner)
    (tmp_path / "lost").rename(tmp_path / "keys")
    store.put("frames/b", b"picture", SOUTH)
    assert again(store).get("frames/b") == b"picture"


def test_a_store_is_sealed_by_one_ring_of_keys(store: SealedStore, tmp_path: Path) -> None:
    store.put("frames/a", b"picture", NORTH)
    others = KeyFolder(tmp_path / "others")
    others.begin()
    with pytest.raises(MasterKeyMissing, match=f"sealed by the keys {store.keys.ring()}"):
        SealedStore(store.inner, others).put("frames/b", b"picture")
    assert not store.exists("frames/b")


def test_what_says_by_whom_a_store_is_sealed_is_no_object_of_it(store: SealedStore) -> None:
    store.put("frames/a", b"x")
    assert list(store.list()) == ["frames/a"]
    assert MARKER in list(store.inner.list())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda keys: next(keys.glob("master/*.key")).unlink(), "master key .* is missing"),
        (lambda keys: next(keys.glob("master/*.key")).write_text("00" * 32), "does not hold the master key"),
        (lambda keys: (keys / "data/north/2026-05-01.json").write_text("{"), "cannot be read"),
        (lambda keys: (keys / "data/north/2026-05-01.json").unlink(), "The key north/2026-05-01 is not in"),
        (
            lambda keys: (keys / "data/north/2026-05-01.json").write_bytes(
                (keys / "data/south/2026-05-01.json").read_bytes()
            ),
            "holds the key south/2026-05-01",
        ),
    ],
)
def test_each_loss_of_a_key_has_its_own_words(
    store: SealedStore, tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    store.put("frames/a", b"picture", NORTH)
    store.put("frames/b", b"picture", SOUTH)
    change(tmp_path / "keys")
    with pytest.raises(PermanentError, match=said) as raised:
        again(store).get("frames/a")
    assert "its keys import" in raised.value.hint
