"""The servers: certificates, the database, each part of the stack, Dagster's daemon and definitions, leftovers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from its_platform import processes
from its_platform.certificates import EXPIRED_HINT, SECRET_FILE, Certificates, read_certificates, what_expired
from its_platform.doctor.finding import Finding
from its_platform.errors import ServerUnavailable
from its_platform.parts import SUPERVISOR, part_named, parts_of
from its_platform.settings import Settings
from its_platform.stack import PartStatus, dagster_query, is_up, part_status
from its_platform.stores import versions
from its_platform.stores.cache_server import is_redis_well
from its_platform.stores.objects import S3Store, open_keys, open_plain
from its_platform.stores.postgres import is_running, log_file, server_process
from its_platform.stores.retention import is_expired_here, lacking, retention_of
from its_platform.telemetry import redact

_NOT_UP = "not started; `its up` starts it"
_JUST_STARTED_S = 120.0
# Below `services`. The hash of a password in web.yml is one to guess at.
CONFIGURATIONS_WITH_SECRETS = (
    "redis/redis.conf",
    "objects/identities.json",
    "objects/security.toml",
    "prometheus/web.yml",
    "alertmanager/web.yml",
)
# As the alert on it has it.
ENDS_SOON_DAYS = 14


def check_certificates(settings: Settings) -> list[Finding]:
    """Whether what servers and clients show each other has ended, or will soon."""
    if not settings.uses_certificates:
        return []
    files = Certificates(settings.certificates)
    if not files.root.is_file():
        return [Finding("certificates", True, "none yet; `its up` makes them")]
    if ended := what_expired(files.folder):
        return [Finding("certificates", False, f"{ended}; nobody trusts who shows it", EXPIRED_HINT)]
    first = min((one for one in read_certificates(files.folder) if one.file in files.needed), key=lambda one: one.until)
    finding = f"{first.file.name} is the first to end, on {first.until:%Y-%m-%d}"
    return [Finding("certificates", first.days_left >= ENDS_SOON_DAYS, finding, EXPIRED_HINT, is_severe=False)]


def check_database(settings: Settings) -> list[Finding]:
    """The server, and whether the tables are those of this code."""
    if settings.runs_postgres and not is_running(settings):
        remedy = f"Read {log_file(settings)}, then `its down` and `its up`."
        if server_process(settings) is not None:
            return [Finding("database", False, "does not take connections", remedy)]
        if is_up(settings):
            told = "its server is gone while the others run; whoever asks it next starts it again"
            return [Finding("database", False, told, remedy)]
        return [Finding("database", True, "not started")]
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    from its_platform.stores.database import MIGRATIONS, Database

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    wanted = ScriptDirectory.from_config(config).get_current_head()
    with Database(settings).engine.connect() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
        server = connection.connection.dbapi_connection.server_version  # type: ignore[union-attr]
    if present != wanted:
        finding = f"its tables are of step {present or 'none'}, the code wants {wanted}"
        return [Finding("database", False, finding, "Run `its up`.")]
    return [Finding("database", True, f"PostgreSQL {server // 10000}, tables of step {present}")]


def check_servers(settings: Settings) -> list[Finding]:
    """Each part of the stack, by asking it."""
    return [
        _of_part(settings, part_status(settings, part)) for part in parts_of(settings) if part.name != "dagster-daemon"
    ]


def check_serving(settings: Settings) -> list[Finding]:
    """The front and each detector that a route names, by inferences; which instances of them are missing."""
    from its_platform.serving.health import probe
    from its_platform.serving.processes import running
    from its_platform.serving.replicas import replica_settings

    alive = [own for own in replica_settings(settings) if running(own) is not None]
    if not alive:
        return []
    each = [probe(own) for own in alive]
    results = [result for found in each for result in found]
    remedy = "The supervisor loads it anew within 20 s; `its serving probe --revive` does so by hand."
    ill = [
        Finding(
            "serving", False, f"{one.model}{f' version {one.version}' if one.version else ''}: {one.problem}", remedy
        )
        for one in results
        if not one.is_healthy
    ]
    served = ", ".join(f"version {one.version} at {', '.join(one.stages)}" for one in each[0][1:])
    return ill or [Finding("serving", True, served or "nothing is released yet")]


def check_objects(settings: Settings) -> list[Finding]:
    """Whether the bucket does what the settings ask of it."""
    objects = open_plain(settings)
    if not isinstance(objects, S3Store):
        return []
    if settings.runs_objects and not is_up(settings):
        return []
    missing = lacking(objects, retention_of(settings), is_expired_here(settings))
    if not missing:
        return [Finding("bucket", True, "keeps versions, expires, encrypts")]
    remedy = "`its up` asks for it again; else give the platform the right to it, or choose another server."
    return [Finding("bucket", False, f"{objects.bucket} has no {', no '.join(missing)}", remedy, is_severe=False)]


def check_shared_answers(settings: Settings) -> list[Finding]:
    """Whether a Redis that somebody else runs can be reached; one of this home's own is a part like any other."""
    if settings.runs_redis or settings.serving.redis_url is None:
        return []
    try:
        is_well = is_redis_well(settings)
    except ServerUnavailable as error:
        remedy = "Look at ITS_SERVING__REDIS_URL; meanwhile each instance of the front has its own memory alone."
        return [Finding("Redis", False, error.message, remedy, is_severe=False)]
    return [Finding("Redis", is_well, "answers where ITS_SERVING__REDIS_URL says", is_severe=False)]


