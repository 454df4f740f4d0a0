"""Promotions and rollbacks under steady load: what live traffic notices, and how long each takes.

    python benchmarks/release.py

Four versions of the starter checkpoint (320 px, fp32) take turns in production of a real Triton, with MLflow and
PostgreSQL as they are, while cameras query the front without a pause and without trying again. A promotion is timed
from the alias, set as on MLflow's page, to the release that follows a real answer of the new version; the sensor's
interval and the start of Dagster's run are beside it. What the versions' gates say is written down beforehand: judging
is no part of this. Each promotion loads a version that is not there, and lets one go. Where a time is measured again,
the requests that failed are those of both attempts.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context

import numpy as np

from figures import Comparison, Figure, Round, at_most, figure_of, measure
from its_platform.errors import ItsError
from its_platform.model.export import export_detector
from its_platform.release import promote, reconcile, rollback, served, waive
from its_platform.release.gates import GateResult
from its_platform.release.verdicts import record_judgement
from its_platform.serving.client import DetectorClient
from its_platform.settings import STARTER_WEIGHTS, Settings
from its_platform.stack import start_stack, stop_stack
from its_platform.stores import Stores, open_stores
from its_platform.stores.registry import MODEL_NAME, VersionFacts
from its_platform.telemetry import Progress, no_progress
from workplace import command_of, own_home, run_alone

COMMAND = command_of("release")
SIZE = 320
VERSIONS = 4
PROMOTIONS, ROLLBACKS = 20, 5
IN_FLIGHT = 2
BY = "benchmark"
FAILED = Comparison("requests that failed meanwhile", "nothing", "requests", at_most(0), COMMAND)
PROMOTED = Comparison("alias to served, the slowest of 20", "their median", "s", at_most(5.0), COMMAND, split_unit="s")
BACK = Comparison("rollback to served, the slowest of 5", "their median", "s", at_most(2.0), COMMAND, split_unit="s")


def figures(progress: Progress = no_progress) -> list[Figure]:
    taken: list[dict[str, Round]] = []

    def take_round() -> dict[str, Round]:
        taken.append(one_round(progress))
        return taken[-1]

    timed = measure([PROMOTED, BACK], take_round, rounds=1, attempts=2)
    # Of a time a quieter attempt says more; a request that failed has failed.
    failed = sum(one[FAILED.name].ours for one in taken)
    return [figure_of(FAILED, [Round(failed, 0.0)]), *timed]


def one_round(progress: Progress) -> dict[str, Round]:
    with own_home() as settings:
        try:
            start_stack(settings, ["triton", "mlflow"], progress)
            stores = open_stores(settings)
            versions = registered(stores, progress)
            with Load(settings) as load:
                there = [promoted(stores, versions[(n + 1) % VERSIONS], n, progress) for n in range(PROMOTIONS)]
                back = [rolled_back(stores, n, progress) for n in range(ROLLBACKS)]
            if not load.answered:
                raise RuntimeError("nothing was answered meanwhile, so nothing was measured")
            progress("release", PROMOTIONS, PROMOTIONS, f"{load.answered} requests answered, {load.failed} failed")
        finally:
            stop_stack(settings)
    return {
        FAILED.name: Round(float(load.failed), 0.0),
        PROMOTED.name: _round(there),
        BACK.name: _round(back),
    }


def _round(all_of: list[Took]) -> Round:
    served_s, after_s = ([getattr(one, name) for one in all_of] for name in ("served_s", "after_s"))
    return Round(max(served_s), statistics.median(served_s), split={"letting go and tags, the slowest": max(after_s)})


def registered(stores: Stores, progress: Progress) -> list[int]:
    """Versions of the same detector, each judged as passed; the first is in production."""
    onnx = stores.settings.home / "starter.onnx"
    # The export loads PyTorch, which would stand beside what is measured.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        about = pool.submit(export_detector, STARTER_WEIGHTS, onnx, SIZE).result()
    versions = []
    for number in range(VERSIONS):
        progress("release, versions", number, VERSIONS)
        folder = stores.settings.home / f"version{number}"
        folder.mkdir()
        shutil.copy2(onnx, folder / "model.onnx")
        (folder / "evaluation.json").write_text(json.dumps({"slices": [], "classes": [], "thresholds": {}}), "utf-8")
        run = stores.registry.client().create_run(stores.registry.experiment())
        facts = VersionFacts("none", about.family, SIZE, list(about.classes), {}, {"parity": "1.0"})
        versions.append(stores.registry.create_version(run.info.run_id, folder, facts).version)
        said_to_pass(stores, versions[-1])
    promote(stores, versions[0], "production", BY, "the first one")
    progress("release, versions", VERSIONS, VERSIONS)
    return versions


def said_to_pass(stores: Stores, version: int) -> None:
    row = served(stores, "production")
    passed = GateResult("export_parity", "matched_share", "golden", 1.0, 0.99, None, "passed", "given by the benchmark")
    record_judgement(stores, version, "given", row.version if row is not None else None, [passed])


@dataclass(frozen=True)
class Took:
    """Seconds until the release was written down, and of what follows it: letting go, tags."""

    served_s: float
    after_s: float


def promoted(stores: Stores, version: int, number: int, progress: Progress) -> Took:
    """From the alias to a version being served. Raises `RuntimeError` where another one is."""
    progress("release", number, PROMOTIONS, f"version {version} to production")
    row = served(stores, "production")
    if row is not None and row.version != version:
        said_to_pass(stores, version)
    began = datetime.now(UTC)
    stores.registry.set_alias(MODEL_NAME, "production", version)
    reconcile(stores, BY)
    now = served(stores, "production")
    if now is None or now.version != version:
        raise RuntimeError(f"version {version} was asked for, and {now.version if now else 'nothing'} is served")
    return Took((now.since - began).total_seconds(), (datetime.now(UTC) - now.since).total_seconds())


def rolled_back(stores: Stores, number: int, progress: Progress) -> Took:
    """A rollback; what it rejected is let go again and promoted, so that there is one more to come."""
    progress("release", number, ROLLBACKS, "back")
    row = served(stores, "production")
    if row is None:
        raise RuntimeError("nothing is served")
    began = datetime.now(UTC)
    change = rollback(stores, BY, "measured")
    ended = datetime.now(UTC)
    if change.kind != "rolled_back" or change.version == row.version or change.release is None:
        raise RuntimeError(f"the rollback came to {change.kind} of version {change.version}")
    since = change.release.since
    waive(stores, stores.registry.get(MODEL_NAME, row.version), "rejected", BY, "measured")
    promoted(stores, row.version, number, progress)
    return Took((since - began).total_seconds(), (ended - since).total_seconds())


class Load:
    """Cameras that query the front without a pause, in a thread of their own, and never ask twice."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._ask()), name="load")
        self.answered = self.failed = 0

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    async def _ask(self) -> None:
        generator = np.random.default_rng(0)
        picture = generator.integers(0, 255, (360, 640, 3), np.uint8)
        async with DetectorClient(self._settings, deadline_s=10.0, is_patient=False) as client:

            async def work(camera: int) -> None:
                while not self._is_over.is_set():
                    # No two alike: a cached answer would say nothing of the version.
                    asked = picture.copy()
                    asked[0] = generator.integers(0, 255, asked[0].shape, np.uint8)
                    try:
                        await client.detect(asked, f"camera-{camera}")
                    except ItsError:
                        self.failed += 1
                    else:
                        self.answered += 1

            await asyncio.gather(*(work(camera) for camera in range(IN_FLIGHT)))


if __name__ == "__main__":
    raise SystemExit(run_alone(figures))
