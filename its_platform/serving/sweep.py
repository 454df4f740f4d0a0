"""A detector under the same load in each of several settings, on Tritons of its own.

Enters: a version that lies in the repository, pictures, the candidates. Leaves: `Measured`s. Each candidate has a
server with its own ports and its own copy of the version, so live traffic keeps its server (not its cores). All run
while the rounds go through them in turn, so that a slow minute of the machine slows each alike. Choosing is in
`tuning.py`.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from its_platform.errors import BadInput, ItsError, NotFound
from its_platform.serving import repository
from its_platform.serving.client import DetectorClient, Images
from its_platform.serving.processes import cpu_s, free_ports, running, stubs
from its_platform.serving.repository import Route
from its_platform.serving.server import start_triton, stop_triton
from its_platform.serving.tuning import Candidate, Choice, Measured, TuneRound, candidate_in_force, choose
from its_platform.settings import Ports, SecuritySettings, Settings
from its_platform.telemetry import Progress, no_progress

# A gate's question is neither answered from a cache nor counted as a live picture.
PURPOSE = "gate"
TASK = "tune"
WARM_UP_REQUESTS = 8
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Load:
    """What is offered: so many requests under way at once, for so long, so often."""

    concurrency: int = 4
    rounds: int = 3
    round_s: float = 4.0


@dataclass(frozen=True)
class Sweep:
    """A finished sweep."""

    at: datetime
    model: str
    version: int
    load: Load
    limit_p95_ms: float
    cores: int
    in_force: Candidate
    measured: tuple[Measured, ...]
    choice: Choice

    def as_json(self) -> dict[str, Any]:
        best = self.choice.best.candidate
        return {
            "at": self.at.isoformat(),
            "model": self.model,
            "version": self.version,
            "concurrency": self.load.concurrency,
            "rounds": self.load.rounds,
            "round_s": self.load.round_s,
            "limit_p95_ms": self.limit_p95_ms,
            "cores": self.cores,
            "settings": [
                {
                    **one.as_row(),
                    "is_best": one.candidate == best,
                    "is_in_force": one.candidate == self.in_force,
                    "each_round": [
                        {
                            "images_per_s": round(each.images_per_s, 2),
                            "p50_ms": round(each.p50_ms, 1),
                            "p95_ms": round(each.p95_ms, 1),
                            "cpu_ms": round(each.cpu_ms, 2),
                        }
                        for each in one.rounds
                    ],
                }
                for one in self.measured
            ],
            "is_within_limit": self.choice.is_within_limit,
            "why": self.choice.why,
        }


def route_to_tune(settings: Settings, version: int | None) -> Route:
    """The route of the version in production, or of a placed one by its number. Raises `NotFound`."""
    routes = repository.read_routes(settings)
    if version is None:
        if "production" not in routes:
            raise NotFound("Nothing is in production that could be tuned.", "Release a model, or give --version.")
        return routes["production"]
    for route in routes.values():
        if route.version == version:
            return route
    for model in repository.served_models(settings):
        if version in repository.placed_versions(settings, model):
            return repository.placed_route(settings, model, version)
    raise NotFound(f"Version {version} is not in the repository.", "Stage it: `its release stage`.")


def sweep(
    settings: Settings,
    route: Route,
    pictures: Images,
    candidates: Sequence[Candidate],
    load: Load,
    limit_p95_ms: float,
    cores: int,
    progress: Progress = no_progress,
) -> Sweep:
    """Measure each candidate and choose.

    pictures: uint8 `[n, H, W, 3]` RGB, sent one a request in turn. Raises `BadInput` for settings with which Triton
    does not start or which fail every request.
    """
    folder = settings.home / "serving" / "tune" / "work"
    shutil.rmtree(folder, ignore_errors=True)
    steps = len(candidates) * (1 + load.rounds)
    own: list[Settings] = []
    with ExitStack() as at_the_end:
        at_the_end.callback(shutil.rmtree, folder, ignore_errors=True)
        at_the_end.callback(_stop, own)
        for number, candidate in enumerate(candidates):
            progress(TASK, number, steps, f"start {candidate.name}")
            site = _site(settings, candidate, folder / str(number))
            _copy_version(settings, site, route)
            own.append(site)
            start_triton(site)
        rounds: list[list[TuneRound]] = [[] for _ in candidates]
        for turn in range(load.rounds):
            # Who goes first changes, so that what the round before left does not always meet the same one.
            order = [(turn + step) % len(candidates) for step in range(len(candidates))]
            for done, number in enumerate(order):
                at = len(candidates) * (1 + turn) + done
                progress(TASK, at, steps, f"round {turn + 1} of {load.rounds}: {candidates[number].name}")
                rounds[number].append(measure(own[number], pictures, load))
        progress(TASK, steps, steps, "done")
    measured = tuple(Measured(one, tuple(found)) for one, found in zip(candidates, rounds, strict=True))
    return Sweep(
        datetime.now(UTC),
        route.model,
        route.version,
        load,
        limit_p95_ms,
        cores,
        candidate_in_force(settings.serving),
        measured,
        choose(measured, limit_p95_ms),
    )


def measure(site: Settings, pictures: Images, load: Load) -> TuneRound:
    """One round of load on a running Triton."""
    times_s, failed, taken_s, cpu = asyncio.run(_ask(site, pictures, load))
    if not times_s:
        return TuneRound(0.0, 0.0, 0.0, 0.0, max(failed, 1))
    ordered = sorted(times_s)
    return TuneRound(
        images_per_s=len(ordered) / taken_s,
        p50_ms=statistics.median(ordered) * 1000,
        p95_ms=ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))] * 1000,
        cpu_ms=cpu * 1000 / len(ordered),
        failed=failed,
    )


def write_sweep(settings: Settings, found: Sweep, page: Callable[[Sweep], str]) -> tuple[Path, Path]:
    """Keep a sweep as JSON and as a page below `home/serving/tune`; the two files."""
    folder = settings.home / "serving" / "tune"
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{found.at:%Y%m%d-%H%M%S}-version{found.version}"
    table, picture = folder / f"{stem}.json", folder / f"{stem}.html"
    table.write_text(json.dumps(found.as_json(), indent=1), encoding="utf-8")
    picture.write_text(page(found), encoding="utf-8")
    return table, picture


async def _ask(site: Settings, pictures: Images, load: Load) -> tuple[list[float], int, float, float]:
    """Keep `concurrency` requests under way; seconds of each answer, failures, seconds in all, CPU seconds."""
    times: list[float] = []
    failed = 0
    end = 0.0

    async def ask(client: DetectorClient, first: int) -> None:
        nonlocal failed
        number = first
        while time.monotonic() < end:
            started = time.monotonic()
            try:
                await client.detect(pictures[number % len(pictures)], "tune", purpose=PURPOSE)
                times.append(time.monotonic() - started)
            except ItsError:
                failed += 1
            number += 1

    async with DetectorClient(site, deadline_s=DEADLINE_S) as client:
        await asyncio.gather(*(client.detect(pictures[0], "tune", purpose=PURPOSE) for _ in range(WARM_UP_REQUESTS)))
        before, started = _cpu_s(site), time.monotonic()
        end = started + load.round_s
        async with asyncio.TaskGroup() as group:
            for number in range(load.concurrency):
                group.create_task(ask(client, number))
        return times, failed, time.monotonic() - started, _cpu_s(site) - before


def _cpu_s(site: Settings) -> float:
    server = running(site)
    return sum(cpu_s(pid) for pid in [*([server.pid] if server else []), *(stub.pid for stub in stubs(site))])


def _stop(sites: Sequence[Settings]) -> None:
    """Together, since each takes its seconds."""
    with ThreadPoolExecutor(max(len(sites), 1)) as pool:
        list(pool.map(stop_triton, sites))


def _site(settings: Settings, candidate: Candidate, home: Path) -> Settings:
    """Settings of a Triton of a candidate's own."""
    serving = settings.serving.model_copy(
        update={
            "instances": candidate.instances,
            "threads": candidate.threads,
            "dynamic_batching": candidate.dynamic_batching,
            "replicas": 1,
            "cache_mb": 0.0,
            "redis_url": None,
            "endpoints": (),
        }
    )
    http, grpc, metrics = free_ports(3)
    ports = Ports(triton_http=http, triton_grpc=grpc, triton_metrics=metrics)
    # It is asked by this process alone, at this machine's own address.
    own = {"home": home, "serving": serving, "ports": ports, "host": "127.0.0.1"}
    return settings.model_copy(update={**own, "security": SecuritySettings(triton_tls=False)})


def _copy_version(settings: Settings, site: Settings, route: Route) -> None:
    source = settings.model_repository / route.model / str(route.version)
    if flaw := repository.flaw_of(settings, route.model, route.version):
        raise BadInput(f"Version {route.version} of {route.model} {flaw}.", "Run `its release reconcile`.")
    shutil.copytree(source, site.model_repository / route.model / str(route.version))
    repository.write_routes(site, {"production": route})
