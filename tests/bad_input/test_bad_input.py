"""Each kind of bad input is answered by one clear line and leaves everything as it was.

The real command runs in this process, on a home with a camera, its frames and their labels, and a real PostgreSQL.
Before and after, every file of the home, every file of the input and every row of the database is compared.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from bad_input import detectors, footage
from bad_input.case import Case, Place
from bad_input.page import GROUPS, page
from its_platform import cli
from its_platform.serving.processes import free_ports
from its_platform.settings import load_settings
from its_platform.stores import Stores, open_stores

pytestmark = pytest.mark.services

CASES = [pytest.param(case, id=case.kind) for cases in GROUPS.values() for case in cases]
# What tools keep for themselves beside the platform's state.
SCRATCH = ("ultralytics", "log")
LABELS = "0 0.5 0.5 0.25 0.25\n1 0.25 0.25 0.2 0.2\n"


@pytest.fixture(scope="module")
def stores(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """A home with one camera, eight frames and their labels, shared by all cases: each leaves it as it was."""
    from its_platform.cameras.registry import add_camera, make_camera
    from its_platform.frames.index import FrameIndex
    from its_platform.frames.ingest import ingest
    from its_platform.labels.formats import read_yolo
    from its_platform.labels.store import add_labels
    from its_platform.stores.database import create_database, dispose_engines

    base = tmp_path_factory.mktemp("bad-input")
    address = sa.make_url(postgres_server).set(database="badinput").render_as_string(hide_password=False)
    own = load_settings(home=base / "home", database_url=address)
    create_database(own, "its", template="template_its")
    made = open_stores(own)
    north = base / "north"
    (north / "labels").mkdir(parents=True)
    for number in range(8):
        (north / f"north_{number}.jpg").write_bytes(footage.picture(number))
        (north / "labels" / f"north_{number}.txt").write_text(LABELS)
    add_camera(made, make_camera("north", str(north)))
    assert ingest(made, "north").added == 8
    read = read_yolo(north, ("car", "bus"), FrameIndex(made).query(["north"]))
    assert add_labels(made, read.labels).added == 8
    yield made
    dispose_engines()
    engine = sa.create_engine(postgres_server, poolclass=sa.NullPool)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for name in ("badinput_its", "badinput_mlflow"):
            connection.execute(sa.text(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


@pytest.fixture
def place(stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("ITS_HOME", str(stores.settings.home))
    monkeypatch.setenv("ITS_DATABASE_URL", str(stores.settings.database_url))
    monkeypatch.setenv("ITS_SERVING__DEADLINE_S", "1")
    http, grpc, metrics = free_ports(3)
    for name, port in (("HTTP", http), ("GRPC", grpc), ("METRICS", metrics)):
        monkeypatch.setenv(f"ITS_PORTS__TRITON_{name}", str(port))
    folder = tmp_path / "input"
    folder.mkdir()
    return Place(folder, stores)


def files(folder: Path) -> dict[str, str]:
    """Each file below a folder with the digest of its bytes; what is no ordinary file, with its kind."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.split("/")[0] in SCRATCH:
            continue
        mode = path.lstat().st_mode
        is_plain = stat.S_ISREG(mode)
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if is_plain else stat.filemode(mode)[0]
    return found


def rows(stores: Stores) -> dict[str, list[str]]:
    """Every row of every table of ours."""
    from its_platform.stores.schema import Base

    with stores.database.engine.connect() as connection:
        return {
            table.name: sorted(str(tuple(row)) for row in connection.execute(sa.select(table)))
            for table in Base.metadata.sorted_tables
        }


@pytest.mark.parametrize("case", CASES)
def test_it_is_told_in_one_line_and_changes_nothing(
    case: Case, place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*case.make(place)]
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value.format(folder=place.folder))
    home = place.stores.settings.home
    before = files(home), files(place.folder), rows(place.stores)
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    said = capfd.readouterr()
    lines = [line for line in said.err.splitlines() if line.strip() and "━" not in line]
    told = "\n".join(lines) if lines or case.code else said.out
    assert ended.value.code == case.code, said
    assert "Traceback" not in said.out + said.err
    if case.code:
        assert len(lines) == case.lines, said.err
        assert "`--debug` shows where." not in told, "an error that nobody foresaw"
    assert [part for part in case.says if part not in told] == [], told
    if not case.is_partial:
        assert (files(home), files(place.folder), rows(place.stores)) == before
    assert not (place.folder / detectors.TRACE).exists()


def test_each_kind_is_named_once_and_the_page_has_them_all() -> None:
    kinds = [case.kind for cases in GROUPS.values() for case in cases]
    assert len(set(kinds)) == len(kinds)
    docs = Path(__file__).resolve().parents[2] / "docs"
    written = (docs / "bad-input.md").read_text("utf-8")
    assert written == page(), "PYTHONPATH=.:tests python -m bad_input.page > docs/bad-input.md"
    assert f"\n{len(kinds)} kinds over" in (docs / "results.md").read_text("utf-8")


def test_pictures_of_other_kinds_are_taken(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    """Sixteen bits, four inks, transparency, grey: unusual is not bad. Kept last, since it adds frames."""
    folder = place.folder / "pictures"
    folder.mkdir()
    for number, (name, mode) in enumerate({"ink.jpg": "CMYK", "clear.png": "RGBA", "grey.png": "L"}.items()):
        (folder / name).write_bytes(footage.picture(number, "JPEG" if mode == "CMYK" else "PNG", mode))
    Image.fromarray(footage.scene(3)[..., 0].astype(np.uint16) * 256).save(folder / "deep.png")
    with pytest.raises(SystemExit) as ended:
        cli.main(["frames", "ingest", place.camera(folder), "--json"])
    assert ended.value.code == 0
    assert json.loads(capfd.readouterr().out)["added"] == 4
