"""Frames without a source: a small JPEG a frame, indexed directly, for tests of what comes after ingest."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from PIL import Image

from its_platform.frames.index import FrameIndex, FrameRow
from its_platform.frames.ingest import object_key
from its_platform.labels import Box, FrameLabels
from its_platform.labels.store import add_labels
from its_platform.stores import Stores
from its_platform.stores.keys import Owner

START = datetime(2026, 5, 1, 8, tzinfo=UTC)
WIDTH, HEIGHT = 64, 48
CLASSES = ("car", "truck")


def add_frames(
    stores: Stores,
    camera_id: str,
    seconds: Iterable[float] = (),
    numbers: Iterable[int] = (),
    light: str = "day",
    weather: str = "clear",
    start: datetime = START,
) -> list[str]:
    """Frames of a camera at seconds after `start`, or numbered; gives their hashes in order."""
    rows = []
    moments = [(start + timedelta(seconds=second), None) for second in seconds]
    moments += [(datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=n), n) for n in numbers]
    for captured_at, sequence in moments:
        data = _jpeg(f"{camera_id}{captured_at}{sequence}")
        frame_hash = hashlib.sha256(data).hexdigest()
        owner = Owner.of(camera_id, captured_at)
        key = object_key(owner, frame_hash)
        stores.objects.put(key, data, owner)
        figures: dict[str, Any] = dict.fromkeys(
            ("brightness", "contrast", "sharpness", "noise", "overexposed", "underexposed"), 0.0
        )
        rows.append(
            FrameRow(
                camera_id=camera_id,
                captured_at=captured_at,
                frame_hash=frame_hash,
                object_key=key,
                width=WIDTH,
                height=HEIGHT,
                sequence=sequence,
                source=f"/footage/{camera_id}/{camera_id}_{len(rows)}.jpg",
                light=light,
                weather=weather,
                is_frozen=False,
                ingested_at=START,
                **figures,
            )
        )
    FrameIndex(stores).add(rows)
    return [row.frame_hash for row in rows]


def label(
    stores: Stores,
    hashes: Sequence[str],
    origin: str = "human",
    review: str = "reviewed",
    classes: tuple[str, ...] = CLASSES,
    x: float = 4,
) -> None:
    """Two boxes a frame, of the first and the last class."""
    made = []
    for frame_hash in hashes:
        boxes = tuple(
            Box(name, x + i, 5, x + i + 20, 25, origin, review)  # type: ignore[arg-type]
            for i, name in enumerate((classes[0], classes[-1]))
        )
        made.append(FrameLabels(frame_hash, boxes, classes, source="test", review=review))  # type: ignore[arg-type]
    result = add_labels(stores, made)
    assert result.refused == ()


def _jpeg(seed: str) -> bytes:
    noise = np.random.default_rng(list(seed.encode())).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    held = io.BytesIO()
    Image.fromarray(noise).save(held, "JPEG", quality=60)
    return held.getvalue()
