"""The stack that the faults are injected into: one tiny loop with a served version, and a live requester beside it.

Enters: an empty folder. Leaves: a `Stand`, through which a test lets time pass, breaks something, asks the doctor,
waits for facts and counts what was lost. Which faults there are is the business of `test_faults.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import yaml

from faults.record import FaultRecord
from faults.requester import CAMERA, PURPOSE
from its_platform import doctor, processes
from its_platform.cameras import Camera, add_camera, list_cameras
from its_platform.demo.run import Demo, segment_times
from its_platform.demo.scales import SCALES
from its_platform.errors import ItsError
from its_platform.processes import process_environment
from its_platform.release import served
from its_platform.serving.config import FRONT
from its_platform.serving.health import probe
from its_platform.serving.processes import StubProcess, free_ports, is_halted, stubs
from its_platform.settings import REPOSITORY, Ports, Settings, load_settings
from its_platform.stack import start_stack, stop_stack
from its_platform.stores import Stores, open_stores
from its_platform.stores.database import database_url
from its_platform.stores.object_server import INNER_PORTS
from its_platform.telemetry import no_progress
from ports import free_port_range

if TYPE_CHECKING:
    import pandas as pd

POLL_S = 0.25
# What takes seconds on a quiet machine; a wait ends with its fact, not with its time.
PATIENCE_S = 600.0
OBJECTS_MB = 8192
SCALE = SCALES["tiny"]
Fact = Callable[[], Any]


class NotSeen(AssertionError):
    """A fact that a fault's promise rests on did not come about in time."""


def until(fact: Fact, what: str, within_s: float = PATIENCE_S, poll_s: float = POLL_S) -> Any:
    """Wait until `fact()` is true, and give it; a server that is away is asked again. Raises `NotSeen`."""
    deadline, problem = time.monotonic() + within_s, ""
    while time.monotonic() < deadline:
        try:
            found = fact()
            problem = ""
        except (ItsError, OSError, sa.exc.SQLAlchemyError) as error:
            found, problem = None, f" ({error})"
        if found:
            return found
        time.sleep(poll_s)
    raise NotSeen(f"after {within_s:.0f} s still not: {what}{problem}")


def settings_at(home: Path, profile: str) -> Settings:
    """The tiny scale's settings with free ports, also written where a person's `its` finds them."""
    names = list(Ports.model_fields)
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    ports["objects_inner"] = free_port_range(INNER_PORTS)
    groups: dict[str, Any] = {name: dict(group) for name, group in SCALE.settings.items()}
    # The requester's rows would otherwise start a collection every few seconds on cores that have other work.
    groups["sensors"] = {"interval_s": 5}
    # A version goes live at once; what a canary survives is in tests/integration/test_release_faults.py.
    groups["canary"] = {"steps": []}
    home.mkdir(parents=True)
    told = {"home": str(home), "profile": profile, "ports": ports, **groups}
    (home / "settings.yaml").write_text(yaml.safe_dump(told), "utf-8")
    return load_settings(**told)


