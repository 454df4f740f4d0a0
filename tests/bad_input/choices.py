"""Bad settings and bad words on the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from bad_input.case import Case, Place
from bad_input.footage import absurd_header, huge_png, picture, sound, video
from its_platform.frames.folder import MAXIMUM_BYTES

LIST = "its camera list"


def written(text: str | bytes) -> Callable[[Place], Sequence[str]]:
    """Any command, in a home of its own with this settings.yaml."""

    def words(place: Place) -> Sequence[str]:
        (place.folder / "home").mkdir()
        (place.folder / "home" / "settings.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["camera", "list"]

    return words


def asked(*words: str) -> Callable[[Place], Sequence[str]]:
    return lambda place: [word.replace("{folder}", str(place.folder)) for word in words]


def _home_is_a_file(place: Place) -> Sequence[str]:
    (place.folder / "home").write_text("mine")
    return ["camera", "list"]


def _detect(source: Callable[[Path], object], name: str, *more: str) -> Callable[[Place], Sequence[str]]:
    def words(place: Place) -> Sequence[str]:
        source(place.folder / name)
        return ["detect", str(place.folder / name), *(word.format(folder=place.folder) for word in more)]

    return words


def _picture(path: Path) -> None:
    path.write_bytes(picture())


def _link_out(folder: Path) -> None:
    folder.mkdir()
    _picture(folder.parent / "secret.jpg")
    (folder / "a.jpg").symlink_to(folder.parent / "secret.jpg")


def _pipe_within(folder: Path) -> None:
    folder.mkdir()
    os.mkfifo(folder / "a.jpg")


def _sparse(path: Path) -> None:
    """A file of a length that no picture has, most of it a hole."""
    _picture(path)
    os.truncate(path, MAXIMUM_BYTES + 1)


def _taken_folder(path: Path) -> None:
    _picture(path)
    (path.parent / "out.jpg").mkdir()


OWN = {"ITS_HOME": "{folder}/home"}
DETECT = "its detect SOURCE"

CASES = (
    Case("epochs that are a word", LIST, asked("camera", "list"), ("training.epochs", "ITS_TRAINING__EPOCHS"),
         environment={"ITS_TRAINING__EPOCHS": "many"}),
    Case("epochs below one", LIST, asked("camera", "list"), ("training.epochs", "greater than or equal to 1"),
         environment={"ITS_TRAINING__EPOCHS": "-3"}),
    Case("a size that is no multiple of 32", LIST, asked("camera", "list"), ("training.image_size", "multiple of 32"),
         environment={"ITS_TRAINING__IMAGE_SIZE": "333"}),
    Case("a port beyond the last", LIST, asked("camera", "list"), ("ports.mlflow", "65535"),
         environment={"ITS_PORTS__MLFLOW": "70000"}),
    Case("one port for two servers", LIST, asked("camera", "list"), ("ports", "dagster", "mlflow"),
         environment={"ITS_PORTS__MLFLOW": "4000", "ITS_PORTS__DAGSTER": "4000"}),
    Case("a share that is not a number", LIST, asked("camera", "list"), ("dataset.split_train",),
         environment={"ITS_DATASET__SPLIT_TRAIN": "nan"}),
    Case("a setting that a group does not have", LIST, asked("camera", "list"), ("training.epoch", "epochs"),
         environment={"ITS_TRAINING__EPOCH": "3"}),
    Case("a group that is misspelt", LIST, asked("camera", "list"), ("ITS_TRAINNG__EPOCHS", "ITS_TRAINING"),
         environment={"ITS_TRAINNG__EPOCHS": "3"}),
    Case("classes that are not JSON", LIST, asked("camera", "list"), ("classes",),
         environment={"ITS_CLASSES": "car,bus"}),
    Case("a database of another kind", LIST, asked("camera", "list"), ("PostgreSQL", "ITS_DATABASE_URL"),
         environment={"ITS_DATABASE_URL": "mysql://a/b"}),
    Case("an object store that cannot be read", LIST, asked("camera", "list"), ("object store", "s3+http"),
         environment={"ITS_OBJECTS_URL": "ftp://x"}),
    Case("settings.yaml that is not YAML", LIST, written("training: [epochs"),
         ("settings.yaml", "YAML"), environment=OWN),
    Case("settings.yaml that is a list", LIST, written("- epochs\n"), ("settings.yaml", "groups"), environment=OWN),
    Case("settings.yaml that is not UTF-8", LIST, written(b"host: \xff\xfe"),
         ("settings.yaml", "YAML"), environment=OWN),
    Case("settings.yaml that runs Python", LIST, written("host: !!python/name:os.system"), ("YAML",), environment=OWN),
    Case("settings.yaml with a misspelt group", LIST, written("trainng: {epochs: 3}"), ("trainng", "training"),
         environment=OWN),
    Case("settings.yaml with a group of text", LIST, written("training: fast"), ("training",), environment=OWN),
    Case("a home that is a file", LIST, _home_is_a_file, ("home", "is a file", "ITS_HOME"), environment=OWN),
    Case("a home that cannot be made", "its simulation extend", asked("simulation", "extend"), ("/proc/its",),
         environment={"ITS_HOME": "/proc/its"}),
    Case("a command that does not exist", "its statsu", asked("statsu"), ("No such command 'statsu'", "status"), 2),
    Case("an option that does not exist", LIST, asked("camera", "list", "--jsn"), ("--jsn", "--help"), 2),
    Case("a missing argument", "its camera add NAME", asked("camera", "add", "a"), ("Missing argument", "--help"), 2),
    Case("a time that is no time", "its frames list", asked("frames", "list", "--since", "soon"), ("'soon'",), 2),
    Case("a window that ends before it begins", "its frames list",
         asked("frames", "list", "--since", "2026-05-02", "--until", "2026-05-01"), ("ends before it begins",)),
    Case("the same for labels", "its labels list",
         asked("labels", "list", "--since", "2026-05-02", "--until", "2026-05-01"), ("ends before it begins",)),
    Case("the same for a dataset", "its dataset build",
         asked("dataset", "build", "--since", "2026-05-02", "--until", "2026-05-01"), ("ends before it begins",)),
    Case("a limit of zero", "its frames list", asked("frames", "list", "--limit", "0"), ("--limit",), 2),
    Case("a sample below one", "its labels review", asked("labels", "review", "--sample", "-5"), ("--sample",), 2),
    Case("a frame that is not stored", "its frames show HASH", asked("frames", "show", "../../etc/passwd"),
         ("passwd",)),
    Case("labels of an unknown camera", "its labels list", asked("labels", "list", "-c", "moon"),
         ("'moon'", "Known are")),
    Case("removing an unknown camera", "its camera remove", asked("camera", "remove", "moon"), ("'moon'", "Known are")),
    Case("classes of a dataset twice", "its dataset build", asked("dataset", "build", "--classes", "car,car"),
         ("each once",)),
    Case("a dataset of too few frames", "its dataset build", asked("dataset", "build", "--classes", "car,bus"),
         ("block",)),
    Case("a dataset of an unknown camera", "its dataset build", asked("dataset", "build", "--cameras", "moon"),
         ("'moon'",)),
    Case("a window with one end", "its dataset build", asked("dataset", "build", "--window"), ("two ends",)),
    Case("a dataset's name that climbs out", "its dataset export NAME",
         asked("dataset", "export", "../../etc", "--yolo", "{folder}/out"), ("no dataset version '../../etc'", "list")),
    Case("a dataset that is not there", "its model train", asked("model", "train", "--dataset", "v9"),
         ("'v9'", "list")),
    Case("training without a dataset", "its model train", asked("model", "train"), ("no dataset version yet", "build")),
    Case("epochs of -1", "its model train", asked("model", "train", "--epochs", "-1"), ("--epochs",), 2),
    Case("a size of 100", "its model train", asked("model", "train", "--size", "100"), ("multiple of 32",)),
    Case("two sets of weights", "its model train",
         asked("model", "train", "--weights", "a.pt", "--base-version", "1"), ("one set of weights",)),
    Case("a version that is no number", "its model show", asked("model", "show", "latest"),
         ("'version'", "integer"), 2),
    Case("a version below one", "its release stage", asked("release", "stage", "0"), ("'version'", "greater"), 2),
    Case("a picture that is not there", DETECT, asked("detect", "{folder}/absent.jpg"), ("is not there",)),
    Case("a confidence of 2 to detect with", DETECT, asked("detect", "x.jpg", "--confidence", "2"),
         ("--confidence",), 2),
    Case("a folder without pictures", DETECT, asked("detect", "{folder}"), ("no image in it",)),
    Case("text to detect in", DETECT, _detect(lambda path: path.write_text("hello"), "a.mp4"),
         ("a.mp4", "not a video")),
    Case("a broken picture to detect in", DETECT, _detect(lambda path: path.write_text("x"), "a.jpg"),
         ("a.jpg", "not a picture")),
    Case("a JPEG to detect in that is cut off", DETECT,
         _detect(lambda path: path.write_bytes(picture()[:-20]), "a.jpg"), ("a.jpg", "the JPEG is cut off")),
    Case("a picture of 20000 x 20000 to detect in", DETECT,
         _detect(lambda path: path.write_bytes(huge_png(20000)), "a.png"), ("a.png", "more pixels")),
    Case("a picture of 256 MB to detect in", DETECT, _detect(_sparse, "a.jpg"), ("a.jpg", "larger than a picture")),
    Case("a video to detect in that claims 14000 x 14000 pixels", DETECT, _detect(absurd_header, "a.avi"),
         ("14000x14000", "pixels")),
    Case("sound to detect in", DETECT, _detect(sound, "a.mp4"), ("a.mp4", "no picture stream")),
    Case("a pipe to detect in", DETECT, _detect(os.mkfifo, "a.mp4"), ("is not there",)),
    Case("a folder to detect in that holds a pipe", DETECT, _detect(_pipe_within, "day"),
         ("not one image", "a.jpg", "is not a file")),
    Case("a folder to detect in with a link out of it", DETECT, _detect(_link_out, "day"),
         ("not one image", "a.jpg", "leads out of the folder")),
    Case("a video to be written as text", DETECT, _detect(video, "a.mp4", "--out", "{folder}/a.txt"),
         ("a.txt", ".mp4")),
    Case("a picture to be written as a video", DETECT, _detect(_picture, "a.jpg", "--out", "{folder}/a.mp4"),
         ("a.mp4", ".jpg")),
    Case("a target that is a folder", DETECT, _detect(_taken_folder, "a.jpg", "--out", "{folder}/out.jpg"),
         ("out.jpg", "is a folder")),
    Case("a target over its source", DETECT, _detect(_picture, "a.jpg", "--out", "{folder}/a.jpg"),
         ("a.jpg", "itself")),
    Case("a server that is down", DETECT, _detect(_picture, "a.jpg"), ("Triton", "its up")),
    Case("a server that is down, and a video", DETECT, _detect(video, "a.mp4"), ("Triton", "its up")),
)  # fmt: skip
