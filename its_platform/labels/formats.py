"""Label files in and out: YOLO text and COCO JSON.

A reader turns files and a table of frames (columns frame_hash, source, width, height) into labellings in pixels
and a list of what it could not read; a writer does the reverse, so that what was written reads back the same to
0.01 px. Neither touches the label store: values are judged there, so a reader passes on a box that cannot be, unless
its frame stays out already.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from its_platform.errors import BadInput
from its_platform.labels.files import (
    LARGEST_CLASS_LIST,
    LARGEST_COCO,
    LARGEST_LABELS,
    by_id,
    check_classes,
    check_target,
    checked_folder,
    class_list,
    read_text,
)
from its_platform.labels.labelling import Box, FrameLabels, Origin, Refusal, Review, box_faults
from its_platform.labels.masks import box_of
from its_platform.labels.matching import FrameKey, FrameLookup, Pictures, label_files, names_of, stem_of


@dataclass(frozen=True, slots=True)
class ReadLabels:
    """What was in the files, and what in them was no label."""

    labels: tuple[FrameLabels, ...]
    refused: tuple[Refusal, ...]


def yolo_classes(folder: Path) -> tuple[str, ...]:
    """Class names from the folder's own `data.yaml` or `classes.txt`, else the `data.yaml` above it.

    Raises `BadInput` without one.
    """
    checked_folder(folder)
    for place in (folder / "data.yaml", folder / "data.yml", folder / "classes.txt", folder.parent / "data.yaml"):
        if not place.is_file():
            continue
        if place.suffix == ".txt":
            lines = read_text(place, LARGEST_CLASS_LIST).splitlines()
            names = tuple(line.strip() for line in lines if line.strip())
        else:
            names = class_list(place)
        if names:
            return names
    raise BadInput(f"{folder} has no data.yaml with class names.", "Name the classes in order with --classes.")


def read_yolo(
    folder: Path,
    classes: Sequence[str],
    frames: pd.DataFrame,
    origin: Origin = "imported",
    review: Review = "reviewed",
    elsewhere: Collection[str] = (),
) -> ReadLabels:
    """Read every `labels/*.txt`, also `train/labels` and `valid/labels`; a picture without a file stays unlabelled.

    Lines are `class cx cy width height [confidence]` in shares of the picture; a polygon becomes its bounding
    box. `elsewhere`: hashes of stored frames other than `frames`; labels of their pictures are refused. Raises
    `BadInput` where the folder holds no label file at all.
    """
    checked_folder(folder)
    check_classes(classes)
    files = label_files(folder)
    if not files:
        raise BadInput(f"{folder} holds no YOLO label files.", "It needs labels/*.txt beside images/.")
    pictures = Pictures(folder.parent if folder.name == "labels" else folder)
    lookup = FrameLookup(frames, elsewhere)
    labels: list[FrameLabels] = []
    refused: list[Refusal] = []
    for path in files:
        key = lookup.find(path.stem, pictures.beside(path))
        if isinstance(key, str):
            refused.append(Refusal(path.name, None, key))
            continue
        try:
            text = read_text(path, LARGEST_LABELS, folder)
        except BadInput as error:
            refused.append(Refusal(path.name, None, error.message))
            continue
        boxes, faults = _yolo_boxes(path, text, tuple(classes), key, origin, review)
        entry = FrameLabels(key.frame_hash, tuple(boxes.values()), tuple(classes), source=path.name, review=review)
        if faults:
            refused.extend(_with_values(faults, path.name, boxes, entry, key))
        else:
            labels.append(entry)
    return ReadLabels(tuple(labels), tuple(refused))


def _yolo_boxes(
    path: Path, text: str, classes: tuple[str, ...], key: FrameKey, origin: Origin, review: Review
) -> tuple[dict[int, Box], list[Refusal]]:
    boxes: dict[int, Box] = {}
    faults: list[Refusal] = []
    lines = [line.split() for line in text.splitlines() if line.strip()]
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
    check_target(folder, is_folder=True)
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
    elsewhere: Collection[str] = (),
) -> ReadLabels:
    """Read a COCO detection file; each listed image is a labelling, without annotations an empty one.

    `images_in`: where its pictures lie, else the file's folder, or the one above where that is `annotations`.
    `elsewhere`: as `read_yolo` has it. Boxes are scaled where the file states another picture size than the stored
    frame's; a segmentation without a box (polygons, run lengths) gives its bounding box. Raises
    `BadInput` for a file that is not COCO, and where `images_in` is no folder.
    """
    if images_in is not None and not images_in.is_dir():
        raise BadInput(f"{images_in} is no folder.", "Name the one that holds the file's pictures.")
    coco = _coco_content(path)
    stated, classes = coco.files, coco.classes
    around = path.parent.parent if path.parent.name == "annotations" else path.parent
    pictures, lookup = Pictures(images_in or around), FrameLookup(frames, elsewhere)
    by_image: dict[Any, list[dict[str, Any]]] = {image: [] for image in stated}
    refused: list[Refusal] = []
    for annotation in coco.annotations:
        image_id = annotation.get("image_id")
        if image_id in by_image:
            by_image[image_id].append(annotation)
        else:
            refused.append(Refusal(f"image {image_id}", None, "an annotation names an image that is not listed"))
    labels: list[FrameLabels] = []
    for image in coco.images:
        name = stated[image["id"]]
        key = lookup.find(stem_of(name), pictures.named(name))
        if isinstance(key, str):
            refused.append(Refusal(name, None, key))
            continue
        boxes, faults = _coco_boxes(image, by_image[image["id"]], classes, key, origin, review)
        entry = FrameLabels(key.frame_hash, tuple(boxes.values()), coco.names, source=path.name, review=review)
        if faults:
            refused.extend(_with_values(faults, name, boxes, entry, key))
        else:
            labels.append(entry)
    return ReadLabels(tuple(labels), tuple(refused))


@dataclass(frozen=True, slots=True)
class _Coco:
    """A COCO file's entries; its file names and class names by id, and the class names in order of it."""

    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    files: dict[Any, str]
    classes: dict[Any, str]
    names: tuple[str, ...]


