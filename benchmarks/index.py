"""How the index of frames grows: add a day, query a slice, split, at 100 thousand and at a million rows.

    python benchmarks/index.py

Each size is worked on in a fresh process, whose greatest memory counts. The table has 10 thousand rows a day in one
file a day, of 20 cameras, as `its frames optimize` leaves it; the day that is added comes through `FrameIndex.add` like
any ingest's. The slice is one camera's day. The split is over every row: `share_blocks`, then `keep_guard`.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from figures import Comparison, Figure, Round, at_most, measure, times_peer
from its_platform.dataset.splits import Place, Spacing, keep_guard, share_blocks
from its_platform.frames.index import SCHEMA, FrameIndex, FrameRow
from its_platform.settings import Settings
from its_platform.stores import Stores, open_stores
from its_platform.telemetry import Progress, no_progress
from workplace import command_of, open_own_stores, own_home, run_alone

COMMAND = command_of("index")
SIZES = (100_000, 1_000_000)
ROWS_A_DAY = 10_000
CAMERAS = 20
INTERVAL = timedelta(days=1) / (ROWS_A_DAY // CAMERAS)
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
SPACING = Spacing(block_s=3600.0, guard_s=180.0, block_frames=10, guard_frames=1)
SHARES = {"train": 0.6, "val": 0.15, "test": 0.1, "golden": 0.15}
MOST_TIMES = 12.0
MOST_MEMORY_GB = 2.0
STEPS = {"add": "add a day", "query": "query a slice", "split": "split"}
ROUNDS = 3


def comparisons() -> dict[str, Comparison]:
    small, large = (f"{size:,}".replace(",", " ") for size in SIZES)
    found = {
        step: Comparison(f"{what}, {large} rows", f"{small} rows", "s", times_peer(MOST_TIMES), COMMAND)
        for step, what in STEPS.items()
    }
    found["memory"] = Comparison(
        f"memory of all three, {large} rows", f"{small} rows", "GB", at_most(MOST_MEMORY_GB), COMMAND
    )
    return found


def figures(progress: Progress = no_progress) -> list[Figure]:
    with own_home() as settings:
        # A table for each size, beside each other in one home; they share the database that the index locks in.
        open_own_stores(settings)
        tables = {size: settings.home / str(size) for size in SIZES}
        for number, (size, folder) in enumerate(tables.items()):
            progress("index, tables", number, len(tables), f"{size:,} rows")
            fill(folder / "frames", size)
        progress("index, tables", len(tables), len(tables))
        added = dict.fromkeys(SIZES, 0)

        def one_round() -> dict[str, Round]:
            measured = {}
            for size, folder in tables.items():
                measured[size] = in_fresh_process(folder, size, size // ROWS_A_DAY + added[size])
                added[size] += 1
            small, large = (measured[size] for size in SIZES)
            return {
                comparison.name: Round(
                    large[what], small[what], large.get(f"{what}_cpu_ms"), small.get(f"{what}_cpu_ms")
                )
                for what, comparison in comparisons().items()
            }

        return measure(list(comparisons().values()), one_round, progress, rounds=ROUNDS)


def in_fresh_process(folder: Path, size: int, day: int) -> dict[str, float]:
    """The steps in a process of their own. Raises `RuntimeError` with its last words where it fails."""
    words = [sys.executable, __file__, "--work", str(folder), str(size), str(day)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the index of {size} rows failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def work(settings: Settings, folder: Path, size: int, day: int) -> dict[str, float]:
    """Seconds and CPU milliseconds of each step, and the greatest memory of this process in GB."""
    opened = open_stores(settings)
    index = FrameIndex(_Elsewhere(opened, folder))  # type: ignore[arg-type]
    rows = list(rows_of(day))
    costs: dict[str, float] = {}

    def take(step: str, do: Callable[[], Any]) -> Any:
        began, used = time.perf_counter(), time.process_time()
        result = do()
        costs[step] = time.perf_counter() - began
        costs[f"{step}_cpu_ms"] = (time.process_time() - used) * 1000
        return result

    added = take("add", partial(index.add, rows))
    del rows
    start = FIRST_DAY + timedelta(days=day // 2)
    found = take("query", lambda: index.query(["camera-3"], start, start + timedelta(days=1)))
    kept = take("split", lambda: split(index))
    if (added, len(found)) != (ROWS_A_DAY, ROWS_A_DAY // CAMERAS) or not kept:
        raise RuntimeError(f"{added} rows were added, {len(found)} found and {kept} kept by the split")
    return {**costs, "memory": peak_memory_gb()}


def split(index: FrameIndex) -> int:
    """Share the blocks of every frame out and keep the guard gap; the number of frames that stay."""
    columns = ["camera_id", "captured_at", "frame_hash", "light"]
    frames = index.query(columns=columns)
    seconds = frames["captured_at"].astype("int64") / 1e6
    places = [
        Place(frame_hash, camera, at, True, light)
        for frame_hash, camera, at, light in zip(
            frames["frame_hash"], frames["camera_id"], seconds, frames["light"], strict=True
        )
    ]
    del frames, seconds
    blocks = {}
    strata = {}
    for place in places:
        block = place.block(SPACING)
        blocks[place.frame_hash] = block
        strata[block] = (place.camera_id, place.stratum)
    given = share_blocks(strata, dict.fromkeys(strata, SHARES), {}, seed=0)  # type: ignore[arg-type]
    wanted = {frame_hash: given[block] for frame_hash, block in blocks.items()}
    return len(keep_guard(places, wanted, SPACING))


def peak_memory_gb() -> float:
    """The greatest memory that this process has had so far (`VmHWM`, which starts anew with each program)."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    peak_kb = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return peak_kb * 1024 / 1e9


