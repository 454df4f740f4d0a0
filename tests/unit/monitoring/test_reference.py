"""The reference is recorded through the front, and only once."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest

from its_platform.monitoring import predictions, reference
from its_platform.stores import Stores

START = datetime(2026, 5, 1, tzinfo=UTC)
RELEASE: Any = SimpleNamespace(model_name="traffic-detector", version=3)


class FrontWithoutTriton:
    """Logs what it is asked, as the front does; `forgets` pictures are answered and never logged."""

    asked: list[tuple[str, datetime, int, str]] = []
    forgets = 0

    def __init__(self, settings: Any, endpoints: Sequence[str]) -> None:
        self.settings = settings

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def detect(self, image: Any, camera_id: str, captured_at: datetime, version: int, purpose: str) -> None:
        assert image.shape == (4, 4, 3)
        self.asked.append((camera_id, captured_at, version, purpose))
        if len(self.asked) <= self.forgets:
            return
        row = {"at": captured_at.isoformat(), "camera_id": camera_id, "model": "d", "version": version}
        self.settings.spool.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**row, "purpose": purpose, "n": 0}) + "\n"
        (self.settings.spool / f"predictions-{uuid.uuid4().hex}.jsonl").write_text(text)


@pytest.fixture
def front(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> type[FrontWithoutTriton]:
    splits = ["train", "train", "val", "test", "golden"]
    rows = pd.DataFrame(
        {
            "split": splits,
            "frame_hash": [f"h{i}" for i in range(5)],
            "object_key": [f"o{i}" for i in range(5)],
            "camera_id": "junction",
            "light": "day",
            "weather": "clear",
            "captured_at": pd.to_datetime([START + timedelta(seconds=i) for i in range(5)], utc=True),
            "sequence": pd.array([None] * 5, dtype="Int64"),
        }
    )
    FrontWithoutTriton.asked, FrontWithoutTriton.forgets = [], 0
    monkeypatch.setattr(reference, "DetectorClient", FrontWithoutTriton)
    monkeypatch.setattr(reference, "load_manifest", lambda stores, name: rows)
    monkeypatch.setattr(reference, "load_image", lambda stores, key: np.zeros((4, 4, 3), np.uint8))
    monkeypatch.setattr(
        type(stores.registry), "get", lambda self, name, version: SimpleNamespace(dataset_version="v1", version=version)
    )
    return FrontWithoutTriton


def test_the_held_out_frames_are_played_once_under_their_own_times(
    stores: Stores, front: type[FrontWithoutTriton]
) -> None:
    assert reference.record_reference(stores, RELEASE) == 3
    assert sorted(front.asked) == [("junction", START + timedelta(seconds=i), 3, "reference") for i in (2, 3, 4)]
    assert reference.record_reference(stores, RELEASE) == 3
    assert len(front.asked) == 3
    assert len(predictions.query(stores, purpose="reference", version=3)) == 3


def test_rows_that_the_front_did_not_log_are_told_and_played_again(
    stores: Stores, front: type[FrontWithoutTriton], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "WRITTEN_WITHIN_S", 0.0)
    front.forgets = 1
    with pytest.raises(reference.ReferenceIncomplete, match="1 of 3 reference rows"):
        reference.record_reference(stores, RELEASE)
    assert reference.record_reference(stores, RELEASE) == 3
    assert len(front.asked) == 4
