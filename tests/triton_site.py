"""A running Triton with detectors that always answer alike, for the tests that ask a real one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from its_platform.contract import files_digest
from its_platform.serving import health, server
from its_platform.serving.client import DetectorClient, ModelRefused, detect_once, with_client
from its_platform.serving.processes import free_ports
from its_platform.serving.repository import place_version, read_routes, route_of, write_routes
from its_platform.settings import Ports, Settings, load_settings
from its_platform.stores.registry import ModelVersion

SIZE = 64
CLASSES = ["car", "truck", "bus"]
DETECTOR = f"detector-yolo-onnx-{SIZE}"
PICTURE = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
# What the stand-in says in its 64 px square, for a 160x90 picture that lies in rows 14 to 50 at scale 0.4.
IN_SQUARE = (8.0, 22.0, 24.0, 38.0)
IN_PICTURE = (20.0, 20.0, 60.0, 60.0)


def write_detector(path: Path, first: float) -> Path:
    """An ONNX that keeps the detectors' contract and answers the same for any picture.

    A car at `first`, a truck at 0.30 and a bus at 0.05, each in the same place.
    """
    rows = np.zeros((1, 300, 6), np.float32)
    rows[0, 0] = [*IN_SQUARE, first, 0]
    rows[0, 1] = [*IN_SQUARE, 0.30, 1]
    rows[0, 2] = [*IN_SQUARE, 0.05, 2]
    nodes = [
        helper.make_node("Shape", ["images"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["count"]),
        helper.make_node("Concat", ["count", "rest"], ["full"], axis=0),
        helper.make_node("Expand", ["rows", "full"], ["detections"]),
    ]
    constants = {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([300, 6]), "rows": rows}
    graph = helper.make_graph(
        nodes,
        "fixed",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("detections", TensorProto.FLOAT, ["n", 300, 6])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def version_of(number: int, path: Path) -> ModelVersion:
    return ModelVersion(
        name="traffic-detector",
        version=number,
        run_id="run",
        digest="digest",
        dataset_version="v1",
        family="yolo",
        image_size=SIZE,
        classes=CLASSES,
        thresholds={"car": 0.5, "truck": 0.4},
        onnx_digest=files_digest([path]),
    )


@dataclass
class Platform:
    """A running Triton with the files to release from."""

    settings: Settings
    folder: Path
    last: int = 0

    def release(
        self,
        first: float = 0.9,
        stage: str = "production",
        write: Callable[[Path, float], Path] = write_detector,
    ) -> int:
        """Place, load and route the next version; its number."""
        self.last += 1
        path = write(self.folder / f"{self.last}.onnx", first)
        version = version_of(self.last, path)
        place_version(self.settings, version, path)
        self.load()
        write_routes(self.settings, {**read_routes(self.settings), stage: route_of(version)})
        wait_until(lambda: self.served(stage) == self.last)
        return self.last

    def load(self, model: str = DETECTOR) -> None:
        async def use(client: DetectorClient) -> None:
            await client.load(model)

        with_client(self.settings, use)

    def served(self, stage: str = "production") -> int | None:
        async def use(client: DetectorClient) -> int | None:
            return await client.served_version(stage)

        return with_client(self.settings, use)

    def rows(self, camera_id: str) -> list[dict[str, Any]]:
        """The finished log rows of a camera."""
        lines = [line for path in self.settings.spool.glob("*.jsonl") for line in path.read_text().splitlines()]
        return [row for row in map(json.loads, lines) if row["camera_id"] == camera_id]


def wait_until(is_so: Callable[[], bool], within_s: float = 15.0) -> None:
    end = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > end:
            pytest.fail("it did not become so in time")
        time.sleep(0.05)


@contextmanager
def running_platform(folder: Path, **serving: Any) -> Iterator[Platform]:
    """A Triton of its own home below `folder`, with one version in production; `serving` are settings of that group."""
    settings = settings_at(folder / "home", **serving)
    if not (settings.environments / "tritonserver" / "pytriton").is_dir():
        if os.environ.get("ITS_REQUIRE_SERVICES") == "1":
            pytest.fail("the bundled tritonserver is required here and missing")
        pytest.skip("the bundled tritonserver is not installed")
    server.start_triton(settings)
    try:
        found = Platform(settings, folder)
        assert [result.is_healthy for result in health.probe(settings)] == [True]
        with pytest.raises(ModelRefused, match="no detector is served"):
            detect_once(settings, PICTURE)
        found.release()
        yield found
    finally:
        server.stop_triton(settings)


def settings_at(home: Path, **serving: Any) -> Settings:
    """Settings of a home on ports that are free."""
    http, grpc, metrics = free_ports(3)
    ports = Ports(triton_http=http, triton_grpc=grpc, triton_metrics=metrics)
    return load_settings(home=home, ports=ports, serving=serving)
