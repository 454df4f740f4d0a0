"""Figures of the machine and of what runs on it: parts, stores, disks, certificates, backups, the front's files."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from its_platform.backup import backup_ids, made_at, open_target
from its_platform.certificates import read_certificates
from its_platform.doctor.machine import disks
from its_platform.errors import ServerUnavailable
from its_platform.serving.repository import cache_counts
from its_platform.settings import Settings
from its_platform.stack import POSTGRES, stack_status
from its_platform.stores.cache_server import is_redis_well, redis_url
from its_platform.stores.objects import S3Store, open_plain


def parts(settings: Settings) -> Iterator[Metric]:
    """Each server that was started: whether it answers, its memory, its age, and how often it was started again."""
    up = GaugeMetricFamily("its_part_up", "Whether a part answers a real request.", labels=["part"])
    age = GaugeMetricFamily("its_part_uptime_seconds", "Since a part was started.", labels=["part"])
    restarts = CounterMetricFamily("its_part_restarts", "Starts after the first one of `its up`.", labels=["part"])
    memory = GaugeMetricFamily(
        "its_part_memory_bytes", "Memory of a part's processes; shared pages count for each.", labels=["part"]
    )
    for one in stack_status(settings):
        # A database of somebody else's is a store and no part.
        if one.state == "stopped" or (one.name == POSTGRES and not settings.runs_postgres):
            continue
        up.add_metric([one.name], one.is_healthy)
        if one.memory_mb is not None:
            memory.add_metric([one.name], one.memory_mb * 1e6)
        if one.uptime_s is not None:
            age.add_metric([one.name], one.uptime_s)
        if one.restarts is not None:
            restarts.add_metric([one.name], one.restarts)
    yield from (up, memory, age, restarts)


def stores(settings: Settings, ask_database: Callable[[], None]) -> Iterator[Metric]:
    """Whether rows, objects and shared answers can be had, whoever runs the servers."""
    up = GaugeMetricFamily("its_store_up", "Whether a store answers a real request.", labels=["store"])
    seconds = GaugeMetricFamily("its_store_answer_seconds", "How long a store took to answer.", labels=["store"])
    asked: dict[str, Callable[[], None]] = {"postgres": ask_database}
    objects = open_plain(settings)
    if isinstance(objects, S3Store):
        asked["objects"] = objects.ask
    if redis_url(settings) is not None:
        asked["redis"] = partial(_insist, is_redis_well, settings)
    with ThreadPoolExecutor(len(asked)) as pool:
        for name, took_s in zip(asked, pool.map(_seconds_of, asked.values()), strict=True):
            up.add_metric([name], took_s is not None)
            if took_s is not None:
                seconds.add_metric([name], took_s)
    yield from (up, seconds)


def room(settings: Settings) -> Iterator[Metric]:
    """Free room on each disk that the home reaches."""
    free = GaugeMetricFamily("its_disk_free_bytes", "Room that is left on a disk.", labels=["folder"])
    size = GaugeMetricFamily("its_disk_size_bytes", "Size of a disk.", labels=["folder"])
    for folder in disks(settings.home.absolute()):
        usage = shutil.disk_usage(folder)
        free.add_metric([str(folder)], usage.free)
        size.add_metric([str(folder)], usage.total)
    yield from (free, size)


def certificates(settings: Settings) -> Iterator[Metric]:
    """When each certificate of this home ends."""
    until = GaugeMetricFamily(
        "its_certificate_expiry_timestamp_seconds", "When a certificate ends.", labels=["certificate"]
    )
    for one in read_certificates(settings.certificates):
        until.add_metric([one.file.stem], one.until.timestamp())
    yield until


def backups(settings: Settings) -> Iterator[Metric]:
    """How many backups there are, when the newest was made, and when one is late; nothing where no place is set."""
    if settings.backup.url is None:
        return
    count = GaugeMetricFamily("its_backups", "Backups that lie at the place for them.")
    newest = GaugeMetricFamily("its_backup_newest_timestamp_seconds", "When the newest backup was made.")
    due = GaugeMetricFamily("its_backup_due_seconds", "Age from which the newest backup is too old.")
    ids = backup_ids(open_target(settings))
    count.add_metric([], len(ids))
    if ids:
        newest.add_metric([], made_at(ids[-1]).timestamp())
    due.add_metric([], settings.backup.warn_after_days * 86_400)
    yield from (count, newest, due)


def front(settings: Settings) -> Iterator[Metric]:
    """The files of Triton's front: rows that wait to be collected, rows that were lost, and its answer cache."""
    waiting = GaugeMetricFamily("its_spool_files", "Files of log rows that wait to be collected.", labels=["log"])
    size = GaugeMetricFamily("its_spool_bytes", "Size of these files.", labels=["log"])
    refused = GaugeMetricFamily("its_spool_refused_files", "Files with lines that could not be read.", labels=["log"])
    lost = CounterMetricFamily("its_front_lost_rows", "Log rows that could not be kept.", labels=["log"])
    for log, folder in (("predictions", settings.spool), ("pairs", settings.pairs_spool)):
        count, total = _size_of(folder, ".jsonl")
        waiting.add_metric([log], count)
        size.add_metric([log], total)
        refused.add_metric([log], _size_of(folder / "refused", ".jsonl")[0])
        lost.add_metric([log], _lost(folder / "lost.json"))
    cache = CounterMetricFamily("its_front_cache", "What the front's answer cache counted.", labels=["event"])
    for event, happened in cache_counts(settings).items():
        cache.add_metric([event], happened)
    yield from (waiting, size, refused, lost, cache)


def _insist(is_well: Callable[[Settings], bool], settings: Settings) -> None:
    if not is_well(settings):
        raise ServerUnavailable("It does not answer.")


def _seconds_of(ask: Callable[[], None]) -> float | None:
    """How long a store took to answer; None where it did not, which is what was asked."""
    started = time.perf_counter()
    try:
        ask()
    except ServerUnavailable:
        return None
    return time.perf_counter() - started


def _size_of(folder: Path, ending: str) -> tuple[int, int]:
    """Number and bytes of the files in a folder; none where it has not been made yet."""
    if not folder.exists():
        return 0, 0
    count = total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(ending):
                count += 1
                try:
                    total += entry.stat().st_size
                except FileNotFoundError:
                    # It was collected meanwhile.
                    count -= 1
    return count, total


def _lost(path: Path) -> int:
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["lost"])
    except FileNotFoundError:
        return 0
