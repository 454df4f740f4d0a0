"""Renders the pictures that the starter detector was trained on: a YOLO folder of simulated traffic.

Cameras and seeds are others than the demo's, and it is day or dusk, clear or rainy; there is no night and no fog.
Needs numpy and OpenCV alone. Run it from the repository's root:

    python examples/starter/render.py --frames 6000 --out /tmp/starter --workers 16
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

CLASSES = ("car", "truck", "bus", "motorcycle", "bicycle", "pedestrian")
FRAMES_A_CAMERA = 24
FIRST_SEED = 1000
CONDITIONS = (("day", "clear"), ("day", "clear"), ("day", "rain"), ("dusk", "clear"), ("dusk", "rain"))


def render_camera(task: tuple[int, str, Path, int, int]) -> int:
    """Write one camera's frames with their labels. Returns the number of boxes."""
    import cv2

    from its_platform.simulation.renderer import render

    number, split, out, count, quality = task
    cv2.setNumThreads(1)
    rng = np.random.default_rng([41, number])
    boxes = 0
    written = 0
    while written < count:
        light, weather = CONDITIONS[int(rng.integers(len(CONDITIONS)))]
        frame = render(f"camera-{number}", FIRST_SEED + number, float(rng.uniform(0, 36_000)), light, weather)
        if not frame.boxes and rng.random() < 0.7:
            continue
        height, width = frame.image.shape[:2]
        lines = []
        for box in frame.boxes:
            x, y = (box.x1 + box.x2) / 2 / width, (box.y1 + box.y2) / 2 / height
            w, h = (box.x2 - box.x1) / width, (box.y2 - box.y1) / height
            lines.append(f"{CLASSES.index(box.class_name)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}")
        name = f"camera{number:04d}-{written:03d}"
        picture = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(out / "images" / split / f"{name}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        (out / "labels" / split / f"{name}.txt").write_text("\n".join(lines))
        boxes += len(lines)
        written += 1
    return boxes


def main() -> None:
    """Parse the arguments, render on every worker, and describe the folder in `data.yaml`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=6000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--val-share", type=float, default=0.08)
    parser.add_argument("--jpeg-quality", type=int, default=92)
    given = parser.parse_args()
    cameras = max(2, -(-given.frames // FRAMES_A_CAMERA))
    held_out = max(1, round(cameras * given.val_share))
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (given.out / kind / split).mkdir(parents=True, exist_ok=True)
    tasks = []
    for number in range(cameras):
        split = "val" if number >= cameras - held_out else "train"
        count = min(FRAMES_A_CAMERA, given.frames - number * FRAMES_A_CAMERA)
        tasks.append((number, split, given.out, max(count, 1), given.jpeg_quality))
    boxes = 0
    # An executor tells when a worker dies; a pool of multiprocessing's would wait for its answer for ever.
    with ProcessPoolExecutor(given.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done, rendered in enumerate(as_completed([pool.submit(render_camera, task) for task in tasks]), 1):
            boxes += rendered.result()
            sys.stderr.write(f"\r{done} of {cameras} cameras, {boxes} boxes")
    sys.stderr.write("\n")
    names = "\n".join(f"  {i}: {name}" for i, name in enumerate(CLASSES))
    where = given.out.resolve()
    (given.out / "data.yaml").write_text(f"path: {where}\ntrain: images/train\nval: images/val\nnames:\n{names}\n")


if __name__ == "__main__":
    main()
