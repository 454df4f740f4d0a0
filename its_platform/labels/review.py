"""The reviewer of the simulated world: its own truth, stored as reviewed boxes of origin `simulated`.

Only frames of simulated cameras can be reviewed this way; people review real ones in a labelling tool and
import the result.
"""

from __future__ import annotations

from collections.abc import Sequence

from its_platform.cameras import list_cameras
from its_platform.errors import NotFound
from its_platform.frames.index import FrameIndex
from its_platform.labels.labelling import Box, FrameLabels, LabelResult, Refusal
from its_platform.labels.store import add_labels, current_labels, frames_of
from its_platform.simulation import truth_at
from its_platform.stores import Stores
from its_platform.telemetry import Progress, no_progress


def review_simulated(
    stores: Stores,
    frame_hashes: Sequence[str],
    classes: Sequence[str] | None = None,
    progress: Progress = no_progress,
) -> LabelResult:
    """Label frames of `sim://` cameras with the truth at their capture time; frames of real cameras are refused.

    `classes`: what is looked for, the settings' classes unless told.
    """
    wanted = tuple(classes or stores.settings.classes)
    sources = {camera.camera_id: str(camera.source) for camera in list_cameras(stores)}
    columns = ["frame_hash", "camera_id", "captured_at", "source"]
    rows = frames_of(stores, frame_hashes, columns).drop_duplicates("frame_hash")
    known = set(rows["frame_hash"])
    refused = [Refusal(h, None, "there is no such frame") for h in frame_hashes if h not in known]
    made: list[FrameLabels] = []
    for done, row in enumerate(rows.itertuples(index=False), 1):
        source = str(row.source) if str(row.source).startswith("sim://") else sources.get(row.camera_id, "")
        if not source.startswith("sim://"):
            refused.append(Refusal(row.frame_hash, None, f"camera {row.camera_id} is not simulated"))
            continue
        try:
            truth = truth_at(stores.settings, source, row.captured_at.to_pydatetime())
        except NotFound as error:
            refused.append(Refusal(row.frame_hash, None, error.message))
            continue
        boxes = tuple(
            Box(seen.class_name, seen.x1, seen.y1, seen.x2, seen.y2, "simulated", "reviewed")
            for seen in truth
            if seen.class_name in wanted
        )
        made.append(FrameLabels(row.frame_hash, boxes, wanted, source=source, review="reviewed"))
        if done % 20 == 0 or done == len(rows):
            progress("review", done, len(rows))
    return add_labels(stores, made).with_refusals(refused)


def unlabelled_frames(stores: Stores) -> list[str]:
    """Frames of simulated cameras that have no reviewed labels yet, oldest first."""
    simulated = [camera.camera_id for camera in list_cameras(stores) if camera.is_simulated]
    if not simulated:
        return []
    found = FrameIndex(stores).query(cameras=simulated, columns=["frame_hash", "captured_at"])
    hashes = list(dict.fromkeys(found.sort_values("captured_at")["frame_hash"]))
    reviewed = current_labels(stores, hashes, reviewed_only=True)
    return [frame_hash for frame_hash in hashes if frame_hash not in reviewed]
