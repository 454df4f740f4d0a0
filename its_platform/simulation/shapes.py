"""The body of any road user, built once and kept: class, variant, length and pose in, a mesh out."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from its_platform.simulation.mesh import Mesh
from its_platform.simulation.people import bicycle, motorcycle, pedestrian
from its_platform.simulation.vehicles import bus, car, truck

POSES = 8


@lru_cache(maxsize=4096)
def mesh_of(class_name: str, variant: int, length_m: float, pose: int = 0) -> Mesh:
    """The body of a road user; `pose` 0..7 is where in a step or a turn of the pedals it is."""
    rng = np.random.default_rng([variant, 11])
    if class_name == "car":
        return car(rng, length_m)
    if class_name == "truck":
        return truck(rng, length_m)
    if class_name == "bus":
        return bus(rng, length_m)
    if class_name == "motorcycle":
        return motorcycle(rng)
    if class_name == "bicycle":
        return bicycle(rng, pose)
    return pedestrian(rng, pose)
