"""`its serving`: Triton and what it serves; and `its detect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from its_platform.cli.output import JsonFlag, emit, rows_table, say, say_warnings
from its_platform.errors import BadInput, NotFound, ServerUnavailable
from its_platform.settings import load_settings

if TYPE_CHECKING:
    from rich.console import RenderableType

    from its_platform.serving.detect import DetectResult

app = typer.Typer(help="Triton and the models that it serves.", no_args_is_help=True)


@app.command()
def start(
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay until Ctrl-C, and stop Triton then.")] = False,
    json: JsonFlag = False,
) -> None:
    """Start Triton with the front and every served detector."""
    from its_platform.serving.replicas import addresses
    from its_platform.serving.server import start_tritons, stop_tritons

    settings = load_settings()
    found = start_tritons(settings)
    rows = [
        {"pid": process.pid, "grpc": address, "log": process.log}
        for process, address in zip(found, addresses(settings), strict=True)
    ]
    emit(rows if len(rows) > 1 else rows[0], json)
    if foreground:
        import signal
        import time

        from its_platform.serving.processes import is_alive

        # A polite end of this command must not leave the server behind.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            while any(is_alive(process.pid) for process in found):
                time.sleep(1)
        except KeyboardInterrupt:
            say("Stopping Triton.")
        finally:
            stop_tritons(settings)


@app.command()
def stop(json: JsonFlag = False) -> None:
    """Stop Triton; takes 5 to 7 seconds."""
    from its_platform.serving.server import stop_tritons

    emit({"stopped": stop_tritons(load_settings()) > 0}, json)


@app.command()
def status(json: JsonFlag = False) -> None:
    """Which model versions Triton has loaded, and which stage each answers."""
    from its_platform.serving.client import with_client
    from its_platform.serving.config import FRONT
    from its_platform.serving.replicas import replica_settings
    from its_platform.serving.repository import cache_counts, read_routes

    settings = load_settings()
    routes = read_routes(settings)
    counts = cache_counts(settings)
    each = {
        own.triton_grpc: with_client(own, lambda client: client.repository_index(), deadline_s=3.0)
        for own in replica_settings(settings)
    }
    rows = [
        {
            **({"endpoint": address} if len(each) > 1 else {}),
            "model": state.name,
            "version": state.version,
            "is_ready": state.is_ready,
            "stages": [
                stage for stage, route in routes.items() if (route.model, route.version) == (state.name, state.version)
            ],
            "reason": state.reason,
            "cache": counts if state.name == FRONT else None,
        }
        for address, states in each.items()
        for state in states
    ]
    emit(rows, json)


@app.command()
def probe(
    revive: Annotated[bool, typer.Option("--revive", help="Load what does not answer anew.")] = False,
    json: JsonFlag = False,
) -> None:
    """Ask every instance of everything that is served; fails when one does not answer."""
    from its_platform.serving import health
    from its_platform.serving.replicas import replica_settings

    replicas = replica_settings(load_settings())
    revived = [name for own in replicas for name in (health.revive(own) if revive else [])]
    results = [result for own in replicas for result in health.probe(own)]
    emit({"revived": revived, "probes": results} if json else results, json)
    if not all(result.is_healthy for result in results):
        problem = next(result.problem for result in results if not result.is_healthy)
        raise ServerUnavailable(f"Not everything answers: {problem}", "Try `its serving probe --revive`.")


@app.command()
def tune(
    version: Annotated[
        int | None, typer.Option(help="Tune this placed version. [default: production]", show_default=False)
    ] = None,
    instances: Annotated[
        str, typer.Option(help="Copies to try, as 1,2. [default: by the cores]", show_default=False)
    ] = "",
    threads: Annotated[str, typer.Option(help="Threads of each copy to try.")] = "1,2",
    batching: Annotated[bool, typer.Option("--batching", help="Try Triton's dynamic batching as well.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at once.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, each through every setting in turn.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.5, help="How long a setting is asked in a round.")] = 4.0,
    limit_ms: Annotated[float, typer.Option(min=1, help="95 % of the answers have to come within.")] = 250.0,
    apply: Annotated[bool, typer.Option("--apply", help="Write the best setting into settings.yaml.")] = False,
    json: JsonFlag = False,
) -> None:
    """Measure copies, threads and batching on a Triton apart from the live one, and say which is best."""
    import os

    from its_platform.cli.tune import picture_for, sweep_table
    from its_platform.serving import sweep as sweeping
    from its_platform.serving import tuning
    from its_platform.serving.sweep_page import page_of
    from its_platform.telemetry import terminal_progress

    settings = load_settings()
    cores = len(os.sched_getaffinity(0))
    route = sweeping.route_to_tune(settings, version)
    candidates = tuning.candidates_for(
        _numbers(instances) or tuning.default_instances(cores),
        _numbers(threads),
        {settings.serving.dynamic_batching, *([True, False] if batching else [])},
        cores,
    )
    load = sweeping.Load(concurrency, rounds, seconds)
    picture = picture_for(settings, route.version)
    with terminal_progress() as progress:
        found = sweeping.sweep(settings, route, picture, candidates, load, limit_ms, cores, progress)
    table, page = sweeping.write_sweep(settings, found, page_of)
    best = found.choice.best.candidate
    written = tuning.apply_settings(settings.home, best) if apply else None
    emit({**found.as_json(), "table": table, "page": page, "applied": written}, json, lambda: sweep_table(found))
    if not json:
        say(f"Best: {best.name}; {found.choice.why}.")
        say(f"Picture: {page}")
        if written is None:
            say(f"To use it, put this into {settings.home / 'settings.yaml'}, or run again with --apply:")
            say(tuning.settings_lines(best).rstrip())
        else:
            say(f"Written into {written}; a restart of Triton makes it so: `its serving stop`, `its serving start`.")


@app.command()
def publish(json: JsonFlag = False) -> None:
    """Put what is served now where hosts fetch it, every file anew; a release does so by itself."""
    from its_platform.release.hosts.place import PUBLISH_SETTING
    from its_platform.release.hosts.publishing import publish as publish_truth
    from its_platform.release.truth import lease
    from its_platform.stores import open_stores

    with lease(open_stores(load_settings()), wait_s=30.0) as held:
        told = publish_truth(held, is_anew=True)
    if told is None:
        raise NotFound(
            "There is nothing to publish, or no place for it.",
            f"Release a version; {PUBLISH_SETTING} names the place, which the services profile has of its own.",
        )
    stages = {stage: f"{one.route.model} version {one.route.version}" for stage, one in told.wish.stages.items()}
    emit({"place": told.shelf, "generation": told.wish.generation, "key": told.key, **stages}, json)


@app.command()
def host(
    out: Annotated[Path, typer.Argument(help="A new folder, which becomes the host's home.", show_default=False)],
    address: Annotated[
        str, typer.Option(help="host:port by which it reaches this S3 server. [default: this machine's]")
    ] = "",
    json: JsonFlag = False,
) -> None:
    """Write what a host needs to serve what is released here: settings, public key, authority."""
    from its_platform.release.hosts.place import write_host_home

    emit([{"file": path} for path in write_host_home(load_settings(), out, address)], json)
    if not json:
        say(f"Bring the folder to the host and run `ITS_HOME={out.name} its up` there. Its settings hold a secret.")


@app.command()
def sync(
    watch: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C.")] = False, json: JsonFlag = False
) -> None:
    """At a host: fetch what is published for it, and serve that; fails when something was refused."""
    from its_platform.release.hosts import agent
    from its_platform.release.hosts.signing import PublicationRefused
    from its_platform.release.hosts.syncing import sync as sync_once
    from its_platform.telemetry import configure_logs, silence_tools

    settings = load_settings()
    if watch:
        silence_tools()
        configure_logs("sync")
        agent.watch(settings)
        return
    done = sync_once(settings, is_anew=True)
    emit(done, json)
    if done.refused:
        raise PublicationRefused(f"Refused: {done.refused[0]}")
    if done.problem:
        raise ServerUnavailable(done.problem)


def _numbers(text: str) -> list[int]:
    try:
        return [int(one) for one in text.split(",") if one.strip()]
    except ValueError as error:
        raise BadInput(f"{text!r} are no numbers.", "Write them like 1,2,4.") from error


def detect(
    source: Annotated[Path, typer.Argument(help="A picture, a video, or a folder of pictures.", show_default=False)],
    stage: Annotated[str | None, typer.Option(help="Ask this stage. [default: production]", show_default=False)] = None,
    version: Annotated[int | None, typer.Option(help="Ask this served version.", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write. [default: beside it]", show_default=False)] = None,
    confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Instead of the version's thresholds.", show_default=False)
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Take each n-th frame of a video.")] = 1,
    json: JsonFlag = False,
) -> None:
    """Draw the served detector's boxes on a picture or a video."""
    from its_platform.serving.detect import Asked, detect_file
    from its_platform.telemetry import terminal_progress

    settings = load_settings()
    with terminal_progress() as progress:
        result = detect_file(settings, source, out, Asked(stage, version, confidence), every, progress)
    emit(result, json, lambda: _result_table(result))
    say_warnings(str(source), result.problems)


def _result_table(result: DetectResult) -> RenderableType:
    found = ", ".join(f"{name}: {count}" for name, count in result.by_class.items()) or "nothing"
    rows = {
        "written": result.out,
        "frames": result.frames,
        "found": found,
        "model": f"{result.model} version {result.version}",
    }
    return rows_table([{"fact": key, "value": str(value)} for key, value in rows.items()])
