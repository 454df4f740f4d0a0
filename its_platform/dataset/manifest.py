"""The bytes of a dataset version: one canonical JSON line a frame, and a card for people and for programs.

The same rows always give the same bytes, so a digest names a content. Nothing here reads or writes a store; no
clock and no path of this machine enters the bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from its_platform.dataset.splits import SPLITS
from its_platform.errors import BadInput

MANIFEST = "manifest.jsonl"
CARD = "card.json"
README = "README.md"
COLUMNS = (
    "frame_hash",
    "object_key",
    "camera_id",
    "captured_at",
    "sequence",
    "split",
    "light",
    "weather",
    "slice",
    "block",
    "width",
    "height",
    "may_judge",
    "golden_since",
    "boxes",
)


def manifest_bytes(rows: Iterable[dict[str, Any]]) -> bytes:
    """Rows in the order of split, camera, time and hash, each with exactly `COLUMNS`."""
    ordered = sorted(
        rows,
        key=lambda row: (SPLITS.index(row["split"]), row["camera_id"], row["captured_at"], row["frame_hash"]),
    )
    lines = [json.dumps({name: row[name] for name in COLUMNS}, separators=(",", ":")) for row in ordered]
    return "".join(line + "\n" for line in lines).encode()


def read_manifest(data: bytes) -> pd.DataFrame:
    """A manifest as a table: `captured_at` in UTC, `boxes` a list of dictionaries. Raises `BadInput`."""
    rows = read_rows(data)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    try:
        table["captured_at"] = pd.to_datetime(table["captured_at"], utc=True, format="ISO8601")
        table["sequence"] = table["sequence"].astype("Int64")
        table["golden_since"] = table["golden_since"].astype("Int64")
    except (ValueError, TypeError, OverflowError) as error:
        raise BadInput(f"The manifest cannot be read: {error}.", "Check the version out again.") from error
    return table


def read_rows(data: bytes) -> list[dict[str, Any]]:
    """A manifest's rows, each with every one of `COLUMNS`. Raises `BadInput`."""
    try:
        # Not splitlines: a name may hold other characters that end a line.
        rows = [json.loads(line) for line in data.split(b"\n") if line]
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The manifest cannot be read: {error}.", "Check the version out again.") from error
    if not all(isinstance(row, dict) and row.keys() >= set(COLUMNS) for row in rows):
        raise BadInput("The manifest cannot be read: a line is no frame.", "Check the version out again.")
    return rows


def digest_of(manifest: bytes, classes: Sequence[str]) -> str:
    """SHA-256 over the class list in its order and the manifest."""
    return hashlib.sha256(json.dumps(list(classes)).encode() + b"\n" + manifest).hexdigest()


def statistics(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Frames and boxes by split, by split and slice, camera and class."""
    frames = Counter(row["split"] for row in rows)
    boxes: Counter[str] = Counter()
    by: dict[str, dict[str, Counter[str]]] = {
        name: {split: Counter() for split in SPLITS} for name in ("slice", "camera", "class", "origin")
    }
    for row in rows:
        split = row["split"]
        boxes[split] += len(row["boxes"])
        by["slice"][split][row["slice"]] += 1
        by["camera"][split][row["camera_id"]] += 1
        by["class"][split].update(box["class_name"] for box in row["boxes"])
        by["origin"][split].update(box["origin"] for box in row["boxes"])
    return {
        "frames": {split: frames[split] for split in SPLITS},
        "boxes": {split: boxes[split] for split in SPLITS},
        "frames_by_slice": _plain(by["slice"]),
        "frames_by_camera": _plain(by["camera"]),
        "boxes_by_class": _plain(by["class"]),
        "boxes_by_origin": _plain(by["origin"]),
    }


def _plain(counters: dict[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {split: dict(sorted(counter.items())) for split, counter in counters.items()}


def card_bytes(card: dict[str, Any]) -> bytes:
    return (json.dumps(card, indent=2, sort_keys=True) + "\n").encode()


def read_card(data: bytes) -> dict[str, Any]:
    """What `card_bytes` wrote. Raises `BadInput`."""
    try:
        return dict(json.loads(data))
    except (TypeError, ValueError) as error:
        raise BadInput(f"The card cannot be read: {error}.", "Check the version out again.") from error


def readme_bytes(card: dict[str, Any]) -> bytes:
    """The card as a page for people."""
    figures, spacing = card["statistics"], card["spacing"]
    lines = [
        f"# Dataset {card['name']}",
        "",
        f"- digest: `{card['digest']}`",
        f"- classes: {', '.join(card['classes'])}",
        f"- extends: {card['previous'] or 'nothing'}; golden set {card['golden']}",
        f"- blocks of {spacing['block_s']:g} s (or {spacing['block_frames']} numbered frames), "
        f"guard gap {spacing['guard_s']:g} s (or {spacing['guard_frames']} frames), seed {card['seed']}",
        f"- boxes: {_origins(figures['boxes_by_origin'])}",
        f"- cameras: {_cameras(card['cameras'])}",
        f"- licence: {card['licence'] or 'not stated (`dataset.licence`)'}",
        "",
        "| split | frames | boxes | conditions | cameras |",
        "|---|---|---|---|---|",
    ]
    for split in SPLITS:
        slices = ", ".join(f"{name} {number}" for name, number in figures["frames_by_slice"][split].items())
        cameras = ", ".join(f"{name} {number}" for name, number in figures["frames_by_camera"][split].items())
        lines.append(f"| {split} | {figures['frames'][split]} | {figures['boxes'][split]} | {slices} | {cameras} |")
    lines += ["", "| class | " + " | ".join(SPLITS) + " |", "|---" * (len(SPLITS) + 1) + "|"]
    for name in card["classes"]:
        counts = " | ".join(str(figures["boxes_by_class"][split].get(name, 0)) for split in SPLITS)
        lines.append(f"| {name} | {counts} |")
    left_out = card["left_out"]
    lines += ["", "Left out: " + ("; ".join(f"{n} frames: {why}" for why, n in left_out.items()) or "nothing") + "."]
    return ("\n".join(lines) + "\n").encode()


def _origins(by_split: dict[str, dict[str, int]]) -> str:
    """Who drew the boxes: `simulated 120, human 30 (golden: human 30)`; only reviewed ones judge."""
    total: Counter[str] = Counter()
    for counts in by_split.values():
        total.update(counts)
    judges = ", ".join(f"{name} {number}" for name, number in by_split.get("golden", {}).items())
    return ", ".join(f"{name} {number}" for name, number in sorted(total.items())) + f" (golden: {judges or 'none'})"


def _cameras(cameras: dict[str, dict[str, str]]) -> str:
    """Which cameras show people as they are: each with its world and its privacy policy."""
    hidden = {"faces_and_plates": "faces and plates hidden", "none": "nothing hidden", "unknown": "policy unknown"}
    said = [f"{name} ({about['world']}, {hidden[about['privacy']]})" for name, about in sorted(cameras.items())]
    return ", ".join(said) or "none"
