"""Takes a camera's footage in: measured, made anonymous where its policy says so, stored once, and indexed.

Enters: a camera id. Leaves: JPEG objects named by content, and rows in the index. Objects are written before the row
that names them, rows in one commit a batch: whatever interrupts an ingest, the next one finds whole batches and goes
on without duplicates. A picture is dropped as a duplicate only against the last kept frame of the same camera, and
only when no part of it changed.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from its_platform.cameras import Camera, get_camera
from its_platform.errors import BadInput, NotFound
from its_platform.frames.erasure import Erased, told
from its_platform.frames.frame import Frame
from its_platform.frames.images import Image, content_hash, decode, encode
from its_platform.frames.index import FrameIndex, FrameRow
from its_platform.frames.quality import Signature, measure_with
from its_platform.frames.sources import available_until, expected_frames, is_live, read_frames
from its_platform.stores.keys import KeyDestroyed, Owner
from its_platform.stores.object_store import ObjectDamaged
from its_platform.telemetry import Progress, correlated, get_log, no_progress
from its_platform.tracing import span

if TYPE_CHECKING:
    from its_platform.stores import Stores

LOG = get_log(__name__)
BATCH_FRAMES = 200
# A live stream delivers slowly; its frames are not kept waiting for a full batch.
BATCH_SECONDS = 15.0

Anonymise = Callable[[Image], tuple[Image, int]]


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What one ingest did.

    added: rows that are new. known: frames that were in the index before. duplicates: dropped, as nothing in them had
    changed. erased: left out, as the key of their day was destroyed. rejected: pictures that could not be used, told in
    `warnings`. frozen: frames, kept or dropped, in which the picture stood still. hidden: faces and plates made
    unrecognisable. first, last: capture times of what is kept.
    """

    camera_id: str
    added: int
    duplicates: int
    rejected: int
    first: datetime | None
    last: datetime | None
    known: int = 0
    frozen: int = 0
    hidden: int = 0
    erased: int = 0
    warnings: tuple[str, ...] = ()


def object_key(owner: Owner, frame_hash: str) -> str:
    """Where a frame's JPEG lies in the object store.

    The same picture of two cameras or days is stored for each: one may be erased and the other not.
    """
    return f"frames/{owner}/{frame_hash}.jpg"


def load_jpeg(stores: Stores, key: str) -> bytes:
    """The JPEG bytes of a stored frame, by its `object_key` in the index.

    Raises `NotFound`, `ObjectDamaged` where they are not the frame that the key names, and `KeyDestroyed`.
    """
    data = stores.objects.get(key)
    if content_hash(data) != key.rpartition("/")[2].removesuffix(".jpg"):
        raise ObjectDamaged(
            f"The object {key} does not hold what its name says.", "Restore it from a copy of the object store."
        )
    return data


def load_image(stores: Stores, key: str) -> Image:
    """RGB uint8 `[H, W, 3]` of a stored frame. Raises what `load_jpeg` raises."""
    return decode(load_jpeg(stores, key), key)


def ingest(
    stores: Stores,
    camera_id: str,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Progress = no_progress,
) -> IngestResult:
    """Take in the camera's frames from `since` (included) to `until` (not); all there are without them.

    Safe to run again, after an interruption, and twice at once. Raises `NotFound`, `BadInput` (what was stored before
    stays), and `PermanentError` where the camera's privacy policy cannot be kept. A camera is a span, and what is said
    meanwhile carries its name.
    """
    with correlated(camera=camera_id), span("ingest") as note:
        result = _ingest(stores, get_camera(stores, camera_id), since, until, progress)
        note(added=result.added, duplicates=result.duplicates, rejected=result.rejected)
    return result


def _ingest(
    stores: Stores, camera: Camera, since: datetime | None, until: datetime | None, progress: Progress
) -> IngestResult:
    camera_id = camera.camera_id
    reach = _reach(camera, stores)
    problems: list[str] = []
    is_whole = since is None and until is None and reach is not None
    if is_whole and camera.address.kind == "sim" and (mark := _marked(stores, camera_id)) is not None:
        # Simulated time only goes on: what lies before the last whole ingest need not be rendered again.
        since = datetime.fromisoformat(mark)
    keeper = _Keeper(stores, camera, since)
    task, seen = f"ingest {camera_id}", 0
    total = expected_frames(camera, stores.settings) if is_whole else None
    try:
        for seen, frame in enumerate(read_frames(camera, stores.settings, since, until, problems), 1):
            keeper.take(frame)
            progress(task, seen, None if total is None else max(total, seen), f"{keeper.kept_now} new")
    except KeyboardInterrupt:
        if not is_live(camera):
            raise
        # The usual end of a stream that was asked for without one.
        problems.append("stopped by hand.")
    finally:
        # What was read before an error or an interruption is whole and stays.
        keeper.close()
    # How many there are is known only now; a bar whose total is never named counts its time on and on.
    progress(task, seen, seen, f"{keeper.kept_now} new")
    if camera.address.kind == "folder":
        keeper.tally.rejected += len(problems)
    if is_whole and reach is not None:
        _mark(stores, camera_id, reach, len(keeper.kept.times))
    return keeper.result(problems)


