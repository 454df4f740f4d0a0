"""What processes hold, by their own kernel's word."""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from footprint import footprint_of, memory_of

HOLDS_MB = 60
# A parent that keeps its memory, two files and a thread, and a child that shares that memory.
PROGRAM = f"""
import os, sys, threading
held = b"x" * {HOLDS_MB}_000_000
files = [open("/dev/null") for _ in range(2)]
threading.Thread(target=sys.stdin.read).start()
if os.fork() == 0:
    print("there", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def family() -> Iterator[list[psutil.Process]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "there\n"
        parent = psutil.Process(started.pid)
        members = [parent, *parent.children()]
        try:
            yield members
        finally:
            for one in members[::-1]:
                one.kill()


def test_memory_that_a_child_shares_counts_once_for_both(family: list[psutil.Process]) -> None:
    both = footprint_of(family)
    if not both.is_shared_out:
        pytest.skip("this kernel does not tell the shares of shared pages")
    assert HOLDS_MB < both.memory_mb < 2 * HOLDS_MB
    assert sum(one.memory_info().rss for one in family) / 1e6 > 2 * HOLDS_MB


def test_files_threads_and_cpu_of_all_are_added_up(family: list[psutil.Process]) -> None:
    both, parent = footprint_of(family), footprint_of(family[:1])
    # Three streams and two files, in each of the two.
    assert (parent.descriptors, both.descriptors) == (5, 10)
    # `/dev/null` and the streams are no regular files.
    assert (parent.files, both.files) == (0, 0)
    assert (parent.threads, both.threads) == (2, 3)
    assert both.cpu_s >= parent.cpu_s > 0
    assert both.pid == parent.pid == family[0].pid


def test_one_that_has_ended_counts_for_nothing(family: list[psutil.Process]) -> None:
    before = footprint_of(family[:1])
    family[1].kill()
    # Its parent never waits, so that it stays a zombie, which holds nothing.
    psutil.wait_procs(family[1:], timeout=0.5)
    after = footprint_of(family)
    assert (after.descriptors, after.threads) == (before.descriptors, before.threads)


def test_a_segment_of_shared_memory_is_told_beside_the_rest() -> None:
    before = footprint_of([psutil.Process()])
    if not before.is_shared_out:
        pytest.skip("this kernel does not tell the shares of shared pages")
    with mmap.mmap(-1, HOLDS_MB * 1_000_000, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) as segment:
        segment.write(b"x" * len(segment))
        after = footprint_of([psutil.Process()])
    assert after.segments_mb - before.segments_mb == pytest.approx(HOLDS_MB, abs=1)


def test_a_file_that_is_held_twice_is_one_file(tmp_path: Path) -> None:
    before = footprint_of([psutil.Process()])
    (tmp_path / "table").write_bytes(b"rows")
    with open(tmp_path / "table", "rb"), open(tmp_path / "table", "rb"):
        after = footprint_of([psutil.Process()])
    assert (after.descriptors - before.descriptors, after.files - before.files) == (2, 1)


def test_memory_of_a_process_that_is_gone_is_not_zero_but_an_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    with pytest.raises((OSError, psutil.Error)):
        memory_of(gone.pid)
