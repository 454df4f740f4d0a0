"""The one type for boxes that a detector found; it is the small client's, which live systems have without the platform.

Nothing about how boxes were found belongs here.
"""

from its_detector_client import MAX_DETECTIONS, Detection, Detections

__all__ = ["MAX_DETECTIONS", "Detection", "Detections"]
