"""Which cameras there are: their addresses, sites, privacy and frame-rate policy."""

from its_platform.cameras.address import Address, parse_address
from its_platform.cameras.registry import Camera, add_camera, get_camera, list_cameras, remove_camera

__all__ = [
    "Address",
    "Camera",
    "add_camera",
    "get_camera",
    "list_cameras",
    "parse_address",
    "remove_camera",
]
