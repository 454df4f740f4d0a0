"""Which format of a detector is served: the fastest of those that are as good as its FP32 ONNX file.

Enters: what was measured of each format, and the settings' gates. Leaves: why a format may not be served, in words, or
the one to serve with the reason. Pure; the formats are made, measured and registered in `formats`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from its_platform.contract import FORMATS
from its_platform.model.scoring import ANY_CLASS, Evaluation
from its_platform.settings import GateSettings

WORTH_IT = 0.95  # another format than ONNX is one more thing to run: it is chosen when it saves a twentieth
WHOLE, GOLDEN = "all", "golden"


@dataclass(frozen=True)
class FormatFigures:
    """What was measured of a format on this machine.

    version: the registered one, None where it was only measured. map50, any_class_ap50: on the judged frames of the
    version's own dataset. loss: see `accuracy_loss`. parity: share of the detector's own boxes. cpu_ms: of one image,
    on one thread. objection: why it may not be served, empty where it may.
    """

    format: str
    version: int | None
    map50: float
    any_class_ap50: float
    loss: float
    parity: float
    cpu_ms: float
    objection: str = ""


def accuracy_loss(found: Evaluation, onnx: Evaluation, minimum_boxes: int) -> float:
    """What a format loses of AP50 against FP32 ONNX on the same frames, where it loses most; never below 0.

    Looked at are the mean over the classes of all judged frames, and AP50 with classes ignored of each slice that has
    `minimum_boxes` true boxes: a format that is worse at night alone is worse.
    """
    losses = [_ap50(onnx, WHOLE, None) - _ap50(found, WHOLE, None)]
    for score in onnx.slices:
        if score.class_name == ANY_CLASS and (score.slice == WHOLE or score.boxes >= minimum_boxes):
            losses.append(score.ap50 - _ap50(found, score.slice, ANY_CLASS))
    return max(0.0, *losses)


def crossed_floor(found: Evaluation, onnx: Evaluation, gates: GateSettings) -> str:
    """A floor of the gates that FP32 ONNX reaches on the golden frames and the format does not, in words; or nothing.

    A version is not to fail its gates for the format that it was put into.
    """
    for name, floor in _floors(gates):
        before, after = onnx.score(name, ANY_CLASS), _ap50(found, name, ANY_CLASS)
        if before is None or before.boxes < gates.minimum_boxes:
            continue  # the gate does not judge it either
        if after < floor <= before.ap50:
            return f"its AP50 of any class on {name} is {after:.3f}, below the floor {floor:g} that FP32 reaches"
    return ""


def objection_to(format_name: str, parity: float, found: Evaluation, onnx: Evaluation, gates: GateSettings) -> str:
    """Why a format may not stand for its weights, in words; empty where it may.

    One that computes what the weights say has to find their boxes; one that rounds, as many of the true ones.
    """
    if FORMATS[format_name].is_exact:
        if parity < gates.parity_floor:
            return f"it finds {parity:.1%} of the detector's own boxes, {gates.parity_floor:.1%} are needed"
        return ""
    loss = accuracy_loss(found, onnx, gates.minimum_boxes)
    if loss > gates.format_tolerance:
        return f"it loses {loss:.3f} of AP50, {gates.format_tolerance:g} is allowed"
    return crossed_floor(found, onnx, gates)


def fastest(figures: Sequence[FormatFigures], unmade: Mapping[str, str] | None = None) -> tuple[FormatFigures, str]:
    """The figures of the format to serve, ONNX among them, and the reason in words.

    unmade: formats that could not be made, with the cause. FP32 ONNX is the measure of the others and is always
    allowed; whether the weights themselves are good enough is what gates decide.
    """
    onnx = next(one for one in figures if one.format == "onnx")
    best = min((one for one in figures if not one.objection), key=lambda one: one.cpu_ms, default=onnx)
    said = [f"{one.format} is left out: {one.objection}" for one in figures if one.objection]
    said += [f"{name} is left out: {cause}" for name, cause in (unmade or {}).items()]
    reason = "is the fastest here of those that are as good"
    if best.cpu_ms > WORTH_IT * onnx.cpu_ms:
        best, reason = onnx, f"stays: no other that is as good saves {1 - WORTH_IT:.0%}"
    told = ", ".join(f"{one.format} {one.cpu_ms:.1f}" for one in figures)
    return best, "; ".join([f"{best.format} {reason} (CPU ms an image: {told})", *said])


def _floors(gates: GateSettings) -> Iterator[tuple[str, float]]:
    # Which of the two a camera is held to depends on its world, which the scores do not tell.
    yield GOLDEN, gates.simulated_floor
    yield GOLDEN, gates.real_floor
    for name, floor in gates.slice_floors.items():
        yield f"{GOLDEN}/{name}", floor


def _ap50(scores: Evaluation, name: str, class_name: str | None) -> float:
    found = scores.score(name, class_name)
    return found.ap50 if found is not None else 0.0