def rows_of(day: int) -> Iterator[FrameRow]:
    """A day's rows, of all cameras; the same for the same day."""
    start = FIRST_DAY + timedelta(days=day)
    for number in range(ROWS_A_DAY):
        camera, place = divmod(number, ROWS_A_DAY // CAMERAS)
        captured_at = start + place * INTERVAL
        frame_hash = hashlib.sha256(f"{day}/{number}".encode()).hexdigest()
        yield FrameRow(
            camera_id=f"camera-{camera}",
            captured_at=captured_at,
            frame_hash=frame_hash,
            object_key=f"frames/{frame_hash[:2]}/{frame_hash}.jpg",
            width=1920,
            height=1080,
            sequence=None,
            source=f"day-{day}.mp4",
            light="day" if 6 <= captured_at.hour < 20 else "night",
            weather="clear",
            brightness=0.4,
            contrast=0.2,
            sharpness=6.0,
            noise=2.0,
            overexposed=0.0,
            underexposed=0.01,
            is_frozen=False,
            ingested_at=captured_at,
        )


def fill(path: Path, size: int) -> None:
    """A table of so many rows, a commit a day, past the merge that keeps rows from being there twice."""
    import pyarrow as pa
    from deltalake import write_deltalake

    path.parent.mkdir(parents=True)
    for day in range(size // ROWS_A_DAY):
        rows = list(rows_of(day))
        name = f"{FIRST_DAY + timedelta(days=day):%Y-%m-%d}"
        columns = {column: [getattr(row, column) for row in rows] for column in SCHEMA.names if column != "day"}
        table = pa.Table.from_pydict({**columns, "day": [name] * len(rows)}, schema=SCHEMA)
        write_deltalake(str(path), table, mode="append", partition_by=["day"])


class _Elsewhere:
    """Stores whose tables lie in another folder."""

    def __init__(self, stores: Stores, folder: Path) -> None:
        self.settings, self.objects, self.database, self.tables = (
            stores.settings, stores.objects, stores.database, folder,
        )  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        from its_platform.settings import load_settings

        asked = (Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
        sys.stdout.write(json.dumps(work(load_settings(), *asked)) + "\n")
    else:
        raise SystemExit(run_alone(figures))
