"""The page of bad input, written from the cases that are tested: `PYTHONPATH=.:tests python -m bad_input.page`."""

from __future__ import annotations

import sys

from bad_input import annotations, choices, detectors, footage
from bad_input.case import Case

GROUPS: dict[str, tuple[Case, ...]] = {
    "Footage": footage.CASES,
    "Labels": annotations.CASES,
    "Settings and commands": choices.CASES,
    "Weights": detectors.CASES,
}

HEAD = """# Bad input

What is handed in may be broken, or meant to break. Each kind below is answered by one line that says what is wrong and
what to do, ends with 1 (2 for bad use of a command), and leaves objects, tables and database as they were.
`pytest tests/bad_input` gives each kind to the real command and compares every file and every row before and after;
this page is written from its cases (`PYTHONPATH=.:tests python -m bad_input.page > docs/bad-input.md`).

Where the rest of the input is good, the rest is taken and the bad part is told: the other frames of a damaged video,
the other pictures of a folder, the other frames of a label file. Labels of one frame are taken whole or not at all.

## Where it is checked
| what | where | bound |
|---|---|---|
| addresses and names of cameras | `cameras/address.py`, `cameras/registry.py` | 63 letters, digits and `_.-` |
| videos | `frames/video.py` | an ordinary file; 134 million pixels |
| pictures | `frames/folder.py`, `frames/images.py` | inside the folder, 256 MB, 134 million pixels, whole |
| label files | `labels/files.py`, `labels/formats.py` | inside the folder, 8 MB; COCO 1 GB; a class list 1 MB |
| boxes | `labels/labelling.py`, on the way into the store | finite, inside the picture, 1 px, once |
| weights | `weights.py`, then Ultralytics' own restricted reading | see below |
| settings | `settings.py` | each by its type and range; unknown names are refused |
| the command line | `cli/__init__.py` | what nobody foresaw is one line too, and `--debug` shows where |

Archives are taken nowhere: unpack them first. A link that leads out of a folder of pictures or labels is refused. Names
that hold line breaks or bytes that are not UTF-8 are shown with escapes.

## Weights are programs
A `.pt` is a pickle, and reading one runs what its author put in. Two fences stand before that, and `its model train`,
`its model export`, `its model embedder` and `its labels auto` go through both:

1. `weights.py` parses the file without importing or calling anything of it. It has to be an archive as PyTorch writes
   it, uncompressed, with one pickle, and that pickle may name nothing but layers, tensors and plain containers.
2. Ultralytics' restricted reading (`ULTRALYTICS_SAFE_LOAD`, switched on in `offline.py`) builds known classes only and
   evaluates no text of the checkpoint, such as its `activation`. It also holds where the file is swapped in between.

`.onnx` holds no code, and is asked for its inputs and outputs before it is used. This is no proof that weights are
good: a detector that was taught to overlook lorries reads like any other. The gates judge that.

## The kinds
"""


def page() -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for title, cases in GROUPS.items():
        parts.append(f"### {title}\n")
        parts.append("| what | given to | the answer holds | ends with |\n|---|---|---|---|")
        for case in cases:
            said = " … ".join(f"`{part}`" for part in case.says)
            end = f"{case.code}, the rest is taken" if case.is_partial else str(case.code)
            parts.append(f"| {case.kind} | `{case.command}` | {said} | {end} |")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
