"""The reference of a served version: its own predictions on frames that it never learnt from.

Enters: a release. The held-out frames (validation, test and golden) of the version's dataset are played through
Triton's front like live pictures, with the purpose `reference`, so that the reference took the same path as what it is
compared with. Leaves: rows of the log of predictions. Comparing belongs in `drift`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from its_platform.dataset import load_manifest
from its_platform.errors import PermanentError, TransientError
from its_platform.frames import load_image
from its_platform.monitoring import predictions
from its_platform.monitoring.strata import MAXIMUM_CELL_ROWS
from its_platform.release.truth import Release
from its_platform.serving.client import DetectorClient
from its_platform.serving.replicas import addresses
from its_platform.stores import Stores
from its_platform.telemetry import Progress, no_progress

if TYPE_CHECKING:
    import pandas as pd

TASK = "reference"
PURPOSE = "reference"
CONCURRENCY = 4
# How long the front may take to write its last rows, beyond its own flush interval.
WRITTEN_WITHIN_S = 20.0
# Frames of a folder have no time but an order; a second apart, in the first days of the epoch, they keep it.
NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


class ReferenceIncomplete(TransientError):
    """The front answered, and yet its log lacks rows of the reference."""


class NoHeldOutFrames(PermanentError):
    """The dataset has nothing that the model did not learn from."""


@dataclass(frozen=True)
class HeldOut:
    """A frame to be played: where it lies and what it is logged under."""

    camera_id: str
    captured_at: datetime
    object_key: str


def record_reference(stores: Stores, release: Release, progress: Progress = no_progress) -> int:
    """Play what is missing of the version's held-out frames; the number of reference rows there are then.

    Doing it again plays nothing. Raises `ReferenceIncomplete` when the rows do not arrive, and what the server and
    the stores raise.
    """
    model = stores.registry.get(release.model_name, release.version)
    wanted = held_out(load_manifest(stores, model.dataset_version))
    if not wanted:
        raise NoHeldOutFrames(
            f"Dataset {model.dataset_version} has no held-out frames, so version {release.version} has no reference.",
            "Give validation and test a share of the split.",
        )
    with stores.database.lock("reference"):
        _let_settle(stores)
        missing = _missing(stores, wanted, release.version)
        if missing:
            asyncio.run(_play(stores, missing, release.version, progress))
            _wait_written(stores, missing, release.version)
    return len(wanted) - len(_missing(stores, wanted, release.version))


def has_reference(stores: Stores, version: int) -> bool:
    """Whether any reference row of a version was recorded."""
    return not predictions.query(stores, purpose=PURPOSE, version=version, columns=["at"]).empty


def held_out(manifest: pd.DataFrame, most: int = MAXIMUM_CELL_ROWS) -> list[HeldOut]:
    """Frames of every split but `train`, by camera and time; at most `most` of a camera, light and weather, evenly."""
    rows = manifest[manifest["split"] != "train"].drop_duplicates("frame_hash")
    found: list[HeldOut] = []
    for _, group in rows.groupby(["camera_id", "light", "weather"], sort=True):
        ordered = group.sort_values(["captured_at", "sequence", "frame_hash"])
        if len(ordered) > most:
            ordered = ordered.iloc[np.linspace(0, len(ordered) - 1, most).astype(int)]
        for number, row in enumerate(ordered.itertuples(index=False)):
            found.append(HeldOut(str(row.camera_id), _captured_at(row, number), str(row.object_key)))
    return sorted(found, key=lambda frame: (frame.camera_id, frame.captured_at))


def _captured_at(row: object, number: int) -> datetime:
    at, sequence = row.captured_at, row.sequence  # type: ignore[attr-defined]
    if at == at and at is not None:
        moment: datetime = at.to_pydatetime().astimezone(UTC)
        return moment
    return NO_TIME + timedelta(seconds=int(sequence) if sequence == sequence and sequence is not None else number)


async def _play(stores: Stores, frames: list[HeldOut], version: int, progress: Progress) -> None:
    """Send the frames through the front, a few at once; the first error ends it."""
    waiting: Iterator[HeldOut] = iter(frames)
    done = 0

    async def work(client: DetectorClient) -> None:
        nonlocal done
        for frame in waiting:
            image = await asyncio.to_thread(load_image, stores, frame.object_key)
            await client.detect(image, frame.camera_id, frame.captured_at, version=version, purpose=PURPOSE)
            done += 1
            progress(TASK, done, len(frames), frame.camera_id)

    progress(TASK, 0, len(frames))
    async with DetectorClient(stores.settings, endpoints=addresses(stores.settings)) as client:
        tasks = [asyncio.create_task(work(client)) for _ in range(CONCURRENCY)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()


def _let_settle(stores: Stores) -> None:
    """Collect, giving rows of an earlier try that the front still holds the time to arrive."""
    settings = stores.settings
    end = time.monotonic() + 2 * settings.serving.spool_flush_s
    while any(settings.spool.glob("*.jsonl.part")) and time.monotonic() < end:
        time.sleep(0.1)
    predictions.collect(stores)


def _wait_written(stores: Stores, frames: list[HeldOut], version: int) -> None:
    end = time.monotonic() + stores.settings.serving.spool_flush_s + WRITTEN_WITHIN_S
    while True:
        predictions.collect(stores)
        left = _missing(stores, frames, version)
        if not left:
            return
        if time.monotonic() > end:
            raise ReferenceIncomplete(
                f"{len(left)} of {len(frames)} reference rows of version {version} are not in the front's log.",
                "Look at lost.json in the spool; then try again, only the missing ones are played.",
            )
        time.sleep(0.25)


def _missing(stores: Stores, frames: list[HeldOut], version: int) -> list[HeldOut]:
    there = predictions.query(stores, purpose=PURPOSE, version=version, columns=["camera_id", "at"])
    known = {(row.camera_id, row.at.to_pydatetime()) for row in there.itertuples(index=False)}
    return [frame for frame in frames if (frame.camera_id, frame.captured_at) not in known]
