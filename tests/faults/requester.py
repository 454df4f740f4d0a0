"""A live system for the time of the faults: asks the front at a steady pace and writes down what it was answered.

Run as a program: `python -m faults.requester FILE`. Each line of the file is one request that has ended: its capture
time, when it was sent, whether an answer came after the client's own retries, and from which version.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from its_platform.errors import ItsError
from its_platform.serving.client import DetectorClient
from its_platform.settings import load_settings

CAMERA = "requester"
# Not `live`: its rows are to be logged like any others, and to take no part in the drift of the simulated cameras.
PURPOSE = "detect"
EVERY_S = 0.5
# A killed Triton takes longer to come back than the client's usual ten seconds.
PATIENCE_S = 60.0


async def ask_steadily(file: Path) -> None:
    """Send a picture every half second, each in a task of its own, until a signal says to stop."""
    is_over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, is_over.set)
    picture = np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8)
    with file.open("a", buffering=1, encoding="utf-8") as lines:

        async def ask(client: DetectorClient, at: datetime) -> None:
            told = {"at": at.isoformat(), "sent": at.timestamp()}
            try:
                answer = await client.detect(picture, CAMERA, at, purpose=PURPOSE, deadline_s=PATIENCE_S)
            except ItsError as error:
                lines.write(json.dumps({**told, "is_answered": False, "problem": str(error)}) + "\n")
            else:
                lines.write(json.dumps({**told, "is_answered": True, "version": answer.model_version}) + "\n")

        async with DetectorClient(load_settings()) as client, asyncio.TaskGroup() as asking:
            while not is_over.is_set():
                asking.create_task(ask(client, datetime.now(UTC)))
                try:
                    await asyncio.wait_for(is_over.wait(), EVERY_S)
                except TimeoutError:
                    continue


if __name__ == "__main__":
    asyncio.run(ask_steadily(Path(sys.argv[1])))
