"""Everything that outlives a process: objects, tables, rows, models and dataset versions.

`open_stores(settings)` gives one value that each stage is handed. Opening it connects to nothing and creates nothing;
the first use of a part does. What the rows and objects mean is the business of the stages above.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from its_platform.settings import Settings
from its_platform.stores.database import Database
from its_platform.stores.objects import ObjectStore, SealedStore, open_objects
from its_platform.stores.registry import Registry

__all__ = ["Database", "ObjectStore", "Registry", "SealedStore", "Stores", "open_stores"]


@dataclass(frozen=True)
class Stores:
    """Where things are kept, by the settings in force."""

    settings: Settings
    objects: SealedStore
    database: Database

    @property
    def tables(self) -> Path:
        """Folder of the Delta tables (frames, labels, predictions)."""
        return self.settings.tables

    @property
    def registry(self) -> Registry:
        """The models."""
        return Registry(self.settings)


def open_stores(settings: Settings) -> Stores:
    """The stores of these settings. Raises `BadInput` when an address among them cannot be read."""
    return Stores(settings=settings, objects=open_objects(settings), database=Database(settings))
