"""Run the benchmarks, print their figures, write them to `bench.json` in the home folder, and fail where a floor fails.

    python benchmarks/run.py [NAME ...]

Without a name all of them run, each in a process of its own: what one leaves in memory must not slow the next. Each
works in a home of its own; only `bench.json` goes to the person's. Its format is in `docs/schemas/bench.json`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from figures import Figure, read, show, write
from its_platform.settings import REPOSITORY, load_settings

TOPICS = ("startup", "stack", "ingest", "index", "objects", "serving", "formats", "gpu", "release", "loop")


def run_topic(topic: str, folder: Path) -> list[Figure]:
    """A topic's figures, which its own process shows as well. Raises `RuntimeError` where it ends without any."""
    written = folder / f"{topic}.json"
    script = REPOSITORY / "benchmarks" / f"{topic}.py"
    done = subprocess.run([sys.executable, str(script), "--out", str(written)], cwd=REPOSITORY, check=False)
    if not written.is_file():
        raise RuntimeError(f"benchmarks/{topic}.py ended with {done.returncode} and without figures")
    return read(written)


def main(wanted: list[str], console: Console) -> int:
    unknown = [name for name in wanted if name not in TOPICS]
    if unknown:
        console.print(f"There is no benchmark {', '.join(unknown)}; there are {', '.join(TOPICS)}.")
        return 2
    figures: list[Figure] = []
    broken: list[str] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="its-bench-") as folder:
        topics = wanted or list(TOPICS)
        for number, topic in enumerate(topics, 1):
            console.rule(f"{topic} ({number} of {len(topics)}, {time.monotonic() - began:.0f} s so far)")
            try:
                figures += run_topic(topic, Path(folder))
            except RuntimeError as error:
                # The other topics' figures are worth having; the exit code tells.
                broken.append(str(error))
    path = load_settings().home / "bench.json"
    if figures:
        write(figures, path)
    console.rule("all figures")
    show(figures, console)
    for told in broken:
        console.print(told, style="red", markup=False)
    floors = [figure for figure in figures if figure.floor is not None]
    kept = sum(figure.passed for figure in floors)
    console.print(f"{kept} of {len(floors)} floors kept, {time.monotonic() - began:.0f} s, written to {path}")
    return 0 if figures and kept == len(floors) and not broken else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], Console(width=None if sys.stdout.isatty() else 150)))
