"""Charts as pictures, for pages that ask for nothing from outside."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def png_of(figure: Figure, dpi: int = 110) -> bytes:
    """A figure of Matplotlib as PNG. Made with `Figure`, never with pyplot, which keeps every figure and is not safe in
    threads."""
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=dpi)
    return written.getvalue()


def in_page(png: bytes) -> str:
    """The address of a PNG that holds the picture itself, for `src` in HTML and for Markdown."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
