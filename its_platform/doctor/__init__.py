"""Look for what keeps the platform from working, and say what a person can do about it.

Each check looks at one thing as it is right now and gives its findings: the machine in `machine.py`, the servers in
`servers.py`, what the loop has come to in `loop.py`, other hosts in `hosts.py`, the record of changes in `trail.py`,
copies in `backups.py`. Nothing is changed here; what mends by itself is mended by `supervisor.py`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import psutil
from sqlalchemy.exc import SQLAlchemyError

from its_platform.doctor import backups, hosts, loop, machine, servers, trail
from its_platform.doctor.finding import Finding
from its_platform.errors import ItsError
from its_platform.settings import Settings

__all__ = ["CHECKS", "Finding", "examine"]

Check = Callable[[Settings], list[Finding]]
# In the order in which things depend on each other.
CHECKS: tuple[Check, ...] = (
    *machine.CHECKS,
    *servers.CHECKS,
    *loop.CHECKS,
    *hosts.CHECKS,
    *trail.CHECKS,
    *backups.CHECKS,
)
# A host has neither database nor loop.
HOST_CHECKS: tuple[Check, ...] = (
    machine.check_environments,
    machine.check_disk,
    machine.check_ports,
    servers.check_servers,
    servers.check_secrets,
    servers.check_serving,
    loop.check_model_repository,
    hosts.check_followed,
    servers.check_leftovers,
)
# What a server, a process that ends meanwhile, or a file with odd content may do to a check.
_FAILURES = (
    ItsError, SQLAlchemyError, OSError, ValueError, LookupError, TypeError, AttributeError, psutil.Error,
    subprocess.SubprocessError,
)  # fmt: skip


def examine(settings: Settings, checks: tuple[Check, ...] | None = None) -> list[Finding]:
    """Every check that this home asks for, in order. A check that itself fails is a finding too."""
    checks = checks or (HOST_CHECKS if settings.is_host else CHECKS)
    found: list[Finding] = []
    for check in checks:
        try:
            found.extend(check(settings))
        except _FAILURES as error:
            name = check.__name__.removeprefix("check_").replace("_", " ")
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            remedy = getattr(error, "hint", "") or f"{settings.logs} has a log of each server."
            found.append(Finding(name, False, f"could not be looked at: {first}", remedy))
    return found
