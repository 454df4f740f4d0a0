"""Pictures for people: boxes drawn on frames, and contact sheets of several.

Enters: RGB pictures, boxes, captions. Leaves: RGB pictures or PNG bytes, for metadata, reports and the terminal.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from its_platform.errors import BadInput
from its_platform.frames.images import Image

if TYPE_CHECKING:
    import pandas as pd

    from its_platform.stores import Stores

LabelledBox = tuple[float, float, float, float, str]

BACKGROUND = (24, 26, 30)
CAPTION_HEIGHT = 20
GAP = 6
# Bright and far apart in hue, so that neighbours differ on asphalt by day and by night.
COLOURS = (
    (64, 196, 255),
    (255, 196, 0),
    (122, 230, 110),
    (255, 110, 180),
    (186, 140, 255),
    (255, 130, 60),
    (90, 240, 210),
    (240, 240, 110),
)


def colour_of(label: str) -> tuple[int, int, int]:
    """The RGB colour of a class: the same in each picture, whatever else is in it. The first word decides."""
    name = label.split(" ")[0]
    return COLOURS[zlib.crc32(name.encode()) % len(COLOURS)]


def draw_boxes(image: Image, boxes: Sequence[LabelledBox], thickness: int | None = None) -> Image:
    """A copy of an RGB picture with each (x1, y1, x2, y2, label) drawn on it; x and y in its pixels."""
    drawn = np.ascontiguousarray(image).copy()
    height, width = drawn.shape[:2]
    line = thickness or max(1, round(max(height, width) / 640))
    scale = max(0.35, max(height, width) / 1600)
    for x1, y1, x2, y2, label in boxes:
        colour = colour_of(label)
        corner, opposite = (round(x1), round(y1)), (round(x2), round(y2))
        cv2.rectangle(drawn, corner, opposite, colour, line)
        if not label:
            continue
        (text_w, text_h), base = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        top = corner[1] - text_h - base - 1
        if top < 0:
            top = min(corner[1], max(0, height - text_h - base))
        left = min(max(0, corner[0]), max(0, width - text_w))
        cv2.rectangle(drawn, (left, top), (left + text_w + 2, top + text_h + base), colour, cv2.FILLED)
        at = (left + 1, top + text_h + base // 2)
        cv2.putText(drawn, label, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (16, 16, 16), 1, cv2.LINE_AA)
    return drawn


def contact_sheet(
    pictures: Sequence[tuple[Image, str, Sequence[LabelledBox]]], columns: int = 4, width: int = 320
) -> bytes:
    """PNG bytes of a grid of pictures with their captions and boxes, each `width` pixels wide.

    Boxes are in pixels of their own picture. No pictures at all give a sheet that says so.
    """
    if columns < 1 or width < 32:
        raise BadInput("A contact sheet has at least one column, of at least 32 pixels.")
    if not pictures:
        cell = np.full((CAPTION_HEIGHT * 3, width, 3), BACKGROUND, np.uint8)
        return _png(_written(cell, "no pictures", CAPTION_HEIGHT * 2 - 6))
    cells = [_cell(image, caption, boxes, width) for image, caption, boxes in pictures]
    columns = min(columns, len(cells))
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [max(cell.shape[0] for cell in row) for row in rows]
    sheet = np.full(
        (sum(heights) + GAP * (len(rows) + 1), width * columns + GAP * (columns + 1), 3), BACKGROUND, np.uint8
    )
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for number, cell in enumerate(row):
            left = GAP + number * (width + GAP)
            sheet[top : top + cell.shape[0], left : left + width] = cell
        top += height + GAP
    return _png(sheet)


def latest_frames_sheet(stores: Stores, cameras: Sequence[str], most: int = 12) -> bytes | None:
    """A sheet with the latest frame of each camera, at most `most` of them; None where there is no frame yet."""
    from its_platform.frames.erasure import without_erased
    from its_platform.frames.index import FrameIndex
    from its_platform.frames.ingest import load_image

    columns = ["camera_id", "captured_at", "object_key", "light", "brightness"]
    rows, _ = without_erased(stores, FrameIndex(stores).query(cameras=list(cameras), columns=columns))
    latest = rows.sort_values("captured_at").groupby("camera_id").tail(1).head(most)
    cells: list[tuple[Image, str, Sequence[LabelledBox]]] = [
        (load_image(stores, row.object_key), f"{row.camera_id} {row.captured_at:%d %b %H:%M:%S} {row.light}", ())
        for row in latest.itertuples()
    ]
    return contact_sheet(cells, columns=3) if cells else None


def frames_sheet(
    stores: Stores, frames: pd.DataFrame, count: int = 12, boxes: Mapping[str, Sequence[LabelledBox]] | None = None
) -> tuple[bytes, int]:
    """A sheet of `count` of these frames, spread evenly over each camera's footage, and how many it holds.

    frames: rows of the index. boxes: what is drawn on a frame, by its hash, in pixels of the stored frame.
    """
    from its_platform.frames.erasure import without_erased
    from its_platform.frames.ingest import load_image

    shown = spread_over_cameras(without_erased(stores, frames)[0], count)
    cells: list[tuple[Image, str, Sequence[LabelledBox]]] = [
        (
            load_image(stores, row.object_key),
            f"{row.camera_id} {_moment(row)} {row.light}",
            (boxes or {}).get(str(row.frame_hash), ()),
        )
        for row in shown.itertuples()
    ]
    return contact_sheet(cells), len(cells)


def spread_over_cameras(frames: pd.DataFrame, count: int) -> pd.DataFrame:
    """At most `count` rows, by camera and time: each camera's share, evenly from its first frame to its last.

    What a camera with few frames leaves over goes to the others.
    """
    ordered = frames.sort_values(["camera_id", "captured_at"])
    groups = sorted((group for _, group in ordered.groupby("camera_id")), key=len)
    picked, left = [], count
    for number, group in enumerate(groups):
        share = min(len(group), left // (len(groups) - number))
        places = np.linspace(0, len(group) - 1, share).round().astype(int)
        picked.append(group.iloc[places])
        left -= share
    import pandas

    return pandas.concat(picked).sort_values(["camera_id", "captured_at"]) if picked else ordered


def _moment(row: Any) -> str:
    import pandas

    return f"#{row.sequence}" if not pandas.isna(row.sequence) else f"{row.captured_at:%d %b %H:%M:%S}"


def _cell(image: Image, caption: str, boxes: Sequence[LabelledBox], width: int) -> Image:
    scale = width / image.shape[1]
    size = (width, max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    shrunk = [(x1 * scale, y1 * scale, x2 * scale, y2 * scale, label) for x1, y1, x2, y2, label in boxes]
    cell = np.full((size[1] + CAPTION_HEIGHT, width, 3), BACKGROUND, np.uint8)
    cell[: size[1]] = draw_boxes(np.asarray(small, np.uint8), shrunk, thickness=1)
    return _written(cell, caption, size[1] + CAPTION_HEIGHT - 6)


def _written(cell: Image, caption: str, baseline: int) -> Image:
    # OpenCV's fonts know ASCII alone.
    text = caption.encode("ascii", "replace").decode()
    fitting = max(4, int(cell.shape[1] / 7.2))
    text = text if len(text) <= fitting else text[: fitting - 2] + ".."
    cv2.putText(cell, text, (4, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (235, 235, 235), 1, cv2.LINE_AA)
    return cell


def _png(sheet: Image) -> bytes:
    done, data = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    if not done:
        raise BadInput("The contact sheet could not be encoded.")
    return data.tobytes()
