"""A setting or a command that no document names does not exist for its users."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from its_platform.cli import ENTRIES, load_command
from its_platform.settings_page import settings_page

ROOT = Path(__file__).resolve().parents[2]


def test_the_settings_page_is_that_of_the_settings():
    assert (ROOT / "docs" / "settings.md").read_text("utf-8") == settings_page(), "run `make docs`"


@pytest.mark.parametrize("group", [name for name, entry in ENTRIES.items() if entry.function is None])
def test_every_command_of_a_group_is_in_a_document(group: str):
    pages = "\n".join(page.read_text("utf-8") for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
    missing = [name for name in load_command(group).commands if f"its {group} {name}" not in pages]
    assert missing == []


def test_every_command_at_the_top_is_in_the_readme():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [name for name, entry in ENTRIES.items() if entry.function and f"its {name}" not in readme] == []


def test_links_between_documents_lead_somewhere():
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8")):
            if not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []
