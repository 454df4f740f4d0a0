"""Builds a dataset version: select frames, share their blocks out, keep the guard gap, commit, record.

The order makes a killed build harmless: the version is committed and tagged in the data repository, pushed, and
only then recorded; a build that finds its own unrecorded tag takes it over. The same content gives the version that
is there already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from its_platform.dataset import golden as golden_sets
from its_platform.dataset.golden import GoldenSet
from its_platform.dataset.manifest import (
    CARD,
    MANIFEST,
    README,
    card_bytes,
    digest_of,
    manifest_bytes,
    read_rows,
    readme_bytes,
    statistics,
)
from its_platform.dataset.request import DatasetRequest, NoReviewedLabels
from its_platform.dataset.sampling import spacing_of
from its_platform.dataset.selection import Row, Selection, place_of, select_frames
from its_platform.dataset.splits import JUDGES, Spacing, Split, keep_guard, share_blocks
from its_platform.dataset.versions import (
    DatasetVersion,
    cache_folder,
    from_row,
    list_versions,
    remaining,
    version,
    version_bytes,
    write_folder,
)
from its_platform.errors import BadInput
from its_platform.settings import Settings
from its_platform.stores import Stores
from its_platform.stores import versions as repository
from its_platform.stores.audit import record
from its_platform.stores.schema import DatasetVersionRow
from its_platform.telemetry import Progress, no_progress

RESERVED = "reserved"
"""Split of frames that judge another list of classes: kept away from, never taken in."""


class TooFewBlocks(BadInput):
    """The footage has too few blocks for a split that a training needs."""


@dataclass(frozen=True)
class _Ground:
    """What a new version stands on: the extended version's rows and the golden sets so far."""

    previous: dict[str, Row]
    golden: GoldenSet | None
    golden_rows: dict[str, Row]
    reserved: dict[str, Row]
    spacing: Spacing
    seed: int


def build_dataset(
    stores: Stores, request: DatasetRequest, progress: Progress = no_progress, dagster_run: str | None = None
) -> DatasetVersion:
    """Make the version that the request describes, or give the one that has the same content.

    dagster_run: id of the Dagster run that asks for it, kept with the version's row for the trace. Raises
    `NoReviewedLabels` when nothing that was selected may teach or judge (with a window: nothing new of it),
    `TooFewBlocks` when train, val or golden would be empty, `NotFound` for an unknown `previous`.
    """
    with stores.database.lock("dataset"):
        ground = _ground(stores, request)
        progress("dataset", 1, 4, "reading frames and labels")
        known = [h for h in ground.previous if h not in ground.golden_rows]
        selection = select_frames(stores, request, known)
        _require_labels(request, selection, ground)
        progress("dataset", 2, 4, "splitting")
        rows, left_out = assign(request, selection, ground, stores.settings)
        made = _with_golden(stores, request, rows, ground)
        progress("dataset", 3, 4, "committing")
        result = _commit(stores, request, made, ground, left_out, dagster_run)
        progress("dataset", 4, 4, f"{result.name}: {sum(result.counts.values())} frames")
        return result


def _ground(stores: Stores, request: DatasetRequest) -> _Ground:
    settings = stores.settings.dataset
    spacing, seed, previous = spacing_of(settings), settings.seed, {}
    if request.previous is not None:
        extended = version(stores, request.previous)
        previous = remaining(stores, read_rows(version_bytes(stores, extended)[MANIFEST]))
        # Other block lengths would give its frames other blocks, and so move them between splits.
        spacing, seed = Spacing(**extended.request["spacing"]), int(extended.request["seed"])
    newest = {one.classes: one for one in golden_sets.golden_sets(stores)}
    own = newest.pop(request.classes, None)
    own_rows = {row["frame_hash"]: row for row in golden_sets.golden_rows(stores, own)} if own else {}
    reserved = {
        row["frame_hash"]: {**row, "split": RESERVED}
        for other in newest.values()
        for row in golden_sets.golden_rows(stores, other)
        # A version that changes the class list of the one it extends takes its golden frames along as golden.
        if row["frame_hash"] not in own_rows and (own is not None or row["frame_hash"] not in previous)
    }
    return _Ground(previous, own, own_rows, reserved, spacing, seed)


def _require_labels(request: DatasetRequest, selection: Selection, ground: _Ground) -> None:
    fresh = [h for h in selection.rows if h not in ground.previous and h not in ground.golden_rows]
    reasons = "; ".join(f"{number} frames: {why}" for why, number in selection.left_out.items())
    if not selection.rows or (request.window is not None and not fresh):
        raise NoReviewedLabels(
            f"No new frame of this selection has reviewed labels ({reasons or 'it holds no frames'}).",
            "Label and review frames first: `its labels --help`.",
        )


