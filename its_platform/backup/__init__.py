"""Copies of everything that a machine may lose, in a folder or a bucket elsewhere, and the way back from them.

`target.py` is the place and what lies there; `members.py` what is copied, in the order that keeps a restored set whole;
`creating.py`, `checking.py` and `restoring.py` do the work. A backup is its manifest: without one, nothing that lies at
the target is part of any. Copies open nothing: objects are taken as they are stored, and the master key stays at home.
"""

from its_platform.backup.checking import Verdict, prune_backups, verify_backup
from its_platform.backup.creating import Created, create_backup
from its_platform.backup.keys import forget_key, places_with_keys
from its_platform.backup.restoring import Restored, restore_backup
from its_platform.backup.target import Backup, Target, backup_ids, list_backups, made_at, open_target

__all__ = [
    "Backup",
    "Created",
    "Restored",
    "Target",
    "Verdict",
    "backup_ids",
    "create_backup",
    "forget_key",
    "list_backups",
    "made_at",
    "open_target",
    "places_with_keys",
    "prune_backups",
    "restore_backup",
    "verify_backup",
]
