"""A live system in Python: asks the front about each picture of a folder, and prints what it found.

    pip install ./clients/python
    python examples/live/watch.py 127.0.0.1:8101 pictures/ --camera north

It needs the small client alone, not the platform. Several addresses are balanced, and one that fails is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

from its_detector_client import ClientError, DetectorClient, Tls


def main() -> int:
    reading = argparse.ArgumentParser(description="Ask the traffic detector about the JPEGs of a folder.")
    reading.add_argument("endpoints", help="host:port of Triton's gRPC; several with commas")
    reading.add_argument("folder", type=Path)
    reading.add_argument("--camera", default="example")
    reading.add_argument("--purpose", default="live")
    reading.add_argument(
        "--tls", type=Path, metavar="NORTH.PEM", help="certificate by `its certs client`, beside its key and ca.pem"
    )
    asked = reading.parse_args()
    own = asked.tls
    tls = Tls(own.with_name("ca.pem"), own, own.with_suffix(".key")) if own is not None else None
    with DetectorClient(asked.endpoints.split(","), tls=tls) as client:
        for path in sorted(asked.folder.glob("*.jpg")):
            try:
                answer = client.detect_jpeg(
                    path.read_bytes(),
                    asked.camera,
                    # A real system says when the camera took the picture, not when it is sent.
                    captured_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
                    purpose=asked.purpose,
                    # Named by the system's own correlation id, the request can be found in the platform's log.
                    request_id=uuid.uuid4().hex,
                )
            except ClientError as error:
                sys.stderr.write(f"{path.name}: {error}\n")
                return 1
            boxes = [
                {"class": found.class_id, "confidence": round(found.confidence, 3), "box": found.box}
                for found in answer.detections[0]
            ]
            line = {"picture": path.name, "version": answer.model_version, "request": answer.request_id, "boxes": boxes}
            sys.stdout.write(json.dumps(line) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
