"""Becomes `tritonserver` in NVIDIA's image, with every detector loaded that a route names.

Enters: the state folder that the platform writes (`models`, `routes.json`), the address of Redis from its file. The
options are those of `its_platform.serving.server.triton_command`, less what belongs to the bundled server.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

STATE = Path("/var/lib/its/triton")
REDIS_URL = Path("/run/secrets/redis_url")
FRONT = "traffic_detector"


def command(state: Path) -> list[str]:
    """The words that start the server."""
    return [
        "tritonserver",
        f"--model-repository={state / 'models'}",
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in [FRONT, *routed(state / "routes.json")]),
        # For the health check alone.
        "--http-address=127.0.0.1",
        "--grpc-address=0.0.0.0",
        "--metrics-address=0.0.0.0",
        "--http-port=8100",
        "--grpc-port=8101",
        "--metrics-port=8102",
        "--strict-readiness=false",
        "--exit-on-error=false",
        "--exit-timeout-secs=15",
        "--log-verbose=0",
    ]


def routed(routes: Path) -> list[str]:
    """The detectors that routes name; none before the first release."""
    if not routes.exists():
        return []
    stages = json.loads(routes.read_text(encoding="utf-8"))["stages"]
    return sorted({str(route["model"]) for route in stages.values()})


def main() -> None:
    """Does not return."""
    words = command(STATE)
    environment = {**os.environ, "ITS_SERVING__REDIS_URL": REDIS_URL.read_text(encoding="utf-8").strip()}
    os.execvpe(words[0], words, environment)


if __name__ == "__main__":
    main()
