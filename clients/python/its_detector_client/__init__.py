"""A client of the traffic detector that a Triton of its-platform serves. It needs numpy and tritonclient alone."""

from its_detector_client.asynchronous import FRONT, AsyncDetectorClient
from its_detector_client.detections import MAX_DETECTIONS, Answer, Detection, Detections
from its_detector_client.errors import BadRequest, ClientError, Refused, Unavailable
from its_detector_client.question import encode_jpeg
from its_detector_client.synchronous import DetectorClient
from its_detector_client.tls import Tls

__all__ = [
    "FRONT",
    "MAX_DETECTIONS",
    "Answer",
    "AsyncDetectorClient",
    "BadRequest",
    "ClientError",
    "Detection",
    "Detections",
    "DetectorClient",
    "Refused",
    "Tls",
    "Unavailable",
    "encode_jpeg",
]
