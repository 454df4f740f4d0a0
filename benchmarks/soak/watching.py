"""Looks at what the parts hold while a load lasts, and kills Triton once."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from footprint import footprints
from its_platform import processes
from its_platform.settings import Settings
from soak.reckoning import Sample
from soak.verdict import KILLED

EVERY_S = 10.0


class Watch:
    """Samples from the beginning of the block to its end, each a line of `file` too; kills Triton after `kill_after_s`.

    The end of the block raises what went wrong in between.
    """

    def __init__(self, settings: Settings, file: Path, kill_after_s: float) -> None:
        self.samples: list[Sample] = []
        self.killed_at: float | None = None
        self._settings, self._file, self._kill_after_s = settings, file, kill_after_s
        self._is_over = threading.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="watch")

    def __enter__(self) -> Watch:
        self._watching = self._pool.submit(self._watch)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._is_over.set()
        self._pool.shutdown()
        if kind is None:
            self._watching.result()

    def _watch(self) -> None:
        kill_at = time.monotonic() + self._kill_after_s
        with self._file.open("a", buffering=1, encoding="utf-8") as lines:
            while not self._is_over.is_set():
                sample = Sample(time.time(), footprints(self._settings))
                self.samples.append(sample)
                lines.write(json.dumps(asdict(sample)) + "\n")
                until = time.monotonic() + EVERY_S
                if self.killed_at is None and kill_at < until:
                    self._is_over.wait(max(kill_at - time.monotonic(), 0))
                    self._kill()
                self._is_over.wait(max(until - time.monotonic(), 0))

    def _kill(self) -> None:
        process = processes.find(processes.read_record(self._settings, KILLED))
        if process is None:
            raise RuntimeError("Triton ran no more when it was to be killed")
        self.killed_at = time.time()
        process.kill()
