"""Which of the system's programs are taken, and whose server is whose."""

from __future__ import annotations

from pathlib import Path

import pytest

from its_platform.errors import BadInput
from its_platform.settings import Settings
from its_platform.stores import postgres
from its_platform.stores.postgres import client_program


def test_a_server_that_somebody_else_runs_is_backed_up_with_the_clients_alone(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = {"profile": "services", "database_url": "postgresql+psycopg2://its@db/"}
    own = settings.model_copy(update=elsewhere)
    monkeypatch.setattr(postgres, "_SYSTEM_PROGRAMS", (f"{tmp_path}/*/bin",))
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(BadInput, match="pg_dump is not installed") as refused:
        client_program(own, "pg_dump")
    assert "postgresql-client" in refused.value.hint
    # What Debian's postgresql-client brings; the server, and pg_ctl with it, is another package.
    for version in ("9", "15"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "pg_dump").touch()
    assert client_program(own, "pg_dump") == tmp_path / "15" / "bin" / "pg_dump"
    with pytest.raises(BadInput, match="needs PostgreSQL's server"):
        client_program(settings.model_copy(update={"profile": "services"}), "pg_ctl")
