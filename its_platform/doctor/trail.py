"""Whether the record of what was changed is whole, and in the database."""

from __future__ import annotations

from collections.abc import Callable

from its_platform.doctor.finding import Finding
from its_platform.settings import Settings
from its_platform.stores.audit import verify
from its_platform.stores.database import Database
from its_platform.stores.journal import Journal
from its_platform.stores.postgres import is_running

# All of it would take the longer the older a platform is; `its audit verify` has the time.
NEWEST = 500


def check_trail(settings: Settings) -> list[Finding]:
    """The newest rows of the chain, and steps that wait to be entered."""
    if settings.runs_postgres and not is_running(settings):
        return []
    waiting = Journal(settings).waiting()
    with Database(settings).session() as session:
        chain = verify(session, newest=NEWEST)
    if chain.broken is not None:
        number, why = chain.broken
        remedy = "`its audit verify` walks all of it; docs/security.md says what a broken chain means."
        return [Finding("audit trail", False, f"row {number}: {why}", remedy)]
    if waiting:
        remedy = "The next step enters them; so does `its audit list`."
        return [Finding("audit trail", False, f"{waiting} records wait to be entered", remedy, is_severe=False)]
    return [Finding("audit trail", True, f"the newest {chain.rows} rows are as they were written")]


CHECKS: tuple[Callable[[Settings], list[Finding]], ...] = (check_trail,)
