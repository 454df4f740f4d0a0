"""Objects of 100 kB stored and read a second against the SDK alone and SeaweedFS's own tool, and what sealing costs.

    python benchmarks/objects.py

A SeaweedFS of its own is started, as `its up --profile services` does. Ours is the store that every stage writes to,
sealed, with the platform's checksums; the peer is the S3 SDK bare, with the same connection, TLS and objects, and both
keep as many requests under way. `weed benchmark`, which speaks the server's inner protocol without TLS, signature and
names, is measured beside them and decides nothing. Both sides take turns within a round.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from io import BytesIO
from pathlib import Path

from rich.console import Console

from figures import Comparison, Figure, Round, at_most, measure, times_peer
from its_platform.settings import Settings
from its_platform.stores.keys import DataKey, KeyFolder, Owner
from its_platform.stores.object_server import is_object_server_well, object_server_command
from its_platform.stores.objects import S3Store, open_objects
from its_platform.stores.retention import Retention, arrange
from its_platform.stores.sealing import SealedStore, seal, unseal
from its_platform.telemetry import Progress, no_progress
from workplace import command_of, own_home, run_alone

COMMAND = command_of("objects")
SIZE = 100_000
OBJECTS = 150
"""Of each side in a round; enough that a pause of the server does not decide."""
THREADS = 4
FLOOR = 0.8
SEALINGS = 200
SEALING_MS = 1.0
"""A twentieth of what taking a frame of 640x360 in costs."""
OWNER = Owner("bench", date(2026, 5, 1))


def rate_of(name: str) -> Comparison:
    return Comparison(
        f"objects of 100 kB, {name}", "the S3 SDK alone", "a second", times_peer(FLOOR), COMMAND, "higher"
    )


STORED, READ = rate_of("stored"), rate_of("read")
SEALING = Comparison(
    "sealing and opening 100 kB", "hashing them", "CPU ms", at_most(SEALING_MS), COMMAND, split_unit="CPU ms"
)


def figures(progress: Progress = no_progress) -> list[Figure]:
    with own_home() as settings:
        settings = settings.model_copy(update={"profile": "services"})
        with running(settings):
            ours = open_objects(settings)
            assert isinstance(ours.inner, S3Store)
            ours.inner.create_bucket()
            arrange(ours.inner, Retention())

            def one_round() -> dict[str, Round]:
                return {**rates_round(ours, ours.inner), SEALING.name: sealing_round()}

            one_round()
            made = measure([STORED, READ, SEALING], one_round, progress)
            Console().print(f"weed benchmark, {THREADS} at a time: {own_tool(settings):.0f} written a second")
            return made


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """The server, until the block ends."""
    argv, environment = object_server_command(settings)
    settings.logs.mkdir(parents=True, exist_ok=True)
    with (settings.logs / "objects.log").open("w") as log:
        server = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not answers(settings):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"SeaweedFS did not start: {(settings.logs / 'objects.log').read_text()[-500:]}")
            time.sleep(0.3)
        yield
    finally:
        server.terminate()
        server.wait(30)


def answers(settings: Settings) -> bool:
    from its_platform.errors import ServerUnavailable

    try:
        return is_object_server_well(settings)
    except ServerUnavailable:
        return False


def rates_round(ours: SealedStore, bare: S3Store) -> dict[str, Round]:
    """Both store the same number of objects and read them; small batches take turns."""
    spent = {"ours put": 0.0, "peer put": 0.0, "ours get": 0.0, "peer get": 0.0}
    mark, batch = uuid.uuid4().hex, OBJECTS // 5
    data = [os.urandom(SIZE) for _ in range(batch)]
    client, bucket = bare.client, bare.bucket

    def bare_put(key: str, one: bytes) -> None:
        client.put_object(bucket, key, BytesIO(one), len(one))

    def bare_get(key: str) -> bytes:
        answer = client.get_object(bucket, key)
        try:
            return bytes(answer.read())
        finally:
            answer.close()
            answer.release_conn()

    sides: list[tuple[str, Callable[[str, bytes], None], Callable[[str], bytes]]] = [
        ("ours", lambda key, one: ours.put(key, one, OWNER), ours.get),
        ("peer", bare_put, bare_get),
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        for turn in range(5):
            for name, put, get in sides if turn % 2 == 0 else sides[::-1]:
                keys = [f"frames/bench/{mark}/{name}{turn}-{number}" for number in range(batch)]
                spent[f"{name} put"] += seconds(lambda: list(pool.map(put, keys, data)))  # noqa: B023
                got: list[bytes] = []
                spent[f"{name} get"] += seconds(lambda: got.extend(pool.map(get, keys)))  # noqa: B023
                if got != data:
                    raise RuntimeError(f"{name}: what was read is not what was stored")
    rate = {name: 5 * batch / took for name, took in spent.items()}
    return {
        STORED.name: Round(rate["ours put"], rate["peer put"]),
        READ.name: Round(rate["ours get"], rate["peer get"]),
    }


def sealing_round() -> Round:
    """CPU of this process alone: sealing and opening wait for nothing."""
    import hashlib

    data = os.urandom(SIZE)
    with tempfile.TemporaryDirectory(prefix="its-bench-keys-") as folder:
        keys = KeyFolder(Path(folder))
        key: DataKey = keys.for_sealing(OWNER)
        sealed = seal(key, "a", data)
        sealing = cpu_ms(lambda: seal(keys.for_sealing(OWNER), "a", data))
        opening = cpu_ms(lambda: unseal(keys, "a", sealed))
    hashing = cpu_ms(lambda: hashlib.sha256(data).digest())
    return Round(sealing + opening, hashing, split={"sealing": sealing, "opening": opening})


def own_tool(settings: Settings) -> float:
    """Objects a second that `weed benchmark` writes, with as many requests under way.

    What it reads is refused: the inner doors want a token for reading as well, which it does not have.
    """
    words, _ = object_server_command(settings)
    folder = settings.services.absolute() / "objects"
    # Its gRPC port is the next one, not ten thousand above as it would assume.
    master = f"{settings.host}:{settings.ports.objects_inner}.{settings.ports.objects_inner + 1}"
    argv = [words[0], f"-config_dir={folder}", "benchmark", f"-master={master}"]
    argv += [f"-c={THREADS}", f"-n={OBJECTS * 5}", f"-size={SIZE}", f"-list={folder / 'benchmark'}"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"Requests per second:\s+([\d.]+)", said.stdout)
    if found is None:
        raise RuntimeError(f"weed benchmark said nothing of its rate: {(said.stdout + said.stderr)[-500:]}")
    return float(found[1])


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def cpu_ms(work: Callable[[], object]) -> float:
    start = time.process_time()
    for _ in range(SEALINGS):
        work()
    return (time.process_time() - start) / SEALINGS * 1000


if __name__ == "__main__":
    sys.exit(run_alone(figures))
