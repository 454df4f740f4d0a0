"""The cameras of a soak: ask the front at a steady pace, and write down what each request came to.

Run as a program: `python -m soak.load FILE`. Each line of the file is one request that has ended, as `Request` has it.
A picture that is due is sent whether the ones before it were answered or not, as a camera would.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from its_platform.errors import ItsError
from its_platform.serving.client import DetectorClient
from its_platform.settings import load_settings
from soak.reckoning import Request

CAMERAS = tuple(f"soak-{number}" for number in range(1, 5))
EVERY_S = 0.4
# Not `live`: its rows are logged like any others, and take no part in the drift of the simulated cameras.
PURPOSE = "detect"
SHAPE = (360, 640, 3)


async def ask_steadily(file: Path) -> None:
    """Every camera's pictures, each in a task of its own, until a signal says to stop; then wait for all answers."""
    is_over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, is_over.set)
    generator = np.random.default_rng(0)
    with file.open("a", buffering=1, encoding="utf-8") as lines:

        async def ask(client: DetectorClient, camera: str, picture: np.ndarray, at: datetime) -> None:
            version, problem = None, ""
            try:
                answer = await client.detect(picture, camera, at, purpose=PURPOSE)
                version = answer.model_version
            except ItsError as error:
                problem = error.message
            told = Request(camera, at.timestamp(), time.time(), version, problem)
            lines.write(json.dumps(asdict(told)) + "\n")

        async def film(client: DetectorClient, camera: str, asking: asyncio.TaskGroup) -> None:
            scene = generator.integers(0, 255, SHAPE, np.uint8)
            loop = asyncio.get_running_loop()
            due = loop.time() + EVERY_S * CAMERAS.index(camera) / len(CAMERAS)
            while not is_over.is_set():
                try:
                    await asyncio.wait_for(is_over.wait(), max(due - loop.time(), 0))
                except TimeoutError:
                    # No two alike: an answer from memory would say nothing of the detector.
                    picture = scene.copy()
                    picture[0] = generator.integers(0, 255, picture[0].shape, np.uint8)
                    asking.create_task(ask(client, camera, picture, datetime.now(UTC)))
                # Pictures that the machine was too slow to take are not made up for.
                due = max(due + EVERY_S, loop.time())

        async with DetectorClient(load_settings()) as client, asyncio.TaskGroup() as asking:
            for camera in CAMERAS:
                asking.create_task(film(client, camera, asking))


if __name__ == "__main__":
    asyncio.run(ask_steadily(Path(sys.argv[1])))
