"""One repeat: an empty home, the tiny loop to a first served version, a load while the world goes on, the reckoning.

Enters: how long, and in which profile. Leaves: a `Repeat`, and in its folder the requests, the samples and, by the end,
the logs. All servers are stopped and the home is removed, whatever happens.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from its_platform import doctor
from its_platform.demo.run import Demo, add_cameras
from its_platform.demo.scales import SCALES
from its_platform.doctor import servers
from its_platform.errors import ServerUnavailable, TransientError
from its_platform.live.feed import watch_cameras
from its_platform.loop.play import duplicates, first_release, has_ended, settle
from its_platform.processes import process_environment
from its_platform.settings import REPOSITORY, Settings, load_settings
from its_platform.simulation import append_segment
from its_platform.stack import start_stack, stop_stack
from its_platform.stores import Stores, open_stores
from its_platform.stores.database import database_url
from its_platform.stores.prepare import choose_profile
from its_platform.telemetry import Progress
from soak.load import CAMERAS, PURPOSE
from soak.reckoning import (
    LAST_WORDS_S,
    Request,
    back_at,
    count_rows,
    growths,
    is_of_the_gap,
    key_of,
    minutes_of,
    percentiles,
    started_again,
)
from soak.verdict import Repeat
from soak.watching import Watch
from workplace import own_home

Profile = Literal["embedded", "services"]
SCALE = SCALES["tiny"]
CHAPTER_S = SCALE.settings["drift"]["window_s"]
PACE = 2.0
"""The simulated world's time goes twice as fast as ours: a window of drift in half its length."""
NIGHT, DAY = ("night", "fog"), ("day", "clear")
# The first version knows only the day, so that drift is found soon; the sky then changes every four minutes.
SKY = [*[NIGHT] * 12, *[DAY] * 12]
# A look each second, as in the tests, would have a collection run without a pause under ten pictures a second.
LOOKS_S = 15
PATIENCE_S = 900.0
POLL_S = 1.0


def one_repeat(number: int, seconds: float, profile: Profile, folder: Path, progress: Progress) -> Repeat:
    """A repeat whose cameras ask for `seconds`, and then until a training that is under way has ended."""
    folder.mkdir(parents=True)
    with own_home() as bare:
        settle(bare, "make soak", {**SCALE.settings, "canary": {"steps": []}, "sensors": {"interval_s": LOOKS_S}})
        settings = choose_profile(load_settings(), profile)
        try:
            return _repeat(number, seconds, settings, folder, progress)
        finally:
            stop_stack(settings, progress)
            shutil.copytree(settings.logs, folder / "log", dirs_exist_ok=True)


def _repeat(number: int, seconds: float, settings: Settings, folder: Path, progress: Progress) -> Repeat:
    began = time.monotonic()
    start_stack(settings, progress=progress)
    up_s = time.monotonic() - began
    stores = open_stores(settings)
    demo = Demo(settings, stores, settings.home / "soak", progress, lambda name: None, PATIENCE_S, scale=SCALE)
    add_cameras(demo)
    progress("first version", 0, None, "day, clear")
    first_release(demo)
    first_version_s = time.monotonic() - began - up_s
    before = (database_mb(settings), objects_mb(settings))
    asked, began_at = folder / "requests.jsonl", time.time()
    with Watch(settings, folder / "samples.jsonl", seconds / 2) as watch, cameras_asking(settings, asked, folder):
        live = let_the_world_go_on(demo, seconds, progress)
        wait_for_trainings(demo, progress)
        ended_at = time.time()
    if watch.killed_at is None:
        raise RuntimeError("the load ended before Triton was killed")
    requests = [Request(**json.loads(line)) for line in asked.read_text("utf-8").splitlines()]
    back = back_at(requests, watch.killed_at)
    failed = [one for one in requests if not one.is_answered]
    in_gap = [one for one in failed if is_of_the_gap(one, watch.killed_at, back or ended_at)]
    held = rows_held(stores, progress)
    p50, p95, p99 = percentiles([one for one in requests if one.is_answered])
    return Repeat(
        number=number,
        up_s=up_s,
        first_version_s=first_version_s,
        load_s=ended_at - began_at,
        requests=len(requests),
        failed=len(failed),
        failed_in_gap=len(in_gap),
        killed_s=watch.killed_at - began_at,
        back_s=back - watch.killed_at if back is not None else None,
        p50=p50,
        p95=p95,
        p99=p99,
        minutes=minutes_of(requests, began_at, ended_at),
        rows=count_rows(requests, held, watch.killed_at, settings.serving.spool_flush_s + LAST_WORDS_S),
        duplicates=duplicates(stores),
        live=live,
        **_came_of_it(stores),
        growths=growths(watch.samples),
        started_again=sorted(started_again(watch.samples)),
        findings=[
            f"{one.name}: {one.finding}"
            for one in doctor.examine(settings, servers.CHECKS)
            if one.is_severe and not one.is_well
        ],
        database_mb=(before[0], database_mb(settings)),
        objects_mb=(before[1], objects_mb(settings)),
        problems=[one.problem for one in failed if one not in in_gap][:5],
    )


