"""The model card of a registered version: read from where each fact lives, kept with the version in MLflow.

Enters: a version number. Leaves: a `ModelCard`, and its two pages (`card_pages`) as artefacts of the version's run. A
card is written anew whenever something about the version is decided; what it says is only ever read, never set here.

The parts follow Mitchell et al., "Model Cards for Model Reporting" (2019).
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its_platform.contract import size_text
from its_platform.errors import ItsError
from its_platform.model.export import digest_of
from its_platform.model.registered import EVALUATION, ONNX, version_folder
from its_platform.model.scoring import ANY_CLASS, Evaluation, SliceScore
from its_platform.release.gates import GOLDEN, failing, is_passed
from its_platform.release.measured import card_reader
from its_platform.release.truth import Release, ReleaseChange, history
from its_platform.release.verdicts import REJECTED, Judgement, Waiver, is_rejected, latest_judgement, waivers
from its_platform.stores.registry import MODEL_NAME, ModelVersion, translated
from its_platform.telemetry import get_log

if TYPE_CHECKING:
    from collections.abc import Iterable

    from its_platform.stores import Stores

LOG = get_log(__name__)
ARTEFACTS = "card"
MARKDOWN, HTML = "model_card.md", "model_card.html"
# MLflow's column for a version's description holds no more.
DESCRIPTION_LETTERS = 5000
# The kinds of changes after which a card says something else.
WRITTEN_AFTER = frozenset({"released", "rolled_back", "ended"})
FORMATS = {
    ".onnx": "ONNX, what Triton serves",
    ".xml": "OpenVINO's graph, what Triton serves",
    ".bin": "OpenVINO's weights",
    ".plan": "TensorRT plan, what Triton serves",
    ".pt": "PyTorch weights, to train on from",
    ".json": "figures",
}


@dataclass(frozen=True, slots=True)
class VersionFile:
    """A file of the version. digest: SHA-256 in hex."""

    name: str
    what: str
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class ModelCard:
    """All that is told of a version. weights: numbers in the ONNX graph, None where there is none.

    trained: the parameters of its run. run: its tags. dataset: the card of its dataset version, None where these stores
    have none. made_at: when the facts were read.
    """

    version: ModelVersion
    weights: int | None
    trained: dict[str, str]
    run: dict[str, str]
    dataset: dict[str, Any] | None
    evaluation: Evaluation | None
    judgement: Judgement | None
    waivers: tuple[Waiver, ...]
    releases: tuple[Release, ...]
    aliases: tuple[str, ...]
    files: tuple[VersionFile, ...]
    minimum_boxes: int
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def outcome(self) -> str:
        """What the gates say of it, in two words."""
        if self.judgement is None:
            return "not judged"
        return "passed" if is_passed(self.judgement.results, self._waived) else "not passed"

    @property
    def _waived(self) -> set[str]:
        return {one.gate for one in self.waivers}

    def scores(self) -> list[tuple[SliceScore, SliceScore | None]]:
        """Of each slice the mean over classes and, beside it, the score with classes ignored."""
        if self.evaluation is None:
            return []
        names = [name for name in self.evaluation.names() if not name.startswith("class=")]
        pairs = [(self.evaluation.score(name), self.evaluation.score(name, ANY_CLASS)) for name in names]
        return [(mean, anyhow) for mean, anyhow in pairs if mean is not None and mean.boxes]

    def class_scores(self) -> list[SliceScore]:
        """Each class over the whole golden set."""
        if self.evaluation is None:
            return []
        found = [self.evaluation.score(GOLDEN, name) for name in self.evaluation.classes]
        return [score for score in found if score is not None]

    def limits(self) -> list[str]:
        """What these figures do not say, from what was judged and what was not."""
        golden = [name for name in (self.evaluation.names() if self.evaluation else []) if name.startswith("golden/")]
        told = []
        if golden:
            seen = ", ".join(name.removeprefix("golden/").replace("=", " ") for name in golden)
            told.append(f"It was judged on {seen}. Of other cameras, lights and weathers these figures say nothing.")
        else:
            told.append("It was not judged on a golden set; nothing is known of how good it is.")
        rare = [f"{one.class_name} ({one.boxes})" for one in self.class_scores() if one.boxes < self.minimum_boxes]
        judged = {one.class_name for one in self.class_scores()}
        rare += [f"{name} (0)" for name in (self.evaluation.classes if self.evaluation else ()) if name not in judged]
        if rare:
            told.append(f"Too few golden boxes to judge by itself: {', '.join(rare)}.")
        weakest = min((mean for mean, _ in self.scores()), key=lambda one: one.ap50, default=None)
        if weakest is not None:
            told.append(f"Weakest where it was judged: {weakest.slice}, mAP50 {weakest.ap50:.3f}.")
        worlds = {about["world"] for about in (self.dataset or {}).get("cameras", {}).values()}
        if worlds == {"simulated"}:
            told.append("It knows the simulated world alone; on real cameras it has to be trained and judged anew.")
        return told

    def description(self) -> str:
        """A few lines for MLflow's page of the version."""
        whole = self.evaluation.score(GOLDEN) if self.evaluation else None
        anyhow = self.evaluation.score(GOLDEN, ANY_CLASS) if self.evaluation else None
        lines = [
            f"**{self.version.family}**, {size_text(self.version.image_size)} px, {', '.join(self.version.classes)}; "
            f"dataset {self.version.dataset_version}.",
            f"Gates: **{self.outcome}**{self._stopped_by()}.",
        ]
        if is_rejected(self.version, self.waivers):
            lines.append(f"**Rejected**, {self.version.tags[REJECTED]}.")
        if whole is not None and anyhow is not None:
            lines.append(
                f"Golden set: mAP50 {whole.ap50:.3f}, AP50 of any class {anyhow.ap50:.3f}, {whole.boxes} boxes."
            )
        lines.append(f"The model card is `{ARTEFACTS}/{HTML}` among the artefacts of run {self.version.run_id}.")
        return "\n\n".join(lines)[:DESCRIPTION_LETTERS]

    def _stopped_by(self) -> str:
        """The gates that are in the way, in brackets, each once whatever the number of slices."""
        failed = failing(self.judgement.results, self._waived) if self.judgement else []
        names = dict.fromkeys(result.name for result in failed)
        return f" ({', '.join(names)})" if names else ""


