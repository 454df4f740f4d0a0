"""Label files in and out: YOLO text and COCO JSON.

A reader turns files and a table of frames (columns frame_hash, source, width, height) into labellings in pixels
and a list of what it could not read; a writer does the reverse, so that what was written reads back the same to
0.01 px. Neither touches the label store: values are judged there, so a reader passes on a box that cannot be, unless
its frame stays out already.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from its_platform.errors import BadInput
from its_platform.labels.labelling import Box, FrameLabels, Origin, Refusal, Review, box_faults
from its_platform.labels.masks import box_of
from its_platform.labels.matching import FrameKey, FrameLookup, Pictures, label_files, names_of, stem_of


@dataclass(frozen=True, slots=True)
class ReadLabels:
    """What was in the files, and what in them was no label."""

    labels: tuple[FrameLabels, ...]
    refused: tuple[Refusal, ...]


def yolo_classes(folder: Path) -> tuple[str, ...]:
    """Class names from the nearest `data.yaml` in the folder or its parent. Raises `BadInput` without one."""
    for place in (folder / "data.yaml", folder / "data.yml", folder.parent / "data.yaml", folder / "classes.txt"):
        if not place.is_file():
            continue
        if place.suffix == ".txt":
            return tuple(line.strip() for line in place.read_text("utf-8").splitlines() if line.strip())
        names = (yaml.safe_load(place.read_text("utf-8")) or {}).get("names")
        if isinstance(names, Mapping):
            return tuple(str(names[key]) for key in sorted(names))
        if isinstance(names, list):
            return tuple(map(str, names))
    raise BadInput(f"{folder} has no data.yaml with class names.", "Name the classes in order with --classes.")


def read_yolo(
    folder: Path,
    classes: Sequence[str],
    frames: pd.DataFrame,
    origin: Origin = "imported",
    review: Review = "reviewed",
) -> ReadLabels:
    """Read every `labels/*.txt`, also `train/labels` and `valid/labels`; a picture without a file stays unlabelled.

    Lines are `class cx cy width height [confidence]` in shares of the picture; a polygon becomes its bounding
    box. Raises `BadInput` where the folder holds no label file at all.
    """
    files = label_files(folder)
    if not files:
        raise BadInput(f"{folder} holds no YOLO label files.", "It needs labels/*.txt beside images/.")
    pictures, lookup = Pictures(folder.parent if folder.name == "labels" else folder), FrameLookup(frames)
    labels: list[FrameLabels] = []
    refused: list[Refusal] = []
    for path in files:
        key = lookup.find(path.stem, pictures.beside(path))
        if isinstance(key, str):
            refused.append(Refusal(path.name, None, key))
            continue
        boxes, faults = _yolo_boxes(path, tuple(classes), key, origin, review)
        entry = FrameLabels(key.frame_hash, tuple(boxes.values()), tuple(classes), source=path.name, review=review)
        if faults:
            refused.extend(_with_values(faults, path.name, boxes, entry, key))
        else:
            labels.append(entry)
    return ReadLabels(tuple(labels), tuple(refused))


def _yolo_boxes(
    path: Path, classes: tuple[str, ...], key: FrameKey, origin: Origin, review: Review
) -> tuple[dict[int, Box], list[Refusal]]:
    boxes: dict[int, Box] = {}
    faults: list[Refusal] = []
    lines = [line.split() for line in path.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    for number, parts in enumerate(lines):
        try:
            values = [float(part) for part in parts]
        except ValueError:
            values = []
        is_polygon = len(values) >= 7 and len(values) % 2 == 1
        if len(values) not in (5, 6) and not is_polygon:
            faults.append(Refusal(path.name, number, f"{' '.join(parts)[:60]!r} is no YOLO line"))
            continue
        if not values[0].is_integer() or not 0 <= values[0] < len(classes):
            faults.append(Refusal(path.name, number, f"class {parts[0]} is not among the {len(classes)} classes"))
            continue
        if not all(math.isfinite(value) for value in values):
            faults.append(Refusal(path.name, number, "a coordinate is not a finite number"))
            continue
        if is_polygon:
            x1, x2, y1, y2 = min(values[1::2]), max(values[1::2]), min(values[2::2]), max(values[2::2])
        else:
            x, y, width, height = values[1:5]
            x1, x2, y1, y2 = x - width / 2, x + width / 2, y - height / 2, y + height / 2
        corners = (x1 * key.width, y1 * key.height, x2 * key.width, y2 * key.height)
        confidence = values[5] if len(values) == 6 else 1.0
        boxes[number] = Box(classes[int(values[0])], *corners, origin, review, confidence)
    return boxes, faults


def _with_values(
    faults: Sequence[Refusal], name: str, boxes: Mapping[int, Box], entry: FrameLabels, key: FrameKey
) -> list[Refusal]:
    """What could not be read together with what the store would refuse: the store will not see this frame."""
    numbers = list(boxes)
    judged = [
        Refusal(name, numbers[fault.box], fault.reason)
        for fault in box_faults(entry, key.width, key.height)
        if fault.box is not None
    ]
    return sorted([*faults, *judged], key=lambda refusal: refusal.box or 0)


def yolo_lines(boxes: Iterable[Any], classes: Sequence[str], width: int, height: int) -> str:
    """Boxes (with class_name, x1, y1, x2, y2 in pixels) as YOLO text; classes that are not asked for are left out."""
    number = {name: index for index, name in enumerate(classes)}
    lines = []
    for box in boxes:
        if box.class_name not in number:
            continue
        x, y = (box.x1 + box.x2) / 2 / width, (box.y1 + box.y2) / 2 / height
        w, h = (box.x2 - box.x1) / width, (box.y2 - box.y1) / height
        lines.append(f"{number[box.class_name]} {x:.8f} {y:.8f} {w:.8f} {h:.8f}")
    return "".join(line + "\n" for line in lines)


def write_yolo(folder: Path, labels: Iterable[FrameLabels], classes: Sequence[str], frames: pd.DataFrame) -> int:
    """Write `labels/<stem>.txt` for each labelling and a `data.yaml`; returns the number of files."""
    entries = list(labels)
    sizes, names = _sizes(frames), names_of(frames, [entry.frame_hash for entry in entries])
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for entry in entries:
        text = yolo_lines(entry.boxes, classes, *sizes[entry.frame_hash])
        (folder / "labels" / f"{names[entry.frame_hash]}.txt").write_text(text, "utf-8")
    described = {"names": list(classes), "nc": len(classes)}
    (folder / "data.yaml").write_text(yaml.safe_dump(described, sort_keys=False), "utf-8")
    return len(entries)


def read_coco(
    path: Path,
    frames: pd.DataFrame,
    origin: Origin = "imported",
    review: Review = "reviewed",
    images_in: Path | None = None,
) -> ReadLabels:
    """Read a COCO detection file; each listed image is a labelling, without annotations an empty one.

    `images_in`: where its pictures lie, else the file's folder, or the one above where that is `annotations`. Boxes are
    scaled where the file states another picture size than the stored frame's; a segmentation without a box (polygons,
    run lengths) gives its bounding box. Raises `BadInput` for a file that is not COCO.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        images, annotations = content["images"], content["annotations"]
        classes = {category["id"]: str(category["name"]) for category in content["categories"]}
        stated = {image["id"]: str(image["file_name"]) for image in images}
    except FileNotFoundError as error:
        raise BadInput(f"{path} does not exist.", "Name a COCO JSON file.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} is no COCO detection file ({error}).", "It needs images, annotations and categories."
        ) from error
    around = path.parent.parent if path.parent.name == "annotations" else path.parent
    pictures, lookup = Pictures(images_in or around), FrameLookup(frames)
    by_image: dict[Any, list[dict[str, Any]]] = {image: [] for image in stated}
    refused: list[Refusal] = []
    for annotation in annotations:
        image_id = annotation.get("image_id")
        if image_id in by_image:
            by_image[image_id].append(annotation)
        else:
            refused.append(Refusal(f"image {image_id}", None, "an annotation names an image that is not listed"))
    labels: list[FrameLabels] = []
    for image in images:
        name = stated[image["id"]]
        key = lookup.find(stem_of(name), pictures.named(name))
        if isinstance(key, str):
            refused.append(Refusal(name, None, key))
            continue
        boxes, faults = _coco_boxes(image, by_image[image["id"]], classes, key, origin, review)
        names = tuple(classes[number] for number in sorted(classes))
        entry = FrameLabels(key.frame_hash, tuple(boxes.values()), names, source=path.name, review=review)
        if faults:
            refused.extend(_with_values(faults, name, boxes, entry, key))
        else:
            labels.append(entry)
    return ReadLabels(tuple(labels), tuple(refused))


