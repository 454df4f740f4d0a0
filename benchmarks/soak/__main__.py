"""Repeats of a load on the whole platform; what they came to, as a verdict, a page, and a block in docs/results.md.

    make soak                          # three repeats, an hour of load in all
    make soak MINUTES=3 REPEATS=1      # to see that it works

Ends with 0 where every repeat is kept, 1 where one is not, and 130 where it was interrupted; everything is stopped in
each case. The page, the figures, and the requests, samples and logs of each repeat are in `soak` in the home folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console

from footprint import Footprint
from its_platform.errors import ItsError
from its_platform.hardware import hardware_name
from its_platform.settings import REPOSITORY, load_settings
from its_platform.telemetry import terminal_progress
from soak.page import Setting, block_of, page_of, verdict_words, write_block
from soak.reckoning import Sample
from soak.repeat import Profile, one_repeat
from soak.verdict import Repeat, reasons
from workplace import why_no_services

MINUTES, REPEATS = 60.0, 3
RESULTS = REPOSITORY / "docs" / "results.md"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of load, in all repeats together")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    asked = parser.parse_args()
    if asked.minutes <= 0 or asked.repeats < 1:
        parser.error("more than 0 minutes and at least one repeat are needed")
    # What ends a job is to stop the servers too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        return soak(asked.minutes, asked.repeats, console)
    except KeyboardInterrupt:
        console.print("interrupted: everything is stopped; the repeats that had ended are in soak in the home folder")
        return 130
    except (ItsError, RuntimeError) as error:
        console.print(f"broken off: {error}", style="red", markup=False)
        return 1


def soak(minutes: float, repeats: int, console: Console) -> int:
    folder = load_settings().home.absolute() / "soak"
    shutil.rmtree(folder, ignore_errors=True)
    missing = why_no_services()
    profile: Profile = "embedded" if missing else "services"
    if missing:
        console.print(f"in the embedded profile: {missing}", markup=False)
    setting = setting_of(minutes, repeats, profile)
    found: list[Repeat] = []
    with terminal_progress() as progress:
        for number in range(1, repeats + 1):
            progress("soak", number - 1, repeats, f"repeat {number}")
            place = folder / f"repeat-{number}"
            found.append(one_repeat(number, minutes * 60 / repeats, profile, place, progress))
            # After each: one that breaks off must not take those before it along.
            keep(found, folder, setting)
        progress("soak", repeats, repeats)
    block = block_of(found, setting)
    console.print(block, markup=False)
    console.print(f"{folder / 'report.html'}")
    if minutes >= MINUTES and repeats >= REPEATS:
        write_block(RESULTS, block)
    else:
        console.print(f"{RESULTS.relative_to(REPOSITORY)} stays as it is: that is for an hour in three repeats")
    console.print(verdict_words(found).replace("**", ""), markup=False)
    return 1 if any(reasons(one) for one in found) else 0


def keep(found: list[Repeat], folder: Path, setting: Setting) -> None:
    """Write the figures and the page of the repeats that have ended."""
    samples = [samples_in(folder / f"repeat-{one.number}" / "samples.jsonl") for one in found]
    (folder / "soak.json").write_text(json.dumps([asdict(one) for one in found], indent=1), "utf-8")
    (folder / "report.html").write_text(page_of(found, samples, setting), "utf-8")


def setting_of(minutes: float, repeats: int, profile: str) -> Setting:
    """This machine, today, and how busy it is before anything was started."""
    memory_gb = psutil.virtual_memory().total / 1e9
    return Setting(
        machine=f"{os.cpu_count()} cores of {hardware_name()}, {memory_gb:.0f} GB, Python {platform.python_version()}",
        beside=f"load average {os.getloadavg()[0]:.1f} before it began",
        day=f"{datetime.now(UTC):%Y-%m-%d}",
        command=f"make soak MINUTES={minutes:g} REPEATS={repeats}",
        profile=profile,
    )


def samples_in(file: Path) -> list[Sample]:
    """What a repeat wrote down of its parts."""
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return [Sample(one["at"], {name: Footprint(**part) for name, part in one["parts"].items()}) for one in lines]


if __name__ == "__main__":
    raise SystemExit(main())