def assign(
    request: DatasetRequest, selection: Selection, ground: _Ground, settings: Settings
) -> tuple[list[Row], Counter[str]]:
    """Rows with their splits, and what was left out by reason. Golden rows of the set so far come first."""
    left_out = Counter(selection.left_out)
    is_previous_golden_kept = ground.golden is not None
    candidates: dict[str, Row] = {}
    for frame_hash, row in selection.rows.items():
        if frame_hash in ground.reserved:
            left_out["judges in a golden set of other classes"] += 1
        elif frame_hash not in ground.golden_rows:
            candidates[frame_hash] = {**row, "block": place_of(row).block(ground.spacing), "golden_since": None}
    fixed_frames: dict[str, Split] = {
        h: row["split"]
        for h, row in ground.previous.items()
        if h in candidates and not (is_previous_golden_kept and row["split"] == "golden")
    }
    fixed_blocks = _blocks_of(ground.previous, fixed_frames) | {
        row["block"]: "golden" for row in ground.golden_rows.values()
    }
    assigned = _share(request, candidates, fixed_blocks, ground, settings)
    closed = {row["block"] for row in ground.golden_rows.values()}
    wanted: dict[str, Row] = {}
    for frame_hash, row in candidates.items():
        split = fixed_frames.get(frame_hash, assigned[row["block"]])
        if split in JUDGES and not row["may_judge"]:
            left_out["not reviewed, in a block that judges"] += 1
        elif row["block"] in closed and frame_hash not in fixed_frames:
            left_out["in a block of the golden set"] += 1
        else:
            wanted[frame_hash] = {**row, "split": split}
    everything = wanted | ground.golden_rows | ground.reserved
    kept = keep_guard(
        [place_of(row) for row in everything.values()],
        {h: row["split"] for h, row in everything.items()},
        ground.spacing,
        first=[*ground.golden_rows, *ground.reserved, *fixed_frames],
    )
    left_out["within the guard gap"] += sum(h not in kept for h in wanted)
    rows = [*ground.golden_rows.values(), *(row for h, row in wanted.items() if h in kept)]
    return rows, +left_out


def _blocks_of(previous: Mapping[str, Row], frames: Iterable[str]) -> dict[str, Split]:
    return {previous[frame_hash]["block"]: previous[frame_hash]["split"] for frame_hash in frames}


def _share(
    request: DatasetRequest,
    candidates: Mapping[str, Row],
    fixed: Mapping[str, Split],
    ground: _Ground,
    settings: Settings,
) -> dict[str, Split]:
    """A split for each block of the candidates, shared out by camera and condition."""
    conditions: dict[str, Counter[str]] = {}
    cameras: dict[str, str] = {}
    is_judgeable: dict[str, bool] = {}
    is_new: dict[str, bool] = {}
    for frame_hash, row in candidates.items():
        block = row["block"]
        conditions.setdefault(block, Counter())[row["slice"]] += 1
        cameras[block] = row["camera_id"]
        is_judgeable[block] = is_judgeable.get(block, False) or row["may_judge"]
        is_new[block] = is_new.get(block, False) or frame_hash not in ground.previous
    strata: dict[str, tuple[str, str]] = {}
    shares: dict[str, dict[Split, float]] = {}
    given: dict[str, Split] = {}
    seen = ground.golden.seen if ground.golden else frozenset()
    latest: set[str] = set()
    if request.window is not None and request.judge_blocks == "latest":
        fresh = [row for row in candidates.values() if is_new[row["block"]] and is_judgeable[row["block"]]]
        latest = _latest_blocks(fresh, settings.retraining.judge_share)
    for block, counted in conditions.items():
        condition = min(counted, key=lambda name: (-counted[name], name))
        if request.window is not None and not is_new[block]:
            # What the extended version holds says nothing about how a drifted window is to be shared.
            given[block] = fixed[block]
        elif not is_judgeable[block]:
            given[block] = fixed.get(block, "train")
        else:
            strata[block] = (cameras[block], condition)
            if latest:
                shares[block] = {"golden": 1.0} if block in latest else {"train": 1.0}
            else:
                shares[block] = _shares(settings, request.window is not None, (cameras[block], condition) in seen)
    return share_blocks(strata, shares, fixed, ground.seed) | given


def _latest_blocks(rows: Iterable[Row], share: float) -> set[str]:
    """The blocks at the end of the rows' capture times that hold at most this share of them, and at least one."""
    times: dict[str, list[str]] = {}
    for row in rows:
        times.setdefault(row["block"], []).append(row["captured_at"])
    wanted = share * sum(map(len, times.values()))
    found: set[str] = set()
    for block in sorted(times, key=lambda name: min(times[name]), reverse=True):
        if found and sum(len(times[name]) for name in (*found, block)) > wanted + 0.5:
            break
        found.add(block)
    return found


def _shares(settings: Settings, is_window: bool, is_in_golden: bool) -> dict[Split, float]:
    wanted = settings.dataset
    if is_window:
        judge = settings.retraining.judge_share
        teach = wanted.split_train + wanted.split_val
        return {
            "train": (1 - judge) * wanted.split_train / teach,
            "val": (1 - judge) * wanted.split_val / teach,
            "golden": judge * 2 / 3,
            "test": judge / 3,
        }
    return {
        "train": wanted.split_train,
        "val": wanted.split_val,
        "test": wanted.split_test,
        "golden": 0.0 if is_in_golden else wanted.split_golden,
    }


