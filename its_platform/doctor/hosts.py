"""Hosts: whether what is released here was published for them, and, at a host, what its last pass came to."""

from __future__ import annotations

from collections.abc import Callable

from its_platform.doctor.finding import Finding
from its_platform.settings import Settings
from its_platform.stack import is_up
from its_platform.stores import open_stores
from its_platform.stores.postgres import is_running


def check_published(settings: Settings) -> list[Finding]:
    """Whether hosts were told of what is served now."""
    from its_platform.release.hosts.place import publishing_shelf
    from its_platform.release.hosts.publishing import is_untold, last_told

    shelf = publishing_shelf(settings)
    if shelf is None or (settings.runs_postgres and not is_running(settings)):
        return []
    told = last_told(settings)
    if is_untold(open_stores(settings)):
        remedy = "The supervisor does so within 10 s once the store answers; `its serving publish` by hand."
        finding = f"{shelf.name} does not have what is served now"
        return [Finding("published versions", False, finding, remedy, is_severe=False)]
    said = f"generation {told.wish.generation} at {shelf.name}" if told is not None else "nothing is released yet"
    return [Finding("published versions", True, said)]


def check_followed(settings: Settings) -> list[Finding]:
    """At a host: what the last pass found, and what it refused."""
    from its_platform.release.hosts.agent import is_following
    from its_platform.release.hosts.passes import last_pass

    done = last_pass(settings)
    if done is None:
        return [Finding("sync", not is_up(settings), "no pass yet", "`its up` starts the agent.", is_severe=False)]
    if done.refused:
        remedy = "What is served goes on being served; see to it where versions are released."
        return [Finding("sync", False, f"refused: {one}", remedy) for one in done.refused]
    if done.problem:
        remedy = "It goes on with what it serves, and tries again by itself."
        return [Finding("sync", False, done.problem, remedy, is_severe=False)]
    is_late = is_up(settings) and not is_following(settings)
    return [Finding("sync", not is_late, done.words, f"Read {settings.logs / 'sync.log'}.")]


CHECKS: tuple[Callable[[Settings], list[Finding]], ...] = (check_published,)
