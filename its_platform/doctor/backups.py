"""Whether there is a copy of all this elsewhere, and how old it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from its_platform.backup import list_backups, open_target
from its_platform.doctor.finding import Finding
from its_platform.settings import Settings


def check_backups(settings: Settings) -> list[Finding]:
    """The age of the last backup, where a place for them is set, and manifests there that cannot be used."""
    if settings.backup.url is None:
        return []
    target = open_target(settings)
    found, wrong = list_backups(target)
    ill = [
        Finding("backups", False, problem, "`its backup verify` says more of the others.", is_severe=False)
        for problem in wrong.values()
    ]
    remedy = "`its backup create` makes one; have it run every day."
    if not found:
        return [*ill, Finding("backups", False, f"there is none at {target.name}", remedy, is_severe=False)]
    days = (datetime.now(UTC) - found[-1].created_at).total_seconds() / 86_400
    is_recent = days <= settings.backup.warn_after_days
    told = f"the last, {found[-1].id}, is {days:.1f} days old"
    return [*ill, Finding("backups", is_recent, told, remedy, is_severe=False)]


CHECKS: tuple[Callable[[Settings], list[Finding]], ...] = (check_backups,)
