"""The gates that ask whether a version is what it says: its export, file, tensors, classes and dataset.

Facts enter, results leave: nothing is read here. The value of a `faults` metric is how many were found, and none is
allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from its_platform.release.gates.accuracy import finite
from its_platform.release.gates.result import (
    ALL,
    CLASS_ORDER,
    DATASET_CARD,
    EXPORT_PARITY,
    FORMAT_ACCURACY,
    SIGNATURE,
    GateResult,
    Verdict,
)
from its_platform.settings import GateSettings

# Licence and cameras are said where somebody stated them; these every version has.
CARD_FACTS = ("name", "digest", "classes", "statistics", "request", "seed", "spacing")


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a model: name, Triton's data type (`UINT8`), shape with the batch first, -1 for any."""

    name: str
    data_type: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.data_type} {list(self.shape)}"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a version answers to and what file stands behind it. digest: SHA-256 of the file in hex."""

    digest: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def export_parity(parity: float | None, settings: GateSettings) -> GateResult:
    """The exported model must find what the trained one finds."""
    value, floor = finite(parity), settings.parity_floor
    if value is None:
        verdict: Verdict = "not_judged"
        detail = "the version carries no parity figure"
    else:
        verdict = "passed" if value >= floor else "failed"
        detail = f"{value:.1%} of the detector's own boxes are in the export, {floor:.1%} are needed"
    return GateResult(EXPORT_PARITY, "matched_share", ALL, value, floor, None, verdict, detail)


def format_accuracy(loss: float | None, settings: GateSettings) -> GateResult:
    """A format that rounds, and so answers no box exactly as the trained model does, must find as much as FP32 does."""
    value, limit = finite(loss), settings.format_tolerance
    if value is None:
        verdict: Verdict = "not_judged"
        detail = "the version carries no figure of what its format loses"
    else:
        verdict = "passed" if value <= limit else "failed"
        detail = f"the format loses {value:.3f} of AP50 against FP32, {limit:g} is allowed"
    return GateResult(FORMAT_ACCURACY, "ap50_drop", ALL, value, limit, None, verdict, detail)


def signature_gate(registered: Signature, placed: Signature) -> GateResult:
    """What Triton holds must be the registered file, with the inputs and outputs that the front asks by.

    registered: the digest and the tensors that the registry's facts call for. placed: as Triton has it.
    """
    faults = []
    if placed.digest != registered.digest:
        faults.append(
            f"the file in Triton's repository is {placed.digest[:12]}, registered is {registered.digest[:12]}"
        )
    for what in ("inputs", "outputs"):
        wanted, found = getattr(registered, what), getattr(placed, what)
        if wanted != found:
            faults.append(f"{what} are {_told(found)}, the front asks by {_told(wanted)}")
    shown = f"the registered file {registered.digest[:12]}; {_told(placed.inputs)} to {_told(placed.outputs)}"
    return _faults(SIGNATURE, faults, shown)


def class_order(
    registered: Sequence[str], of_dataset: Sequence[str] | None, of_file: Sequence[str] | None
) -> GateResult:
    """A class is its place in a list: the version's list, its dataset's and its file's must agree.

    A class that the dataset does not have may stand in the version's list; the dataset's own must stand in their
    order. of_dataset, of_file: None where the dataset is not in these stores, or the file says nothing.
    """
    faults = []
    if of_dataset is not None and [name for name in registered if name in of_dataset] != list(of_dataset):
        faults.append(f"the version's classes are {_listed(registered)}, its dataset's {_listed(of_dataset)}")
    if of_file is not None and list(of_file) != list(registered):
        faults.append(f"the version's classes are {_listed(registered)}, its file's {_listed(of_file)}")
    if of_dataset is None and of_file is None:
        detail = "neither its dataset nor its file says what the classes are"
        return GateResult(CLASS_ORDER, "faults", ALL, None, 0.0, None, "not_judged", detail)
    return _faults(CLASS_ORDER, faults, _listed(registered))


def dataset_card(name: str, digest: str, card: Mapping[str, Any] | None) -> GateResult:
    """The version's dataset must have a card that says what is in it, where it came from and how it was split.

    name, digest: of the dataset, as the version has them; an empty digest was not recorded. card: None where these
    stores know no dataset of that name.
    """
    faults = []
    if card is None:
        faults.append(f"dataset {name} has no card in these stores")
    else:
        faults += [f"it does not say {fact}" for fact in CARD_FACTS if card.get(fact) in (None, "", [], {})]
        if digest and card.get("digest") not in (None, digest):
            faults.append(f"it is the card of {str(card['digest'])[:12]}, the version learnt from {digest[:12]}")
        origins = (card.get("statistics") or {}).get("boxes_by_origin")
        if not faults and not origins:
            faults.append("it does not say where the boxes came from")
    return _faults(DATASET_CARD, faults, f"the card of {name} is there")


def _faults(name: str, faults: Sequence[str], otherwise: str) -> GateResult:
    verdict: Verdict = "failed" if faults else "passed"
    return GateResult(name, "faults", ALL, float(len(faults)), 0.0, None, verdict, "; ".join(faults) or otherwise)


def _told(tensors: Sequence[Tensor]) -> str:
    return ", ".join(map(str, tensors)) or "none"


def _listed(names: Sequence[str]) -> str:
    return " ".join(names)