@dataclass(slots=True)
class _Tally:
    duplicates: int = 0
    rejected: int = 0
    known: int = 0
    frozen: int = 0
    hidden: int = 0
    erased: Erased = field(default_factory=Erased)


@dataclass(slots=True)
class _Kept:
    """The frames of a camera that the index holds, by time: where the one before a given moment is stored.

    contents: whether its time is known, and its hash.
    """

    times: list[datetime] = field(default_factory=list)
    object_keys: list[str] = field(default_factory=list)
    keys: set[tuple[datetime, str]] = field(default_factory=set)
    contents: set[tuple[bool, str]] = field(default_factory=set)

    def before(self, moment: datetime) -> str | None:
        place = bisect.bisect_left(self.times, moment)
        return self.object_keys[place - 1] if place else None

    def add(self, moment: datetime, frame_hash: str, object_key: str, is_timed: bool) -> None:
        place = bisect.bisect_right(self.times, moment)
        self.times.insert(place, moment)
        self.object_keys.insert(place, object_key)
        self.keys.add((moment, frame_hash))
        self.contents.add((is_timed, frame_hash))


class _Keeper:
    """Decides frame by frame what is kept, and writes it batch by batch."""

    def __init__(self, stores: Stores, camera: Camera, since: datetime | None) -> None:
        self.stores = stores
        self.camera = camera
        self.limits = stores.settings.frames
        self.index = FrameIndex(stores)
        self.anonymise = _anonymiser(stores, camera)
        self.kept = _Kept()
        import pandas as pd

        columns = ["captured_at", "frame_hash", "object_key", "sequence"]
        # Few cameras have so much footage that its keys do not fit into memory: 300 bytes a frame.
        frame = self.index.query([camera.camera_id], columns=columns)
        for moment, name, key, number in zip(*(frame[column] for column in columns), strict=True):
            self.kept.add(moment.to_pydatetime(), name, key, number is pd.NA)
        self.is_numbered_from_start = _is_numbered_from_start(stores, camera)
        self.erased = stores.objects.keys.destroyed()
        self.signatures: dict[str, Signature] = {}
        self.rows: list[FrameRow] = []
        self.tally = _Tally()
        self.added = 0
        self.kept_now = 0
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.flushed_at = time.monotonic()
        self.writers = ThreadPoolExecutor(4, thread_name_prefix="put")
        self.writes: list = []

    def take(self, frame: Frame) -> None:
        owner = Owner.of(self.camera.camera_id, frame.captured_at)
        if owner in self.erased:
            self.tally.erased[owner] += 1
            return
        image, data, hidden = self._prepared(frame)
        name = content_hash(data)
        is_numbered = not frame.is_timed or self.is_numbered_from_start
        if (frame.captured_at, name) in self.kept.keys or (
            is_numbered and (frame.is_timed, name) in self.kept.contents
        ):
            # Known from an earlier ingest. Its signature is not needed before a new frame comes.
            self.tally.known += 1
            return
        before = self.kept.before(frame.captured_at)
        quality, own = measure_with(image, self._signature(before))
        is_frozen = quality.difference is not None and quality.difference < self.limits.frozen_difference
        self.tally.frozen += is_frozen
        if quality.changed_share is not None and quality.changed_share < self.limits.duplicate_changed_share:
            self.tally.duplicates += 1
            return
        self.tally.hidden += hidden
        key = object_key(owner, name)
        self.writes.append(self.writers.submit(copy_context().run, self.stores.objects.put, key, data, owner))
        self.rows.append(
            FrameRow(
                camera_id=self.camera.camera_id,
                captured_at=frame.captured_at,
                frame_hash=name,
                object_key=key,
                width=image.shape[1],
                height=image.shape[0],
                sequence=frame.sequence,
                source=frame.source,
                light=quality.light,
                weather=frame.weather,
                brightness=quality.brightness,
                contrast=quality.contrast,
                sharpness=quality.sharpness,
                noise=quality.noise,
                overexposed=quality.overexposed,
                underexposed=quality.underexposed,
                is_frozen=is_frozen,
                ingested_at=datetime.now(UTC),
            )
        )
        self.kept.add(frame.captured_at, name, key, frame.is_timed)
        self.kept_now += 1
        self.signatures = {key: own}
        self.first = min(self.first or frame.captured_at, frame.captured_at)
        self.last = max(self.last or frame.captured_at, frame.captured_at)
        if len(self.rows) >= BATCH_FRAMES or time.monotonic() - self.flushed_at > BATCH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Wait for the objects, then commit their rows."""
        rows, self.rows = self.rows, []
        writes, self.writes = self.writes, []
        for write in writes:
            write.result()
        added = self.index.add(rows)
        self.added += added
        self.flushed_at = time.monotonic()
        if not rows:
            return
        LOG.info("frames are stored", frames=added, until=str(self.last))
        if is_live(self.camera) and self.last is not None:
            # A stream has no end at which it would be marked.
            _mark(self.stores, self.camera.camera_id, self.last.isoformat(), len(self.kept.times))

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self.writers.shutdown(wait=True)

    def result(self, problems: list[str]) -> IngestResult:
        tally = self.tally
        if tally.erased:
            problems = [*problems, f"frames of a time that was erased are left out: {told(tally.erased)}."]
        return IngestResult(
            camera_id=self.camera.camera_id,
            added=self.added,
            duplicates=tally.duplicates,
            rejected=tally.rejected,
            first=self.first,
            last=self.last,
            known=tally.known,
            frozen=tally.frozen,
            hidden=tally.hidden,
            erased=tally.erased.total(),
            warnings=tuple(problems),
        )

    def _prepared(self, frame: Frame) -> tuple[Image, bytes, int]:
        """The picture and bytes that are stored; delivered bytes stay untouched unless something had to be hidden."""
        image, data = frame.image, frame.jpeg
        hidden = 0
        if self.anonymise is not None:
            image, hidden = self.anonymise(image)
        if data is None or self.anonymise is not None:
            # Encoded anew even where nothing was found: delivered bytes may carry a preview or a position in EXIF.
            data = encode(image, self.limits.jpeg_quality)
            image = decode(data)
        return image, data, hidden

    def _signature(self, key: str | None) -> Signature | None:
        if key is None:
            return None
        if key not in self.signatures:
            try:
                stored = load_image(self.stores, key)
            except (NotFound, BadInput, ObjectDamaged, KeyDestroyed):
                # The check of frames tells of a lost object; here it only means that nothing can be compared.
                return None
            self.signatures = {key: measure_with(stored, None)[1]}
        return self.signatures[key]


def _is_numbered_from_start(stores: Stores, camera: Camera) -> bool:
    """Whether its pictures' times come from their places in a folder that this very address was taken in from before.

    One that comes or goes moves all behind it in time, which makes no other frames of them. An address that was
    replaced has no mark: its pictures get the times that it gives.
    """
    address = camera.address
    is_placed = address.kind == "folder" and "start" in address.options and "time" not in address.options
    return is_placed and _marked(stores, camera.camera_id) is not None


def _anonymiser(stores: Stores, camera: Camera) -> Anonymise | None:
    if camera.privacy == "none":
        return None
    from its_platform.frames.anonymise import open_anonymiser

    return open_anonymiser(stores.settings.frames)


def _reach(camera: Camera, stores: Stores) -> str | None:
    reach = available_until(camera, stores.settings)
    return reach.isoformat() if isinstance(reach, datetime) else reach


def _mark(stores: Stores, camera_id: str, reach: str, frames: int) -> None:
    """Remember how far this camera is taken in, for whoever asks whether there is new footage.

    frames: how many of it there are by then.
    """
    from sqlalchemy.dialects.postgresql import insert

    from its_platform.stores.schema import IngestMark

    now = datetime.now(UTC)
    detail = {"frames": frames}
    statement = insert(IngestMark).values(camera_id=camera_id, mark=reach, at=now, detail=detail)
    with stores.database.session() as session:
        session.execute(
            statement.on_conflict_do_update(
                index_elements=[IngestMark.camera_id],
                set_={"mark": reach, "at": now, "detail": detail},
                where=IngestMark.mark != reach,
            )
        )


def has_new_footage(stores: Stores, camera_id: str) -> bool:
    """Whether the camera's footage reaches further than its last whole ingest. Raises `NotFound`."""
    reach = _reach(get_camera(stores, camera_id), stores)
    return reach is not None and _marked(stores, camera_id) != reach


def _marked(stores: Stores, camera_id: str) -> str | None:
    """How far the camera reached when it was last taken in as a whole."""
    from its_platform.stores.schema import IngestMark

    with stores.database.session() as session:
        row = session.get(IngestMark, camera_id)
        return None if row is None else row.mark
