"""Boxes on frames: who drew them, who has looked at them, and which labelling of a frame is in force.

Read `labelling` (the values), `store` (the append-only table), `formats` (YOLO and COCO), then the ways in which
labels come to be: `auto` (a detector) and `review` (the simulated reviewer).
"""

from its_platform.labels.labelling import (
    Box,
    FrameLabels,
    LabelResult,
    Origin,
    Refusal,
    Review,
)

__all__ = ["Box", "FrameLabels", "LabelResult", "Origin", "Refusal", "Review"]
