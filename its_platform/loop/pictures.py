"""Pictures for a play's report: one frame as two versions see it, scores with their intervals, drift by window.

Enters: frames and figures. Leaves: addresses that hold a PNG, for a page that asks for nothing from outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from its_platform.charts import in_page, png_of
from its_platform.detections import Detections

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from its_platform.release import Release
    from its_platform.serving.client import DetectorClient
    from its_platform.stores import Stores

SHOWN_CONFIDENCE = 0.25
GOOD, BAD, INK, FIRST, SECOND = "#1a7f4b", "#b3382c", "#1c2430", "#9aa6b2", "#2458a6"


async def seen_by_versions(
    stores: Stores, client: DetectorClient, image: npt.NDArray[np.uint8], releases: Sequence[Release], title: str
) -> list[dict[str, str]]:
    """An RGB picture with the boxes of each version drawn in, as `png` and `caption`.

    Triton keeps the last good version loaded beside the served one; both are asked past the front, which routes to
    the served one alone.
    """
    import cv2

    from its_platform.frames.pictures import draw_boxes
    from its_platform.model.letterbox import letterbox, to_picture
    from its_platform.serving.repository import route_of

    height, width = image.shape[:2]
    shown: list[dict[str, str]] = []
    for release in releases:
        route = route_of(stores.registry.get(release.model_name, release.version))
        square, fit = letterbox(image, route.image_size)
        rows = await client.infer_detector(route.model, route.version, square)
        found = Detections.from_rows(rows[0]).above(SHOWN_CONFIDENCE)
        boxes = [
            (float(x1), float(y1), float(x2), float(y2), f"{route.classes[c]} {p:.2f}")
            for (x1, y1, x2, y2), c, p in zip(
                to_picture(found.boxes, fit, height, width), found.class_id, found.confidence, strict=True
            )
        ]
        _, png = cv2.imencode(".png", cv2.cvtColor(draw_boxes(image, boxes), cv2.COLOR_RGB2BGR))
        caption = f"{title}, version {route.version}: {len(boxes)} objects"
        shown.append({"png": in_page(png.tobytes()), "caption": caption})
    return shown


def drift_chart(windows: Sequence[Mapping[str, Any]]) -> str:
    """A bar a window (`window`, `model`, `score`, `threshold`), with its threshold across."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    names = [f"{w['window']}\nversion {w['model']}" for w in windows]
    colours = [BAD if w["score"] > w["threshold"] else GOOD for w in windows]
    axes.bar(names, [w["score"] for w in windows], color=colours, width=0.55)
    for place, window in enumerate(windows):
        axes.hlines(window["threshold"], place - 0.4, place + 0.4, color=INK, linestyles="dashed")
    axes.set_ylabel("drift score")
    axes.spines[["top", "right"]].set_visible(False)
    return in_page(png_of(figure, dpi=130))


def score_chart(scores: Sequence[Mapping[str, Any]], what: str) -> str:
    """AP50 by camera for each version, with 95 % intervals; `what` chooses among the rows of `summary.scores_of`."""
    from matplotlib.figure import Figure

    rows = [row for row in scores if row["what"] == what]
    cameras = list(dict.fromkeys(row["camera"] for row in rows))
    versions = sorted({row["version"] for row in rows})
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(versions)
    for place, version in enumerate(versions):
        own = {row["camera"]: row for row in rows if row["version"] == version}
        at = [x + (place - (len(versions) - 1) / 2) * width for x in range(len(cameras))]
        values = [own[camera]["ap50"] for camera in cameras]
        below = [max(0.0, own[camera]["ap50"] - own[camera]["low"]) for camera in cameras]
        above = [max(0.0, own[camera]["high"] - own[camera]["ap50"]) for camera in cameras]
        colour = FIRST if place == 0 else SECOND
        axes.bar(at, values, width * 0.92, yerr=[below, above], capsize=3, color=colour, label=f"version {version}")
    axes.set_xticks(range(len(cameras)), cameras)
    axes.set_ylim(0, 1)
    axes.set_ylabel(f"AP50, {what}")
    axes.legend(frameon=False, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    return in_page(png_of(figure, dpi=130))
