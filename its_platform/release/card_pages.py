"""A model card as pages: Markdown for MLflow, Dagster and a terminal, and one HTML file that needs nothing else.

A `ModelCard` enters, text leaves. Both are templates beside this file and say the same; the HTML draws the scores too.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from its_platform.contract import ImageSize, size_text
from its_platform.model.origin import DAGSTER_TAG
from its_platform.release.card import ModelCard
from its_platform.release.pictures import gates_markdown, number, timeline_markdown

if TYPE_CHECKING:
    from jinja2 import Environment

# The chart: a row a slice, a scale from 0 to 1.
LABEL_W, SCALE_W, ROW_H, EDGE = 210, 690, 22, 18


def as_markdown(card: ModelCard) -> str:
    """The card in Markdown."""
    waived = {one.gate for one in card.waivers}
    gates = gates_markdown(card.judgement.results, waived) if card.judgement else "*Not judged yet.*\n"
    text = _environment(is_html=False).get_template("card.md.j2")
    return text.render(card=card, gates=gates, releases=timeline_markdown(card.releases), **_shared(card))


def as_html(card: ModelCard) -> str:
    """The card as one page."""
    template = _environment(is_html=True).get_template("card.html.j2")
    waived = {one.gate for one in card.waivers}
    return template.render(card=card, waived=waived, chart=chart(card), number=number, **_shared(card))


def chart(card: ModelCard) -> str:
    """AP50 by slice with its interval, as SVG: any class above, mean over classes below."""
    rows = card.scores()
    if not rows:
        return ""
    height = EDGE * 2 + ROW_H * len(rows)
    parts = [
        f'<line x1="{_x(tick / 10):g}" y1="{EDGE}" x2="{_x(tick / 10):g}" y2="{height - EDGE}" class="grid"/>'
        f'<text x="{_x(tick / 10):g}" y="{height - 4}" class="tick">{tick / 10:g}</text>'
        for tick in range(0, 11, 2)
    ]
    for place, (mean, anyhow) in enumerate(rows):
        y = EDGE + ROW_H * place + ROW_H / 2
        parts.append(f'<text x="{LABEL_W - 10}" y="{y + 4:g}" class="slice">{escape(mean.slice)}</text>')
        for score, name, shift in ((anyhow, "any", -4), (mean, "mean", 4)):
            if score is not None:
                told = f"{score.slice}: {score.ap50:.3f} ({score.ap50_low:.3f} to {score.ap50_high:.3f})"
                parts.append(
                    f'<g class="{name}"><title>{escape(told)}</title>'
                    f'<line x1="{_x(score.ap50_low):g}" x2="{_x(score.ap50_high):g}" y1="{y + shift:g}" '
                    f'y2="{y + shift:g}"/><circle cx="{_x(score.ap50):g}" cy="{y + shift:g}" r="3.5"/></g>'
                )
    width = LABEL_W + SCALE_W + EDGE
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="AP50 by slice">{"".join(parts)}</svg>'
    )


def _x(share: float) -> float:
    return LABEL_W + SCALE_W * share


def _shared(card: ModelCard) -> dict[str, Any]:
    return {
        "title": f"{card.version.name} version {card.version.version}",
        "size": _width_by_height(card.version.image_size),
        "origin": _origin(card),
        "told_data": _data(card),
    }


def _width_by_height(size: ImageSize) -> str:
    return f"{size}x{size}" if isinstance(size, int) else size_text(size)


def _origin(card: ModelCard) -> list[tuple[str, str]]:
    """The way here, each with its identifier: what the trace follows."""
    run, version = card.run, card.version
    found = [
        ("dataset", f"{version.dataset_version}, digest {version.tags.get('dataset_digest', 'unknown')}"),
        ("commit of the data repository", run.get("data_commit", "")),
        ("weights that it began with", run.get("base_weights_digest", "")),
        (
            "commit of the code",
            run.get("code_commit", "") + (" (changed)" if run.get("code_is_dirty") == "true" else ""),
        ),
        ("MLflow run", version.run_id),
        ("Dagster run", run.get(DAGSTER_TAG, "")),
        ("artefacts", version.digest),
        ("ONNX file", version.onnx_digest),
    ]
    return [(name, value) for name, value in found if value]


def _data(card: ModelCard) -> list[tuple[str, str]]:
    """The dataset card's facts in words."""
    data = card.dataset
    if data is None:
        return []
    figures = data.get("statistics", {})
    origins = figures.get("boxes_by_origin", {})
    cameras = data.get("cameras", {})
    facts = [
        ("frames", _counts(figures.get("frames", {}))),
        ("boxes", _counts(figures.get("boxes", {}))),
        *((f"boxes of {split} by origin", _counts(counts)) for split, counts in origins.items() if counts),
        ("conditions judged", _counts(figures.get("frames_by_slice", {}).get("golden", {}))),
        (
            "cameras",
            ", ".join(f"{name} ({about['world']}, privacy {about['privacy']})" for name, about in cameras.items()),
        ),
        ("licence", str(data.get("licence") or "not stated")),
        ("golden set", str(data.get("golden") or "none")),
        ("extends", str(data.get("previous") or "nothing")),
    ]
    return [(name, value) for name, value in facts if value]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _environment(is_html: bool) -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Markdown is escaped by whoever shows it; a page has to do it itself.
    environment = Environment(
        loader=PackageLoader("its_platform.release", "."),
        autoescape=is_html,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["cell"] = lambda value: str(value).replace("|", "\\|")
    return environment