def read_model_card(stores: Stores, version: int) -> ModelCard:
    """Everything that is known of a version now. Raises `NotFound` for one that there is not."""
    known = stores.registry.get(MODEL_NAME, version)
    folder = version_folder(stores, version)
    with translated(f"The run of version {version} is gone."):
        run = stores.registry.client().get_run(known.run_id).data
    evaluation = folder / EVALUATION
    aliases = sorted(alias for alias, number in stores.registry.aliases().items() if number == version)
    return ModelCard(
        version=known,
        weights=_weights_in(folder),
        trained=dict(sorted(run.params.items())),
        run={name: value for name, value in run.tags.items() if not name.startswith("mlflow.")},
        dataset=card_reader(stores)(known.dataset_version),
        evaluation=Evaluation.from_dict(json.loads(evaluation.read_text("utf-8"))) if evaluation.is_file() else None,
        judgement=latest_judgement(stores, version),
        waivers=tuple(waivers(stores, version)),
        releases=tuple(one for one in history(stores) if one.version == version),
        aliases=tuple(aliases),
        files=tuple(_files(folder)),
        minimum_boxes=stores.settings.gates.minimum_boxes,
    )


def write_card(card: ModelCard, folder: Path) -> list[Path]:
    """Both pages, put into a folder; their paths."""
    from its_platform.release.card_pages import as_html, as_markdown

    folder.mkdir(parents=True, exist_ok=True)
    pages = {folder / MARKDOWN: as_markdown(card), folder / HTML: as_html(card)}
    for path, text in pages.items():
        path.write_text(text, "utf-8")
    return list(pages)


def publish_card(stores: Stores, version: int) -> ModelCard:
    """Keep the card as it is now with the version's run in MLflow, and say the gist in the version's description.

    The version's own artefacts are never touched: their digest is what was registered. Raises `NotFound` for a version
    that there is not, `ServerUnavailable` where MLflow is away.
    """
    card = read_model_card(stores, version)
    with tempfile.TemporaryDirectory() as folder, translated():
        client = stores.registry.client()
        for path in write_card(card, Path(folder)):
            client.log_artifact(card.version.run_id, str(path), ARTEFACTS)
        client.update_model_version(MODEL_NAME, str(version), description=card.description())
    return card


def publish_cards(stores: Stores, changes: Iterable[ReleaseChange]) -> None:
    """Write anew the card of each version that began or ceased to be served; what was done stands also without it."""
    done = [change for change in changes if change.kind in WRITTEN_AFTER]
    numbers = {number for change in done for number in (change.version, change.previous) if number}
    for number in sorted(numbers):
        try:
            publish_card(stores, number)
        except (ItsError, OSError) as error:
            LOG.warning("a model card was not written anew", version=number, reason=str(error))


def _files(folder: Path) -> list[VersionFile]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        VersionFile(
            path.relative_to(folder).as_posix(), FORMATS.get(path.suffix, ""), path.stat().st_size, digest_of(path)
        )
        for path in paths
    ]


def _weights_in(folder: Path) -> int | None:
    """The numbers in the constants of the graph that are, or before quantisation were, floating-point: its weights."""
    import onnx

    path = folder / ONNX
    if not path.is_file():
        return None
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    constants = onnx.load(str(path)).graph.initializer
    is_quantised = any(one.name.endswith("_quantized") for one in constants)
    return sum(
        math.prod(one.dims)
        for one in constants
        # By these names ONNX Runtime calls what it rounded, and the steps that it rounded to.
        if one.name.endswith("_quantized")
        or (one.data_type in floats and not (is_quantised and one.name.endswith("_scale")))
    )
