"""The frozen network that turns a whole picture into one vector, so that drift in what is seen can be measured.

Enters: the backbone of a detector's weights. Leaves: `embedder.onnx` (input `images` UINT8 `[n, 160, 160, 3]`, RGB,
stretched; output `embedding` FP32 `[n, D]`, D at most 128) and `embedder.json` with its digest. It is never trained
further: vectors of different digests are never compared, so a new digest starts a new history.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from its_platform.errors import BadInput
from its_platform.model.export import digest_of
from its_platform.model.onnx_graph import OPSET
from its_platform.settings import STARTER_WEIGHTS, Settings
from its_platform.weights import check_weights

SIZE = 160
MAX_DIMENSIONS = 128
RECIPE = "1"  # raise it whenever the same weights would give other vectors
INPUT, OUTPUT = "images", "embedding"


@dataclass(frozen=True)
class EmbedderFile:
    """What `embedder.json` holds. `digest` names weights and recipe together."""

    digest: str
    dim: int
    source: str
    size: int


def embedder_path(settings: Settings) -> Path:
    """Where the front looks for the embedder."""
    return settings.home / "triton" / "embedder.onnx"


def embedder_digest(weights: Path) -> str:
    """The digest that vectors of an embedder made from `weights` carry."""
    return hashlib.sha256(f"{digest_of(weights)}:{RECIPE}:{SIZE}".encode()).hexdigest()


def export_embedder(settings: Settings, weights: Path | None = None) -> Path:
    """Make the embedder from `weights` (the starter checkpoint where None) and return its path.

    One that is already there with the same digest is left untouched. The description is written after the graph, so
    a reader that finds a digest finds its graph too. Raises `BadInput` for weights that are not a detector's.
    """
    import onnxslim

    source = Path(weights or STARTER_WEIGHTS)
    check_weights(source)
    path = embedder_path(settings)
    about, digest = path.with_suffix(".json"), embedder_digest(source)
    if path.is_file() and about.is_file() and json.loads(about.read_text()).get("digest") == digest:
        return path
    raw, dimensions = _backbone_graph(source)
    graph = onnxslim.slim(raw)
    graph.metadata_props.add(key="digest", value=digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    about.unlink(missing_ok=True)
    _write(path, graph.SerializeToString())
    fields = asdict(EmbedderFile(digest, dimensions, source.name, SIZE))
    _write(about, (json.dumps(fields, indent=1) + "\n").encode())
    return path


def _backbone_graph(weights: Path) -> tuple[Any, int]:
    """Three levels of the backbone averaged over the picture, each brought to a fixed number of dimensions.

    The early levels see texture, contrast and light, the last sees what is in the picture. Channels are mixed by a
    fixed random sign matrix, which keeps distances (Johnson and Lindenstrauss) without needing any data, and each
    level is scaled by its length on fixed noise, so that no level drowns the others and a loss of contrast still shows.
    """
    import numpy as np
    import onnx
    import torch
    from torch import nn

    from its_platform.model.export import inference_network

    layers = inference_network(weights)[0].model
    deepest = next((i for i, layer in enumerate(layers) if type(layer).__name__ == "SPPF"), -1)
    if deepest < 0:
        raise BadInput(f"The backbone of {weights} has no SPPF layer to read.", "Give weights of YOLOv8, 11 or 26.")
    widths = {2: MAX_DIMENSIONS // 4, 4: MAX_DIMENSIONS // 4, deepest: MAX_DIMENSIONS // 2}
    random = np.random.RandomState(0)  # its stream is fixed over numpy's versions

    class Embedder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(layers[: deepest + 1])
            self.mixing: dict[int, torch.Tensor] = {}

        def levels(self, pixels: torch.Tensor) -> dict[int, torch.Tensor]:
            x, found = pixels.permute(0, 3, 1, 2).float() / 255, {}
            for i, layer in enumerate(self.layers):
                x = layer(x)
                if i in widths:
                    found[i] = x.mean((2, 3))
            return found

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.cat([mean @ self.mixing[i] for i, mean in self.levels(pixels).items()], 1)

    embedder = Embedder().eval()
    noise = torch.from_numpy(random.randint(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8))
    with torch.inference_mode():
        for i, mean in embedder.levels(noise).items():
            signs = torch.from_numpy(random.choice([-1.0, 1.0], (mean.shape[1], widths[i])).astype(np.float32))
            embedder.mixing[i] = signs / (float(mean[0].norm()) * widths[i] ** 0.5)
    buffer = io.BytesIO()
    torch.onnx.export(
        embedder,
        (noise,),
        buffer,  # type: ignore[arg-type]
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=OPSET,
        dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        dynamo=False,
    )
    graph = onnx.load_from_string(buffer.getvalue())
    dimensions = sum(widths.values())
    graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value = dimensions
    return graph, dimensions


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)