def check_keys(settings: Settings) -> list[Finding]:
    """Whether the keys that objects are sealed with are here, can be opened, and are nobody else's to read."""
    keys = open_keys(settings)
    if not settings.objects.sealed:
        told = "new objects are not encrypted (objects.sealed)"
        return [Finding("keys", False, told, "Remove the setting.", is_severe=False)]
    if keys.ring() is None:
        return [Finding("keys", True, "none yet; the first frame makes them")]
    number, shown = keys.check()
    if shown:
        return [Finding("keys", False, f"{shown[0]} can be read by others", f"chmod 600 {shown[0]}")]
    return [Finding("keys", True, f"{number} keys of cameras and days in {keys.folder}")]


def check_secrets(settings: Settings) -> list[Finding]:
    """Whether passwords, the configurations they stand in, keys of certificates and of publishing, and settings with a
    secret are their owner's alone."""
    files = [
        *(settings.services / "passwords").glob("[!.]*"),
        *(settings.services / name for name in CONFIGURATIONS_WITH_SECRETS),
        versions.repository(settings) / ".dvc" / "config.local",
        *settings.certificates.glob("*.key"),
        settings.certificates / SECRET_FILE,
        *(settings.home / "signing").glob("*.key"),
        settings.home / "settings.yaml",
    ]
    shown = [path for path in files if path.is_file() and path.stat().st_mode & 0o077 and _is_secret(path)]
    found = [Finding("secrets", False, f"{path} can be read by others", f"chmod 600 {path}") for path in shown]
    return found or [Finding("secrets", True, "readable by their owner alone")]


def _is_secret(path: Path) -> bool:
    """Settings are no secret by themselves, but may hold one."""
    if path.name != "settings.yaml":
        return True
    import yaml

    written = yaml.safe_load(path.read_text("utf-8")) or {}
    return redact(None, "", written) != written


def check_dagster_daemon(settings: Settings) -> list[Finding]:
    """The daemon's heartbeats, and whether the definitions load."""
    status = part_status(settings, part_named("dagster-daemon"))
    if not status.is_healthy:
        return [_of_part(settings, status)]
    told = dagster_query(
        settings,
        "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy required } } }"
        " workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError"
        " { __typename ... on PythonError { message } } } } } }",
    )
    found = []
    beats = told["instance"]["daemonHealth"]["allDaemonStatuses"]
    silent = [beat["daemonType"] for beat in beats if beat["required"] and not beat["healthy"]]
    remedy = f"Read {status.log}; `its down` and `its up` start it anew."
    found.append(Finding("Dagster's daemon", not silent, f"silent: {silent}" if silent else "every part beats", remedy))
    for entry in told["workspaceOrError"].get("locationEntries", []):
        loaded = entry["locationOrLoadError"] or {}
        is_well = loaded.get("__typename") == "RepositoryLocation"
        said = (loaded.get("message") or "loading").strip().splitlines()[-1]
        finding = "load" if is_well else f"do not load: {said}"
        found.append(
            Finding("definitions", is_well, finding, "Mend the module that is named, then reload it on the page.")
        )
    return found


def check_leftovers(settings: Settings) -> list[Finding]:
    """Processes of an earlier start that nobody looks after any more."""
    if is_up(settings):
        return []
    left = processes.left_behind(settings)
    names = ", ".join(f"{process.name()} ({process.pid})" for process in left[:5])
    return [Finding("leftovers", not left, names or "none", "`its down` ends them.", is_severe=False)]


def _of_part(settings: Settings, status: PartStatus) -> Finding:
    if status.is_healthy:
        return Finding(status.title, True, f"answers{f' at {status.address}' if status.address else ''}")
    if status.state == "stopped":
        return Finding(status.title, not is_up(settings), _NOT_UP, "Run `its up`.", is_severe=False)
    what = "has died" if status.state == "died" else "runs and does not answer"
    if status.uptime_s is not None and status.uptime_s < _JUST_STARTED_S:
        what = f"was started {status.uptime_s:.0f} s ago and does not answer yet"
    remedy = f"The supervisor sees to it; else `its up` starts what is missing. Its log is {status.log}."
    if status.name == SUPERVISOR:
        cure = "`its up` starts it" if status.state == "died" else "`its down` and `its up` start it anew"
        remedy = f"{cure}; nothing else revives it, and until then it revives nothing. Its log is {status.log}."
    # The last line of a log that tells of no error is no reason.
    why = f": {status.note}" if any(word in status.note for word in ("rror", "FATAL")) else ""
    return Finding(status.title, False, f"{what}{why}", remedy)


CHECKS: tuple[Callable[[Settings], list[Finding]], ...] = (
    check_certificates,
    check_database,
    check_servers,
    check_objects,
    check_shared_answers,
    check_keys,
    check_secrets,
    check_serving,
    check_dagster_daemon,
    check_leftovers,
)
