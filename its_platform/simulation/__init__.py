"""A simulated traffic world: pictures of road traffic with exact truth, the same for the same seed.

A view's name, a seed, a time and conditions enter; frames, boxes, counts, speeds and video leave. Needs numpy and
OpenCV alone; settings and PyAV are imported by those who need them.
"""

from its_platform.simulation.renderer import SimulatedFrame, TruthBox, render, truth
from its_platform.simulation.timeline import (
    Address,
    Segment,
    Timeline,
    append_segment,
    create_timeline,
    frame_at,
    parse_address,
    read_timeline,
    remove_timeline,
    truth_at,
    truth_counts,
    truth_passages,
)
from its_platform.simulation.video import write_video
from its_platform.simulation.views import View, view_named, views
from its_platform.simulation.weather import LIGHTS, WEATHERS

__all__ = [
    "LIGHTS",
    "WEATHERS",
    "Address",
    "Segment",
    "SimulatedFrame",
    "Timeline",
    "TruthBox",
    "View",
    "append_segment",
    "create_timeline",
    "frame_at",
    "parse_address",
    "read_timeline",
    "remove_timeline",
    "render",
    "truth",
    "truth_at",
    "truth_counts",
    "truth_passages",
    "view_named",
    "views",
    "write_video",
]
