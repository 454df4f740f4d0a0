"""Starts tritonserver with a secret that does not stay in the process list: `restricted_launch.py FILE tritonserver …`.

Triton takes the secret of its repository API on its command line alone, which everyone on a machine can read. So this
program reads it from a file, becomes tritonserver by `exec` (the process keeps its number), and leaves a process behind
that blanks the secret in the command line once the server has read it, and ends. It is run by path, by any Python, and
imports nothing of the platform.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

# The platform's name for the header; Triton puts `triton-grpc-protocol-` before it.
HEADER = "its-admin-key"
PROTOCOLS = "model-repository,logging,trace"
PR_SET_PTRACER = 0x59616D61
WAIT_S = 30.0
# The server is one thread while it reads its options.
SETTLE_S = 0.3


def main(arguments: list[str]) -> None:
    """Become the server. Never returns."""
    secret = Path(arguments[0]).read_text(encoding="utf-8").strip()
    command = [*arguments[1:], f"--grpc-restricted-protocol={PROTOCOLS}:{HEADER}={secret}"]
    _leave_watcher(os.getpid(), secret.encode())
    os.execv(command[0], command)


def hide(pid: int, secret: bytes) -> bool:
    """Blank a secret in another process's command line; False when it is not there (yet). Raises `OSError`."""
    if secret not in Path(f"/proc/{pid}/cmdline").read_bytes():
        return False
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    start, end = int(fields[45]), int(fields[46])
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        at = memory.read(end - start).find(secret)
        if at < 0:
            return False
        memory.seek(start + at)
        memory.write(b"*" * len(secret))
    return secret not in Path(f"/proc/{pid}/cmdline").read_bytes()


def _leave_watcher(server: int, secret: bytes) -> None:
    """A grandchild, so that the server is nobody's parent, and the one process that may write into the server."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os.write(write_end, str(os.getpid()).encode())
            _watch(server, secret)
        os._exit(0)
    os.waitpid(child, 0)
    watcher = int(os.read(read_end, 20))
    # Only where the Yama module is in force; elsewhere it is refused, and not needed.
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, watcher, 0, 0, 0)


def _watch(server: int, secret: bytes) -> None:
    end = time.monotonic() + WAIT_S
    problem = "the server was not ready to be told"
    while time.monotonic() < end:
        time.sleep(0.05)
        try:
            has_started = len(os.listdir(f"/proc/{server}/task")) > 1
            if not has_started or secret not in Path(f"/proc/{server}/cmdline").read_bytes():
                continue
            time.sleep(SETTLE_S)
            if hide(server, secret):
                return
        except FileNotFoundError:
            return
        except OSError as error:
            problem = error.strerror or str(error)
            break
    sys.stderr.write(f"W the secret of the repository API can be read in the process list: {problem}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
