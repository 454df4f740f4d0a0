"""The page of every setting, written from the settings themselves: `python -m its_platform.settings_page`.

What enters is the tree in `settings.py`; what leaves is `docs/settings.md`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from its_platform.settings import REPOSITORY, Settings

HEAD = """# Settings

Each is read from the environment (`ITS_` and the name in capitals, two underscores between group and field:
`ITS_TRAINING__EPOCHS=3`), then from `settings.yaml` in the home folder, then from the default here. A value that cannot
be used is refused by name before anything starts. This page is written by `make docs`.
"""


def settings_page() -> str:
    """The page as Markdown: one table a group."""
    plain = {name: field for name, field in Settings.model_fields.items() if not _is_group(field)}
    parts = [HEAD, _table("The platform", "", plain)]
    for name, field in Settings.model_fields.items():
        if _is_group(field):
            group: type[BaseModel] = field.annotation  # type: ignore[assignment]
            title = f"`{name}`: {(group.__doc__ or '').strip().splitlines()[0]}"
            parts.append(_table(title, f"{name}.", group.model_fields))
    return "\n".join(parts)


def _is_group(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _table(title: str, prefix: str, fields: dict[str, FieldInfo]) -> str:
    rows = [f"## {title}", "", "| setting | default | what |", "|---|---|---|"]
    rows += [
        f"| `{prefix}{name}` | {_shown(field.default)} | {field.description or ''} |" for name, field in fields.items()
    ]
    return "\n".join(rows) + "\n"


def _shown(default: Any) -> str:
    if default is None or default is PydanticUndefined:
        return "none"
    if isinstance(default, Path):
        return f"`{default.relative_to(REPOSITORY)}`" if default.is_relative_to(REPOSITORY) else f"`{default}`"
    if isinstance(default, tuple):
        return ", ".join(f"`{entry}`" for entry in default)
    return f"`{default}`"


if __name__ == "__main__":
    sys.stdout.write(settings_page())
