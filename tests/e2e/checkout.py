"""A demo of the tiny scale in a home of its own, on free ports, run as a user runs it: by the `its` command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from its_platform.serving.processes import free_ports
from its_platform.settings import Ports
from its_platform.stores.object_server import INNER_PORTS
from ports import free_port_range

ROOT = Path(__file__).resolve().parents[2]
ITS = Path(sys.executable).parent / "its"


@dataclass(frozen=True)
class Checkout:
    """A home folder and the environment that points the `its` command at it."""

    home: Path
    environment: dict[str, str]

    def its(self, *words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(ITS), *words], env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        log = (self.home.parent / "demo.log").open("a")
        return subprocess.Popen([str(ITS), *words], env=self.environment, stdout=log, stderr=log, text=True)


def checkout_at(folder: Path) -> Checkout:
    names = [name for name in Ports.model_fields if name != "objects_inner"]
    numbers = dict(zip(names, free_ports(len(names)), strict=True)) | {"objects_inner": free_port_range(INNER_PORTS)}
    ports = {f"ITS_PORTS__{name.upper()}": str(port) for name, port in numbers.items()}
    return Checkout(folder, {**os.environ, **ports, "ITS_HOME": str(folder)})


def steps_begun(file: Path) -> list[str]:
    if not file.exists():
        return []
    return [json.loads(line)["step"] for line in file.read_text("utf-8").splitlines() if line.endswith("}")]


def run_killed_at_each_step(checkout: Checkout, file: Path, patience_s: float = 1200) -> list[str]:
    """Run the tiny demo, kill -9 it half a second into each step that it names, and start it again until it ends.

    Returns the steps at which it was killed.
    """
    killed: list[str] = []
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        before = len(steps_begun(file))
        demo = checkout.start("demo", "--scale", "tiny", "--keep-up", "--progress-jsonl", str(file))
        while demo.poll() is None:
            new = [step for step in steps_begun(file)[before:] if step not in killed]
            if new:
                time.sleep(0.5)
                demo.send_signal(signal.SIGKILL)
                demo.wait()
                killed.append(new[0])
                break
            if time.monotonic() > deadline:
                demo.kill()
                break
            time.sleep(0.1)
        else:
            log = (checkout.home.parent / "demo.log").read_text("utf-8")[-3000:]
            assert demo.returncode == 0, log
            return killed
    raise AssertionError(f"the demo did not end; killed at {killed}")