def _coco_boxes(
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    classes: Mapping[int, str],
    key: FrameKey,
    origin: Origin,
    review: Review,
) -> tuple[dict[int, Box], list[Refusal]]:
    boxes: dict[int, Box] = {}
    faults: list[Refusal] = []
    across = key.width / (image.get("width") or key.width)
    down = key.height / (image.get("height") or key.height)
    for number, annotation in enumerate(annotations):
        name = str(image["file_name"])
        if annotation.get("category_id") not in classes:
            faults.append(Refusal(name, number, f"category {annotation.get('category_id')} is not listed"))
            continue
        if annotation.get("iscrowd"):
            faults.append(Refusal(name, number, "a crowd region is no single object"))
            continue
        try:
            x, y, width, height = box_of(annotation)
        except (KeyError, TypeError, ValueError, IndexError):
            faults.append(Refusal(name, number, "bbox is not four numbers, and there is no segmentation to frame"))
            continue
        corners = (x * across, y * down, (x + width) * across, (y + height) * down)
        score = float(annotation.get("score", 1.0))
        boxes[number] = Box(classes[annotation["category_id"]], *corners, origin, review, score)
    return boxes, faults


def write_coco(path: Path, labels: Iterable[FrameLabels], classes: Sequence[str], frames: pd.DataFrame) -> int:
    """Write one COCO detection file with category ids from 1 in class order; returns the number of images."""
    entries = list(labels)
    sizes, names = _sizes(frames), names_of(frames, [entry.frame_hash for entry in entries])
    number = {name: index for index, name in enumerate(classes, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, entry in enumerate(entries, 1):
        width, height = sizes[entry.frame_hash]
        name = f"{names[entry.frame_hash]}.jpg"
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for box in entry.boxes:
            if box.class_name not in number:
                continue
            w, h = box.x2 - box.x1, box.y2 - box.y1
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": number[box.class_name],
                    "bbox": [round(value, 4) for value in (box.x1, box.y1, w, h)],
                    "area": round(w * h, 4),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": index, "name": name} for name, index in number.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content), "utf-8")
    return len(entries)


def _sizes(frames: pd.DataFrame) -> dict[str, tuple[int, int]]:
    columns = ("frame_hash", "width", "height")
    return {str(h): (int(w), int(t)) for h, w, t in zip(*(frames[name] for name in columns), strict=True)}