@contextmanager
def cameras_asking(settings: Settings, file: Path, folder: Path) -> Iterator[None]:
    """The load, in a process of its own, until the block ends and all that was asked is answered."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "benchmarks"), str(REPOSITORY / "clients" / "python")])
    environment = {**process_environment(settings), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with (folder / "load.log").open("w") as log:
        load = subprocess.Popen([sys.executable, "-m", "soak.load", str(file)], env=environment, stdout=log, stderr=log)
    try:
        yield
        if load.poll() is not None:
            raise RuntimeError(f"the cameras ended early: {(folder / 'load.log').read_text()[-500:]}")
    finally:
        load.terminate()
        try:
            load.wait(settings.serving.deadline_s * 3)
        except subprocess.TimeoutExpired:
            load.kill()
            load.wait()


def let_the_world_go_on(demo: Demo, seconds: float, progress: Progress) -> tuple[int, int]:
    """Night and day by turns, which the simulated cameras film and ask about; answered and unanswered pictures."""
    answered = failed = 0
    began = time.monotonic()
    for light, weather in itertools.cycle(SKY):
        passed = time.monotonic() - began
        progress(
            "load",
            round(min(passed, seconds)),
            round(seconds),
            f"{light}, {weather}; {answered} live pictures answered",
        )
        if passed >= seconds:
            return answered, failed
        timeline = append_segment(demo.settings, light, weather, CHAPTER_S)
        chapter = timeline.segments[-1]
        since, until = timeline.moment(chapter.from_s), timeline.moment(chapter.to_s)
        try:
            seen = watch_cameras(demo.stores, list(SCALE.views), since, until, concurrency=2, pace=PACE)
        except ServerUnavailable:
            # Twenty in a row have no answer: Triton is still away. What came before them is lost to this count.
            failed += 20
            continue
        answered, failed = answered + seen.frames, failed + seen.failed
    raise AssertionError("the sky is endless")


def wait_for_trainings(demo: Demo, progress: Progress) -> None:
    """Wait until no training is under way, for so long; what is not served by then is told by the verdict."""
    deadline = time.monotonic() + PATIENCE_S
    while not has_ended(demo, "learn") and time.monotonic() < deadline:
        progress("load", 1, 1, "until the training that is under way has ended")
        time.sleep(POLL_S)


def rows_held(stores: Stores, progress: Progress) -> Counter[tuple[str, float]]:
    """How many rows the table has for each request of the cameras, once everything that was logged is in it."""
    from its_platform.monitoring import predictions

    deadline = time.monotonic() + PATIENCE_S
    while any(stores.settings.spool.glob("*.jsonl*")):
        progress("reckoning", 0, None, "the last rows of the log")
        if time.monotonic() > deadline:
            raise RuntimeError(f"the log in {stores.settings.spool} is not collected")
        with suppress(TransientError):
            # Dagster's own collection may be at it.
            predictions.collect(stores)
        time.sleep(POLL_S)
    rows = predictions.query(stores, cameras=list(CAMERAS), purpose=PURPOSE, columns=["camera_id", "at"])
    return Counter(key_of(camera, at.timestamp()) for camera, at in zip(rows["camera_id"], rows["at"], strict=True))


def _came_of_it(stores: Stores) -> dict[str, object]:
    """Frames, reports, versions that were in production, and Dagster's runs by status."""
    from its_platform.frames.index import FrameIndex
    from its_platform.monitoring.reports import list_reports
    from its_platform.release import history

    engine = sa.create_engine(database_url(stores.settings, "dagster"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        runs = connection.execute(sa.text("SELECT status, count(*) FROM runs GROUP BY 1 ORDER BY 1")).all()
    return {
        "frames": len(FrameIndex(stores).query(columns=["camera_id"])),
        "reports": len(list_reports(stores)),
        "versions": sorted({row.version for row in history(stores, "production")}),
        "runs": {str(status): int(count) for status, count in runs},
    }


def database_mb(settings: Settings) -> float:
    """Size of all databases of the server."""
    engine = sa.create_engine(database_url(settings, "its"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        total = connection.execute(sa.text("SELECT sum(pg_database_size(datname)) FROM pg_database")).scalar_one()
    return float(total) / 1e6


def objects_mb(settings: Settings) -> float:
    """Size of the object store's files, as the disk sees them."""
    folder = settings.services / "objects" if settings.runs_objects else settings.home / "objects"
    found = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                found += os.lstat(os.path.join(directory, name)).st_blocks * 512
            except FileNotFoundError:
                # A part of an upload that was finished meanwhile.
                continue
    return found / 1e6
