"""Detectors of random numbers that find something, for tests of what is made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from its_platform.offline import prepare_ultralytics

SIZE = 64
SQUARES = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), np.uint8)


def random_detector(path: Path, architecture: str) -> Path:
    """A detector of random weights whose scores spread round 0.5, so that the box choice has work to do."""
    prepare_ultralytics(path.parent)
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model = DetectionModel(architecture, nc=4, verbose=False)
    head = model.model[-1]
    branches = [head.cv3, getattr(head, "one2one_cv3", None)]
    for branch in (b for b in branches if b is not None):
        for part in branch:
            torch.nn.init.normal_(part[-1].weight, std=0.5)
            torch.nn.init.normal_(part[-1].bias, mean=-2.0, std=1.0)
    for part in model.modules():
        if hasattr(part, "running_mean"):
            part.momentum = 1.0
    # With the statistics of real pictures each anchor answers something else; otherwise all tie.
    model.train()
    model(torch.from_numpy(SQUARES).permute(0, 3, 1, 2).float() / 255)
    torch.save({"model": model.half(), "train_args": {}, "epoch": -1}, path)
    return path