@dataclass
class Stand:
    """A running stack. `records` holds what came of each fault, in the order of the faults."""

    settings: Settings
    has_own_disk: bool = False
    records: list[FaultRecord] = field(default_factory=list)
    requester: subprocess.Popen[bytes] | None = None
    # Camera and capture time of every frame that was ever seen in the index.
    frames_seen: set[tuple[str, datetime]] = field(default_factory=set)

    @property
    def stores(self) -> Stores:
        return open_stores(self.settings)

    @property
    def demo(self) -> Demo:
        folder = self.settings.home / "demo"
        return Demo(self.settings, self.stores, folder, no_progress, lambda name: None, scale=SCALE)

    @property
    def answers(self) -> Path:
        return self.settings.home / "requester.jsonl"

    # Coming up and going down

    def start(self) -> None:
        """Bring the stack up and run the loop to its first served version; then let the requester begin."""
        self.has_own_disk = mount_objects(self.settings)
        start_stack(self.settings)
        known = {camera.camera_id for camera in list_cameras(self.stores)}
        for view in SCALE.views:
            if view not in known:
                source, pause = f"sim://{view}", SCALE.sample_interval_s
                add_camera(self.stores, Camera(camera_id=view, source=source, sample_interval_s=pause))
        segment_times(self.demo, "first dataset")
        self.wait_released(newer_than=0)
        self.frames()
        log = (self.settings.logs / "requester.log").open("ab")
        path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
        self.requester = subprocess.Popen(
            [sys.executable, "-m", "faults.requester", str(self.answers)],
            env={**process_environment(self.settings), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )
        until(lambda: self.answered(0.0), "a first answer to the requester")

    def stop(self) -> None:
        """End the requester and the stack, and give the disk back."""
        self.stop_requester()
        stop_stack(self.settings)
        if self.has_own_disk:
            subprocess.run(["umount", str(objects_disk(self.settings))], check=False)

    def stop_requester(self) -> None:
        if self.requester is not None and self.requester.poll() is None:
            self.requester.terminate()
            try:
                self.requester.wait(90)
            except subprocess.TimeoutExpired:
                self.requester.kill()

    # What a fault is wrapped in

    @contextmanager
    def fault(self, name: str, target: str) -> Iterator[FaultRecord]:
        """Record one fault. Everything is well before; what the block asserts is its promise.

        The block ends when the platform has recovered, unless it sets `recovered_s` itself.
        """
        until(self.is_serving, "all instances answer before the fault")
        record = FaultRecord(name, target, self.settings.profile, began=time.time())
        self.records.append(record)
        started = time.monotonic()
        try:
            yield record
            if record.recovered_s is None:
                record.recovered_s = round(time.monotonic() - started, 1)
            record.is_kept = record.doctor_named
        finally:
            record.ended = time.time()
            record.failed_requests = sum(not one["is_answered"] for one in self.asked(record))

    def named(self, record: FaultRecord, words: str, *checks: doctor.Check, within_s: float = 60.0) -> None:
        """Ask the doctor until a finding that is not well holds these words. Raises `NotSeen`."""

        def finding() -> str:
            for one in doctor.examine(self.settings, checks):
                said = f"{one.name}: {one.finding}"
                if not one.is_well and words in said:
                    assert one.remedy, f"{said}, and not a word on what to do"
                    return said
            return ""

        record.doctor_said = until(finding, f"the doctor names {words!r}", within_s, poll_s=0.05)
        record.doctor_named = True

    def well(self, *checks: doctor.Check) -> None:
        """Wait until the doctor finds nothing wrong by these checks."""
        until(
            lambda: all(one.is_well for one in doctor.examine(self.settings, checks)),
            f"the doctor is content with {', '.join(check.__name__ for check in checks)}",
        )

    # Facts

    def is_serving(self) -> bool:
        results = probe(self.settings)
        return all(one.is_healthy for one in results) and len(results) > 1

    def version(self) -> int:
        """The version in production as the truth has it. Raises what a failed read raises."""
        release = served(self.stores, "production")
        assert release is not None
        return release.version

    def answers_with(self, version: int) -> bool:
        """Whether Triton answers with this version at production, and the truth says so too."""
        results = [one for one in probe(self.settings) if "production" in one.stages and one.version is not None]
        return [one.version for one in results if one.is_healthy] == [version] and self.version() == version

    def serves(self, version: int) -> None:
        """Hold the platform to serving a version; one probe that is late on a busy machine does not count."""
        until(lambda: self.answers_with(version), f"version {version} answers and the truth says so", 60)

    def stub(self, model: str) -> StubProcess:
        """An instance that stays: while a model is loaded anew those of before live on beside the new ones."""
        until(self.is_settled, "no model is being loaded")
        found = [one for one in stubs(self.settings) if one.model.startswith(model) and not is_halted(one.pid)]
        return found[-1]

    def is_settled(self) -> bool:
        """Whether each version has as many instances as it should, for a second: the supervisor loads one by one."""

        def are_all_there() -> bool:
            counted = Counter((one.model, one.version) for one in stubs(self.settings))
            serving = self.settings.serving
            return all(
                number == (serving.front_instances if model == FRONT else serving.instances)
                for (model, _), number in counted.items()
            )

        if not are_all_there():
            return False
        time.sleep(1.0)
        return are_all_there()

    def wait_released(self, newer_than: int) -> int:
        """Wait until a newer version is served and no run of `learn` is left; its number."""

        def is_there() -> bool:
            release = served(self.stores, "production")
            return release is not None and release.version > newer_than and not self.runs("learn", *UNFINISHED)

        until(is_there, f"a served version newer than {newer_than}", 1800)
        return self.version()

    def runs(self, job: str, *statuses: str) -> list[str]:
        """Ids of the runs of a job in these states, oldest first."""
        query = sa.text("SELECT run_id, status FROM runs WHERE pipeline_name = :job ORDER BY id")
        engine = sa.create_engine(database_url(self.settings, "dagster"), poolclass=sa.NullPool)
        with engine.connect() as connection:
            rows = connection.execute(query, {"job": job}).all()
        return [run_id for run_id, status in rows if status in statuses]

    def has_begun(self, run_id: str, step: str, event: str = "STEP_START") -> bool:
        """Whether a step of a run has got to an event."""
        query = sa.text(
            "SELECT count(*) FROM event_logs WHERE run_id = :run AND step_key = :step AND dagster_event_type = :event"
        )
        engine = sa.create_engine(database_url(self.settings, "dagster"), poolclass=sa.NullPool)
        with engine.connect() as connection:
            return bool(connection.execute(query, {"run": run_id, "step": step, "event": event}).scalar())

    def worker(self, run_id: str) -> int:
        """The number of a run's process."""
        query = sa.text(
            "SELECT event FROM event_logs WHERE run_id = :run AND dagster_event_type = 'ENGINE_EVENT' ORDER BY id"
        )
        engine = sa.create_engine(database_url(self.settings, "dagster"), poolclass=sa.NullPool)
        with engine.connect() as connection:
            events = [json.loads(row[0]) for row in connection.execute(query, {"run": run_id})]
        numbers = [
            int(entry["entry_data"]["text"])
            for event in events
            for entry in event["dagster_event"]["event_specific_data"]["metadata_entries"]
            if entry["label"] == "pid"
        ]
        return numbers[0]

    def frames(self) -> pd.DataFrame:
        """Camera, capture time and object of each frame in the index, which are remembered as seen."""
        from its_platform.frames.index import FrameIndex

        rows = FrameIndex(self.stores).query(columns=["camera_id", "captured_at", "object_key"])
        self.frames_seen.update(zip(rows["camera_id"], rows["captured_at"], strict=True))
        return rows

    def frames_of(self, since: datetime, to: datetime) -> tuple[int, int, int]:
        """Frames of a span of time that ingests called taken in, how many are lost, how many the index has twice.

        An ingest writes beside its mark how many frames of the camera there are then; what it left out as duplicates
        is not among them. One that came after a loss would count without what was lost, and what was seen before is
        not forgotten. Lost is what the index lacks, of any time, and what it has without an object.
        """
        from its_platform.stores.schema import IngestMark

        rows = self.frames()
        with self.stores.database.session() as session:
            said = Counter({mark.camera_id: mark.detail["frames"] for mark in session.scalars(sa.select(IngestMark))})
        said |= Counter(camera_id for camera_id, _ in self.frames_seen)
        of_other_times = sum(not since <= at < to for _, at in self.frames_seen)
        inside = rows[(rows["captured_at"] >= since) & (rows["captured_at"] < to)]
        twice = int(inside.duplicated(["camera_id", "captured_at"]).sum())
        held = len(rows.drop_duplicates(["camera_id", "captured_at"]))
        lost = said.total() - held + sum(not self.stores.objects.exists(key) for key in inside["object_key"])
        return said.total() - of_other_times, lost, twice

    # The requester's side

    def asked(self, record: FaultRecord) -> list[dict[str, Any]]:
        """Requests that were sent between the fault and the recovery and have ended."""
        return [one for one in self.answered(record.began, False) if one["sent"] <= record.ended]

    def answered(self, since: float, only_answered: bool = True) -> list[dict[str, Any]]:
        if not self.answers.exists():
            return []
        lines = [json.loads(line) for line in self.answers.read_text("utf-8").splitlines() if line.endswith("}")]
        return [one for one in lines if one["sent"] >= since and (one["is_answered"] or not only_answered)]

    def count_predictions(self) -> None:
        """Hold every answer that the requester got against the table, fault by fault."""
        from its_platform.monitoring import predictions

        def is_settled() -> bool:
            predictions.collect(self.stores)
            return not any(self.settings.spool.glob("*.jsonl*"))

        until(is_settled, "every row of the log is in the table")
        rows = predictions.query(self.stores, cameras=[CAMERA], purpose=PURPOSE, columns=["at", "version"])
        held: dict[tuple[float, int], int] = {}
        for at, version in zip(rows["at"], rows["version"], strict=True):
            key = (round(at.timestamp(), 6), int(version))
            held[key] = held.get(key, 0) + 1
        for record in self.records:
            answered = [one for one in self.asked(record) if one["is_answered"]]
            keys = [(round(one["sent"], 6), int(one["version"])) for one in answered]
            record.acknowledged += len(keys)
            record.missing += sum(key not in held for key in keys)
            record.duplicated += sum(held.get(key, 0) > 1 for key in keys)
            record.failed_requests = sum(not one["is_answered"] for one in self.asked(record))


UNFINISHED = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_part(settings: Settings, name: str) -> int:
    """kill -9 a server of the stack; the number that it had."""
    process = processes.find(processes.read_record(settings, name))
    assert process is not None, f"{name} does not run"
    process.kill()
    return process.pid


def is_back(settings: Settings, name: str, killed: int) -> bool:
    """Whether a part runs under another number and answers."""
    from its_platform.parts import part_named
    from its_platform.stack import part_status

    status = part_status(settings, part_named(name))
    return status.is_healthy and status.pid != killed


def looked_since(settings: Settings, moment: float) -> bool:
    """Whether every sensor that has ever looked has done so again, and well, after a moment (seconds since 1970)."""
    query = """
        SELECT bool_and(well) FROM (
          SELECT max(timestamp) FILTER (WHERE status IN ('SUCCESS', 'SKIPPED')) > to_timestamp(:moment) AS well
          FROM job_ticks WHERE type = 'SENSOR' GROUP BY selector_id
        ) AS sensors
    """
    engine = sa.create_engine(database_url(settings, "dagster"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        return bool(connection.execute(sa.text(query), {"moment": moment}).scalar())


def objects_disk(settings: Settings) -> Path:
    """The folder that the object store keeps its bytes in, below the home."""
    return (settings.services if settings.runs_objects else settings.home) / "objects"


def mount_objects(settings: Settings) -> bool:
    """Give the object store a disk of its own that can be made full; False where mounting is not allowed."""
    folder = objects_disk(settings)
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={OBJECTS_MB}m", "its-faults", str(folder)]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def full_disk(stand: Stand) -> Iterator[None]:
    """Leave no room under the object store while the block runs.

    Its disk is a tmpfs that is shrunk to what lies on it; what a page still has free is filled up.
    """
    folder = objects_disk(stand.settings)
    used_kb = shutil.disk_usage(folder).used // 1024
    subprocess.run(["mount", "-o", f"remount,size={used_kb + 4}k", str(folder)], check=True)
    filler = folder / "filler"
    try:
        with filler.open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
    except OSError:
        pass
    try:
        yield
    finally:
        filler.unlink(missing_ok=True)
        subprocess.run(["mount", "-o", f"remount,size={OBJECTS_MB}m", str(folder)], check=True)


def clear(home: Path) -> None:
    """Remove what an earlier run left at this place, its disk and its servers first."""
    if not home.exists():
        return
    if (home / "settings.yaml").exists():
        stop_stack(load_settings(home=home))
    for folder in ("objects", "services/objects"):
        subprocess.run(["umount", str(home / folder)], capture_output=True, check=False)
    shutil.rmtree(home)
