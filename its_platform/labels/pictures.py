"""Pictures of labels for people: frames with the boxes in force. PNG bytes leave."""

from __future__ import annotations

from collections.abc import Collection

from its_platform.labels.store import current_labels, frames_of
from its_platform.stores import Stores


def labelled_sheet(stores: Stores, frame_hashes: Collection[str], count: int = 12) -> bytes | None:
    """A sheet of some of these frames, in turns by camera; unlabelled ones are left out.

    None where not one of them has labels.
    """
    from its_platform.frames import load_image
    from its_platform.frames.erasure import without_erased
    from its_platform.frames.pictures import contact_sheet

    current = current_labels(stores, set(frame_hashes))
    columns = ["frame_hash", "camera_id", "captured_at", "light", "object_key"]
    rows, _ = without_erased(stores, frames_of(stores, set(current), columns))
    if rows.empty:
        return None
    rows = rows.drop_duplicates("frame_hash").sort_values("frame_hash")
    rows["turn"] = rows.groupby("camera_id").cumcount()
    cells = []
    for row in rows.sort_values(["turn", "camera_id"]).head(count).to_dict("records"):
        entry = current[row["frame_hash"]]
        boxes = [(*box.corners, box.class_name) for box in entry.boxes]
        caption = f"{row['camera_id']} {row['light']} {row['captured_at']:%H:%M:%S} {entry.review}"
        cells.append((load_image(stores, row["object_key"]), caption, boxes))
    return contact_sheet(cells)
