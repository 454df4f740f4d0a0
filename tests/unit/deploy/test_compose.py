"""What the Compose file promises of every service; it is read here, and nothing is started."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployed import COMPOSE, script
from its_platform.settings import REPOSITORY, Settings

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
# They end; whoever waits for them asks whether they ended well.
ONCE = {name for name, service in SERVICES.items() if service.get("restart") == "no"}
NEVER_ASKED = {"volumes", "prepare"}
OWNER = "${ITS_UID"
SECRET_NAME = re.compile(r"password|secret|token|credential|api_?key|_key$", re.IGNORECASE)
# Of the platform's own variables, those that are no settings but tell a program where another is.
NO_SETTINGS = {"ITS_DAGSTER_CODE_HOST", "ITS_HOME"}

each_service = pytest.mark.parametrize("name", SERVICES)


def _dockerfile(service: dict[str, Any]) -> Path:
    return REPOSITORY / str(service["build"]["dockerfile"])


def _images() -> Iterator[tuple[str, str]]:
    for name, service in SERVICES.items():
        yield name, service["image"]
        if "build" in service:
            for line in _dockerfile(service).read_text().splitlines():
                if line.startswith("FROM "):
                    yield f"{name} ({_dockerfile(service).parent.name})", line.split()[1]


@pytest.mark.parametrize(("name", "image"), list(_images()))
def test_every_image_is_one_version(name: str, image: str) -> None:
    tag = image.rpartition(":")[2] if ":" in image.rpartition("/")[2] else ""
    assert re.match(r"v?\d+\.\d+", tag), f"{name}: {image}"


@each_service
def test_nobody_is_root_but_who_hands_the_volumes_over(name: str) -> None:
    user = SERVICES[name]["user"]
    assert user.startswith(OWNER) if name != "volumes" else user == "0:0"


@each_service
def test_a_container_may_not_gain_rights_and_its_image_cannot_be_written(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("cap_add", []) == (["CHOWN"] if name == "volumes" else [])
    assert "privileged" not in service


@each_service
def test_memory_is_bounded(name: str) -> None:
    assert re.fullmatch(r"\d+[mg]", SERVICES[name]["mem_limit"])


@each_service
def test_a_server_is_asked_and_started_again_and_what_runs_once_is_not(name: str) -> None:
    service = SERVICES[name]
    if name in NEVER_ASKED:
        assert name in ONCE
        return
    assert service["restart"] == "unless-stopped"
    test = service["healthcheck"]["test"]
    assert test[0] in {"CMD", "CMD-SHELL"}
    assert len(test) > 1
    assert test[1] not in {"true", "exit 0"}


@each_service
def test_ports_are_for_this_machine_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:"), port


@pytest.mark.parametrize("name", ["postgres", "redis", "objects"])
def test_stores_cannot_be_reached_from_outside(name: str, project: dict[str, Any]) -> None:
    assert "ports" not in SERVICES[name]
    assert all(project["networks"][network].get("internal") for network in SERVICES[name]["networks"])


@each_service
def test_one_that_is_waited_for_is_waited_for_until_it_is_well(name: str) -> None:
    for other, wish in SERVICES[name].get("depends_on", {}).items():
        assert wish["condition"] == ("service_completed_successfully" if other in ONCE else "service_healthy")


@each_service
def test_no_secret_stands_in_an_environment(name: str) -> None:
    environment = SERVICES[name].get("environment", {})
    assert isinstance(environment, dict)
    for variable, value in environment.items():
        is_file = str(value).startswith(("/run/secrets/", "/run/certificates"))
        assert is_file or not SECRET_NAME.search(variable) or value in {"true", "false"}, variable
        assert "://" not in str(value) or "@" not in str(value), variable


@each_service
def test_every_setting_is_one_that_the_platform_knows(name: str) -> None:
    for variable in SERVICES[name].get("environment", {}):
        if not variable.startswith("ITS_") or variable in NO_SETTINGS:
            continue
        group, _, field = variable.removeprefix("ITS_").lower().partition("__")
        known = Settings.model_fields[group]
        assert not field or field in known.annotation.model_fields, variable  # type: ignore[union-attr]


@each_service
def test_every_file_that_is_mounted_is_there(name: str, project: dict[str, Any]) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source, target, *mode = mount.split(":")
        if source.startswith("."):
            assert (COMPOSE / source).exists(), mount
            assert mode == ["ro"], mount
        else:
            assert source in project["volumes"], mount
        assert target.startswith("/")


@each_service
def test_every_secret_is_drawn_and_every_file_that_is_read_is_given(
    name: str, project: dict[str, Any], drawn: Path
) -> None:
    given = set()
    for wish in SERVICES[name].get("secrets", []):
        source, target = (wish["source"], wish["target"]) if isinstance(wish, dict) else (wish, f"/run/secrets/{wish}")
        given.add(target)
        file = Path(project["secrets"][source]["file"])
        assert file.parts[0] == "secrets"
        assert (drawn / file).is_file(), source
    said = yaml.safe_dump(SERVICES[name], width=10_000)
    assert set(re.findall(r"/run/secrets/[\w.]+", said)) <= given


def test_what_was_drawn_is_for_its_owner_alone_and_stays(drawn: Path, project: dict[str, Any]) -> None:
    wanted = {Path(secret["file"]).name for secret in project["secrets"].values()}
    before = {name: (drawn / "secrets" / name).read_bytes() for name in wanted}
    for name in wanted - {"ca.pem", "server.pem", "client.pem"}:
        assert (drawn / "secrets" / name).stat().st_mode & 0o777 == 0o600, name
    script(COMPOSE / "draw_secrets.py").draw(drawn)
    assert {name: (drawn / "secrets" / name).read_bytes() for name in wanted} == before


def test_the_secrets_point_the_platform_at_the_servers_of_the_project(
    drawn: Path, project: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from its_platform.stores.database import client_environment
    from its_platform.stores.objects import S3Store, open_plain
    from its_platform.stores.retention import is_expired_here

    monkeypatch.setenv("ITS_HOME", str(drawn / "secrets"))
    for name, value in SERVICES["dagster-daemon"]["environment"].items():
        if name.startswith("ITS_") and name != "ITS_HOME":
            monkeypatch.setenv(name, value)
    settings = Settings()
    asked = client_environment(settings, "its")
    assert (asked["PGHOST"], asked["PGDATABASE"], asked["PGSSLMODE"]) == ("postgres", "its", "verify-full")
    assert asked["PGPASSWORD"] == (drawn / "secrets" / "postgres_password").read_text()
    objects = open_plain(settings)
    assert isinstance(objects, S3Store)
    assert objects.endpoint == "objects:8333"
    assert is_expired_here(settings), "its SeaweedFS carries no rules out"
    assert [settings.runs_postgres, settings.runs_objects, settings.runs_redis, settings.runs_prometheus] == [False] * 4
    assert settings.triton_grpc == "triton:8101"
    assert {"postgres", "objects", "redis", "triton"} <= project["services"].keys()