def _coco_content(path: Path) -> _Coco:
    """What is in a COCO file. Raises `BadInput`."""
    hint = "It needs images, annotations and categories."
    try:
        text = read_text(path, LARGEST_COCO)
    except BadInput as error:
        told = f"{path} {error.message}."
        if "UTF-8" in told:
            told = f"{path} is no COCO detection file: it is not text."
        raise BadInput(told, "Name a COCO JSON file; an archive has to be unpacked first.") from error
    try:
        content = json.loads(text)
        images, annotations, categories = (
            [dict(entry) for entry in content[name]] for name in ("images", "annotations", "categories")
        )
        files = by_id(images, "file_name", "image")
        classes = by_id(categories, "name", "category")
        names = tuple(classes[number] for number in sorted(classes))
        for annotation in annotations:
            hash((annotation.get("image_id"), annotation.get("category_id")))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        told = str(error).split("\n")[0][:80]
        raise BadInput(f"{path} is no COCO detection file ({told}).", hint) from error
    return _Coco(images, annotations, files, classes, names)


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
    name = str(image["file_name"])
    width_px, height_px = image.get("width") or key.width, image.get("height") or key.height
    if not all(isinstance(side, int | float) and 0 < side < math.inf for side in (width_px, height_px)):
        return boxes, [Refusal(name, None, "its width and height are not those of a picture")]
    across, down = key.width / width_px, key.height / height_px
    for number, annotation in enumerate(annotations):
        if annotation.get("category_id") not in classes:
            faults.append(Refusal(name, number, f"category {annotation.get('category_id')} is not listed"))
            continue
        if annotation.get("iscrowd"):
            faults.append(Refusal(name, number, "a crowd region is no single object"))
            continue
        try:
            x, y, width, height = box_of(annotation)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError):
            faults.append(Refusal(name, number, "bbox is not four numbers, and there is no segmentation to frame"))
            continue
        corners = (x * across, y * down, (x + width) * across, (y + height) * down)
        score = annotation.get("score", 1.0)
        if not isinstance(score, int | float) or not 0 <= score <= 1:
            faults.append(Refusal(name, number, "score is not a number from 0 to 1"))
            continue
        boxes[number] = Box(classes[annotation["category_id"]], *corners, origin, review, float(score))
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
    check_target(path, is_folder=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content), "utf-8")
    return len(entries)


def _sizes(frames: pd.DataFrame) -> dict[str, tuple[int, int]]:
    columns = ("frame_hash", "width", "height")
    return {str(h): (int(w), int(t)) for h, w, t in zip(*(frames[name] for name in columns), strict=True)}
