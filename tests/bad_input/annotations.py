"""Bad labels: YOLO text, class lists, COCO files and targets of an export."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

from bad_input.case import Case, Place
from bad_input.footage import HEIGHT, WIDTH

YOLO = "its labels import yolo FOLDER"
COCO = "its labels import coco FILE"
EXPORT = "its labels export yolo FOLDER"
FIRST = "north_0"
"""The name of a picture that is stored."""
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def yolo(text: str | bytes, names: str | bytes = "names: [car, bus]\n") -> Callable[[Place], Sequence[str]]:
    """An import of one label file, of the picture `FIRST`."""

    def words(place: Place) -> Sequence[str]:
        (place.folder / "labels").mkdir()
        for path, data in ((place.folder / "labels" / f"{FIRST}.txt", text), (place.folder / "data.yaml", names)):
            path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return import_yolo(place)

    return words


def import_yolo(place: Place) -> Sequence[str]:
    return ["labels", "import", "yolo", str(place.folder), "--camera", "north"]


def coco(text: str | bytes | None = None, **changes: Any) -> Callable[[Place], Sequence[str]]:
    """An import of a COCO file: this text, or a sound one with changes."""
    content = {
        "images": [{"id": 7, "file_name": f"{FIRST}.jpg", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 3, "name": "car"}],
        "annotations": [annotation()],
    }

    def words(place: Place) -> Sequence[str]:
        path = place.folder / "labels.json"
        data = json.dumps({**content, **changes}) if text is None else text
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return ["labels", "import", "coco", str(path), "--camera", "north"]

    return words


def annotation(**changes: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": 7, "category_id": 3, "bbox": [2, 4, 20, 20], **changes}


def _as_archive(place: Place) -> Sequence[str]:
    packed = place.folder / "packed"
    packed.mkdir()
    (packed / f"{FIRST}.txt").write_text("0 .5 .5 .1 .1")
    made = shutil.make_archive(str(place.folder / "labels"), "zip", packed)
    return ["labels", "import", "yolo", made, "--camera", "north"]


def _zip_bomb(place: Place) -> Sequence[str]:
    path = place.folder / "labels.json"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.json", bytes(50_000_000))
    return ["labels", "import", "coco", str(path), "--camera", "north"]


def _link_out(place: Place) -> Sequence[str]:
    words = yolo("0 .5 .5 .1 .1")(place)
    secret = place.folder.parent / f"{place.folder.name}-secret.txt"
    secret.write_text("root:secret")
    label = place.folder / "labels" / f"{FIRST}.txt"
    label.unlink()
    label.symlink_to(secret)
    return words


def _pipe(place: Place) -> Sequence[str]:
    words = yolo("")(place)
    label = place.folder / "labels" / f"{FIRST}.txt"
    label.unlink()
    os.mkfifo(label)
    return words


def _picture_is_a_pipe(place: Place) -> Sequence[str]:
    words = yolo("0 .5 .5 .1")(place)
    (place.folder / "images").mkdir()
    os.mkfifo(place.folder / "images" / f"{FIRST}.jpg")
    return words


def _sound_but_climbing(place: Place) -> Sequence[str]:
    """What is imported already, with a description whose paths lead elsewhere: nobody follows them."""
    shutil.copytree(place.footage / "labels", place.folder / "labels")
    (place.folder / "data.yaml").write_text("path: ../../../etc\ntrain: ../../../etc/passwd\nnames: [car, bus]\n")
    return import_yolo(place)


def _unnamed(place: Place) -> Sequence[str]:
    (place.folder / "labels").mkdir()
    (place.folder / "labels" / os.fsdecode(b"\xff\n.txt")).write_text("0 .5 .5 .1 .1")
    (place.folder / "data.yaml").write_text("names: [car]")
    return import_yolo(place)


def _no_labels(place: Place) -> Sequence[str]:
    (place.folder / "classes.txt").write_text("car\n")
    return import_yolo(place)


def _onto_a_file(place: Place) -> Sequence[str]:
    (place.folder / "taken").write_text("mine")
    return ["labels", "export", "yolo", str(place.folder / "taken")]


def _onto_a_folder(place: Place) -> Sequence[str]:
    (place.folder / "taken.json").mkdir()
    return ["labels", "export", "coco", str(place.folder / "taken.json")]


def _onto_other_labels(place: Place) -> Sequence[str]:
    (place.folder / "taken" / "labels").mkdir(parents=True)
    (place.folder / "taken" / "labels" / "mine.txt").write_text("0 .5 .5 .1 .1")
    return ["labels", "export", "yolo", str(place.folder / "taken")]


CASES = (
    Case("a box that is not a number", YOLO, yolo("0 nan .5 .1 .1"), (f"{FIRST}.txt", "finite")),
    Case("an infinite box", YOLO, yolo("0 .5 .5 inf .1"), (f"{FIRST}.txt", "finite")),
    Case("a negative box", YOLO, yolo("0 -.5 .5 .1 .1"), (FIRST, "outside the picture")),
    Case("a box beyond the border", YOLO, yolo("0 .5 1.5 .1 .1"), (FIRST, "outside the picture")),
    Case("pixels where shares are meant", YOLO, yolo("0 320 240 50 50"), (FIRST, "outside the picture")),
    Case("a line of four numbers", YOLO, yolo("0 .5 .5 .1"), (f"{FIRST}.txt", "is no YOLO line")),
    Case("a line of words", YOLO, yolo("car left top"), (f"{FIRST}.txt", "is no YOLO line")),
    Case("a class that is not listed", YOLO, yolo("7 .5 .5 .1 .1"), ("class 7 is not among",)),
    Case("a class of 1.5", YOLO, yolo("1.5 .5 .5 .1 .1"), ("class 1.5 is not among",)),
    Case("a box without area", YOLO, yolo("0 .5 .5 0 .1"), (FIRST, "thinner than 1 px")),
    Case("the same box twice", YOLO, yolo("0 .5 .5 .2 .2\n0 .5 .5 .2 .2"), (FIRST, "stands there twice")),
    Case("a confidence of 2", YOLO, yolo("0 .5 .5 .2 .2 2"), (FIRST, "confidence")),
    Case("a polygon that leaves the picture", YOLO, yolo("0 .1 .1 .5 .1 3 3"), (FIRST, "outside the picture")),
    Case("a label file of bytes", YOLO, yolo(bytes(range(128, 256))), (f"{FIRST}.txt", "is not text")),
    Case("a label file of 20 MB", YOLO, yolo(b"0 .5 .5 .1 .1\n" * 1_500_000), (f"{FIRST}.txt", "larger than")),
    Case("a label file that links out of the folder", YOLO, _link_out, (f"{FIRST}.txt", "leads out of the folder")),
    Case("a pipe in place of a label file", YOLO, _pipe, (f"{FIRST}.txt", "is not a file")),
    Case("a pipe in place of a picture", YOLO, _picture_is_a_pipe, (f"{FIRST}.txt", "is no YOLO line")),
    Case("a label file of no picture", YOLO, _unnamed, ("\\xff\\n.txt", "there is no such frame"), lines=2),
    Case("a folder without label files", YOLO, _no_labels, ("holds no YOLO label files", "labels/*.txt")),
    Case(
        "a folder that is not there",
        YOLO,
        lambda place: ["labels", "import", "yolo", str(place.folder / "absent"), "--camera", "north"],
        ("absent", "is not there"),
    ),
    Case("an archive in place of a folder", YOLO, _as_archive, ("labels.zip", "is a file", "unpack")),
    Case("a class list of nothing", YOLO, yolo("", ""), ("no data.yaml with class names", "--classes")),
    Case("a class list that is not YAML", YOLO, yolo("", "names: [car"), ("data.yaml", "is not YAML")),
    Case("a class list in bytes", YOLO, yolo("", b"names: [\xff\xfe]"), ("data.yaml", "is not text")),
    Case("a class list that runs Python", YOLO, yolo("", "names: !!python/object/apply:os.system [id]"), ("not YAML",)),
    Case("a class list that grows to a billion", YOLO, yolo("", BOMB + "names: *i\n"), ("data.yaml", "names")),
    Case("a class list nested 1500 deep", YOLO, yolo("", "names: " + "[" * 1500), ("data.yaml", "is not YAML")),
    Case("a class list that is a number", YOLO, yolo("", "names: 7"), ("data.yaml", "names")),
    Case("a list in place of a description", YOLO, yolo("", "- car\n- bus\n"), ("data.yaml", "names")),
    Case("class numbers with a gap", YOLO, yolo("", "names: {0: car, 2: bus}"), ("data.yaml", "0 to 1")),
    Case("a class named twice", YOLO, yolo("", "names: [car, car]"), ("'car'", "named twice")),
    Case("a description whose paths climb out", YOLO, _sound_but_climbing, ("unchanged",), 0),
    Case(
        "a rename without =", YOLO, lambda p: [*yolo("")(p), "--map", "car"], ("'car' is no class mapping", "old=new")
    ),
    Case(
        "COCO that is not there", COCO, lambda p: ["labels", "import", "coco", str(p.folder / "x")], ("does not exist",)
    ),
    Case("COCO that is a folder", COCO, lambda p: ["labels", "import", "coco", str(p.folder)], ("is a folder",)),
    Case("COCO that is not JSON", COCO, coco("images"), ("is no COCO detection file",)),
    Case("COCO of bytes", COCO, coco(b"\xff\xfe\x00"), ("is no COCO detection file",)),
    Case("COCO nested 100000 deep", COCO, coco('{"images": ' + "[" * 100_000), ("is no COCO detection file",)),
    Case("COCO that is a zip bomb", COCO, _zip_bomb, ("is no COCO detection file",)),
    Case("COCO without categories", COCO, coco('{"images": [], "annotations": []}'), ("is no COCO", "categories")),
    Case("COCO of results", COCO, coco(json.dumps([annotation()])), ("is no COCO", "images, annotations")),
    Case("images that are text", COCO, coco(images="abc"), ("is no COCO",)),
    Case("an annotation that is a number", COCO, coco(annotations=[5]), ("is no COCO",)),
    Case("an id that is a list", COCO, coco(annotations=[annotation(image_id=[7])]), ("is no COCO",)),
    Case("a category that is a list", COCO, coco(annotations=[annotation(category_id=[3])]), ("is no COCO",)),
    Case("an image listed twice", COCO, coco(images=[{"id": 7, "file_name": "a.jpg"}] * 2), ("image", "listed twice")),
    Case("a category listed twice", COCO, coco(categories=[{"id": 3, "name": "a"}] * 2), ("category", "listed twice")),
    Case(
        "a bbox of three numbers", COCO, coco(annotations=[annotation(bbox=[1, 2, 3])]), ("bbox is not four numbers",)
    ),
    Case("a bbox of words", COCO, coco(annotations=[annotation(bbox="1234x")]), ("bbox is not four numbers",)),
    Case(
        "a bbox of NaN", COCO, coco(annotations=[annotation(bbox=[1, 2, float("nan"), 9])]), ("labels.json", "finite")
    ),
    Case("a number of 400 digits", COCO, coco(annotations=[annotation(bbox=[1, 2, 10**400, 9])]), ("four numbers",)),
    Case("a score that is a word", COCO, coco(annotations=[annotation(score="high")]), ("score",)),
    Case("a picture 0 px wide", COCO, coco(images=[{"id": 7, "file_name": f"{FIRST}.jpg", "width": -1}]), ("width",)),
    Case(
        "a width that is a word", COCO, coco(images=[{"id": 7, "file_name": f"{FIRST}.jpg", "width": "w"}]), ("width",)
    ),
    Case("an annotation of no image", COCO, coco(images=[], annotations=[annotation()]), ("image that is not listed",)),
    Case("a category that is not listed", COCO, coco(annotations=[annotation(category_id=9)]), ("category 9",)),
    Case("a crowd region", COCO, coco(annotations=[annotation(iscrowd=1)]), ("crowd region",)),
    Case(
        "a file_name that climbs out",
        COCO,
        coco(images=[{"id": 7, "file_name": "../../../../dev/zero"}]),
        ("zero", "there is no such frame", "`its frames ingest`"),
        lines=2,
    ),
    Case(
        "pictures of a COCO file that are not there",
        COCO,
        lambda place: [*coco()(place), "--images", str(place.folder / "absent")],
        ("absent", "is no folder"),
    ),
    Case(
        "classes for a COCO file, which names its own",
        COCO,
        lambda place: [*coco()(place), "--classes", "car"],
        ("names its classes itself", "--map"),
        2,
    ),
    Case(
        "pictures in another place for YOLO",
        YOLO,
        lambda place: [*yolo("0 .5 .5 .1 .1")(place), "--images", str(place.folder)],
        ("--images goes with a COCO file",),
        2,
    ),
    Case(
        "an export of a class that nobody looked for",
        EXPORT,
        lambda place: ["labels", "export", "yolo", str(place.folder / "new"), "--classes", "bicycle"],
        ("nobody looked for bicycle", "--classes"),
    ),
    Case("an export onto a file", EXPORT, _onto_a_file, ("taken", "is a file")),
    Case("an export onto a folder", "its labels export coco FILE", _onto_a_folder, ("taken.json", "is a folder")),
    Case("an export into other labels", EXPORT, _onto_other_labels, ("taken", "holds labels already")),
    Case(
        "labels of an unknown format", "its labels import voc", lambda p: ["labels", "import", "voc", "x"], ("voc",), 2
    ),
)