def _with_golden(
    stores: Stores, request: DatasetRequest, rows: list[Row], ground: _Ground
) -> tuple[list[Row], GoldenSet | None]:
    """Number the golden rows: the set so far where nothing is new, else the next one."""
    new = [row for row in rows if row["split"] == "golden" and row["frame_hash"] not in ground.golden_rows]
    if not new:
        return rows, ground.golden
    number = max((one.number for one in golden_sets.golden_sets(stores)), default=0) + 1
    for row in new:
        row["golden_since"] = number
    window = request.described()["window"]
    slices = (*(ground.golden.slices if ground.golden else ()), *golden_sets.additions(new, number, window))
    return rows, GoldenSet(number, "", "", request.classes, slices)


def _commit(
    stores: Stores,
    request: DatasetRequest,
    made: tuple[list[Row], GoldenSet | None],
    ground: _Ground,
    left_out: Counter[str],
    dagster_run: str | None,
) -> DatasetVersion:
    rows, golden = made
    figures = statistics(rows)
    _require_splits(figures["frames"], ground.spacing)
    manifest = manifest_bytes(rows)
    digest = digest_of(manifest, request.classes)
    versions = list_versions(stores)
    for there in versions:
        if there.digest == digest:
            return there
    described = {**request.described(), "spacing": asdict(ground.spacing), "seed": ground.seed}
    card = {
        "digest": digest,
        "classes": list(request.classes),
        "previous": request.previous,
        "golden": golden.number if golden else None,
        "golden_slices": list(golden.slices) if golden else [],
        "spacing": described["spacing"],
        "seed": ground.seed,
        "request": described,
        "statistics": figures,
        "cameras": _filmed_by(stores, figures["frames_by_camera"]),
        "licence": stores.settings.dataset.licence,
        "left_out": dict(sorted(left_out.items())),
    }
    name, commit, files = _store(stores, max((one.number for one in versions), default=0) + 1, manifest, card)
    write_folder(cache_folder(stores, digest), files)
    row = DatasetVersionRow(
        name=name,
        digest=digest,
        classes=list(request.classes),
        counts=figures["frames"],
        boxes=figures["boxes"],
        golden=card["golden"],
        previous=request.previous,
        # Not in the card: a build that is taken over by another run has to give the same bytes.
        request={**described, "dagster_run": dagster_run} if dagster_run else described,
        commit=commit,
    )
    with stores.database.session() as session:
        session.add(row)
        if golden is not None and golden.dataset == "":
            own = manifest_bytes(row for row in rows if row["split"] == "golden")
            golden_sets.add_golden(session, replace(golden, dataset=name, digest=digest_of(own, request.classes)))
        session.flush()
        session.refresh(row)
        told = {"digest": digest, "frames": figures["frames"], "golden": card["golden"], "previous": request.previous}
        record(session, "dataset.built", name, detail=told)
        return replace(from_row(row), is_new=True)


def _filmed_by(stores: Stores, frames_by_camera: dict[str, dict[str, int]]) -> dict[str, dict[str, str]]:
    """World and privacy policy of each camera of a version, as the registry has them; `unknown` where it has not."""
    from its_platform.cameras import list_cameras

    known = {
        camera.camera_id: {"world": "simulated" if camera.is_simulated else "real", "privacy": camera.privacy}
        for camera in list_cameras(stores)
    }
    used = sorted({name for of_split in frames_by_camera.values() for name in of_split})
    return {name: known.get(name, {"world": "unknown", "privacy": "unknown"}) for name in used}


def _store(stores: Stores, number: int, manifest: bytes, card: dict[str, Any]) -> tuple[str, str, dict[str, bytes]]:
    """Commit and push under the first name that is free, or that a killed build of the same content took."""
    frames = sum(card["statistics"]["frames"].values())
    while True:
        name = f"v{number}"
        card = {**card, "name": name}
        files = {MANIFEST: manifest, CARD: card_bytes(card), README: readme_bytes(card)}
        try:
            commit = repository.commit_version(
                stores.settings, name, files, f"dataset {name}: {frames} frames, golden set {card['golden']}"
            )
        except BadInput:
            if name not in repository.list_versions(stores.settings):
                raise
            number += 1
            continue
        repository.push(stores.settings, name)
        return name, commit, files


def _require_splits(frames: Mapping[str, int], spacing: Spacing) -> None:
    empty: list[str] = [split for split in ("train", "val", "golden") if not frames[split]]
    if empty:
        raise TooFewBlocks(
            f"No frame is left for {' and '.join(empty)}.",
            f"Add footage, or make blocks shorter than {spacing.block_s:g} s or {spacing.block_frames} numbered frames "
            "(dataset.block_s, dataset.block_frames).",
        )
