"""The parts of the front: routes that follow their file, a log that never stands in the way, rows that are complete."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

Front = Callable[[str], ModuleType]


def write_routes(path: Path, **stages: int) -> None:
    entries = {
        stage: {
            "model": "detector",
            "version": version,
            "image_size": 320,
            "classes": ["car", "bus"],
            "thresholds": {"car": 0.6},
        }
        for stage, version in stages.items()
    }
    path.write_text(json.dumps({"stages": entries}))


class TestRoutes:
    def test_production_answers_where_nothing_is_asked(self, front: Front, tmp_path: Path) -> None:
        write_routes(tmp_path / "routes.json", production=1, staging=2)
        routes = front("routing").Routes(tmp_path / "routes.json", 0.25)
        assert routes.choose().version == 1
        assert routes.choose("staging").version == 2
        assert routes.choose(version=2).stage == "staging"

    @pytest.mark.parametrize(("written", "read"), [(320, 320), ([192, 320], (192, 320))])
    def test_a_detector_may_take_a_square_or_a_rectangle(
        self, front: Front, tmp_path: Path, written: object, read: object
    ) -> None:
        write_routes(tmp_path / "routes.json", production=1)
        content = json.loads((tmp_path / "routes.json").read_text())
        content["stages"]["production"]["image_size"] = written
        (tmp_path / "routes.json").write_text(json.dumps(content))
        assert front("routing").Routes(tmp_path / "routes.json", 0.25).choose().image_size == read

    def test_a_class_without_a_threshold_takes_the_default(self, front: Front, tmp_path: Path) -> None:
        write_routes(tmp_path / "routes.json", production=1)
        routes = front("routing").Routes(tmp_path / "routes.json", 0.25)
        assert routes.choose().thresholds == (0.6, 0.25)

    def test_the_platform_knows_for_which_version_a_block_is_drawn(self, front: Front, tmp_path: Path) -> None:
        from its_platform.experiments.blocks import NO_CAMERA, is_challengers

        assert front("prediction_log").NO_CAMERA == NO_CAMERA
        write_routes(tmp_path / "routes.json", production=1, canary=2)
        content = json.loads((tmp_path / "routes.json").read_text())
        content["stages"]["canary"]["percent"] = 30
        (tmp_path / "routes.json").write_text(json.dumps(content))
        routes = front("routing").Routes(tmp_path / "routes.json", 0.25)
        minutes = [datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=n) for n in range(1000)]
        drawn = [is_challengers(2, 30, "north", minute) for minute in minutes]
        answering = [routes.choose(block=f"north/{minute.isoformat()[:16]}").version for minute in minutes]
        assert answering == [2 if is_of else 1 for is_of in drawn]
        assert 250 < sum(drawn) < 350
        assert drawn == [is_challengers(2, 30, "north", minute.replace(second=42)) for minute in minutes]
        elsewhere = [is_challengers(2, 30, "south", minute) for minute in minutes]
        assert 450 < sum(a == b for a, b in zip(drawn, elsewhere, strict=True)) < 700, "cameras do not go together"

    def test_a_changed_file_is_followed(self, front: Front, tmp_path: Path) -> None:
        write_routes(tmp_path / "routes.json", production=1)
        routes = front("routing").Routes(tmp_path / "routes.json", 0.25)
        assert routes.choose().version == 1
        write_routes(tmp_path / "new.json", production=2)
        (tmp_path / "new.json").replace(tmp_path / "routes.json")
        assert routes.choose(is_fresh=True).version == 2

    def test_a_file_that_cannot_be_read_leaves_the_last_routes_standing(self, front: Front, tmp_path: Path) -> None:
        write_routes(tmp_path / "routes.json", production=1)
        routes = front("routing").Routes(tmp_path / "routes.json", 0.25)
        routes.choose()
        (tmp_path / "routes.json").write_text("{half")
        assert routes.choose(is_fresh=True).version == 1
        assert "cannot be read" in routes.problem

    @pytest.mark.parametrize(("stage", "version"), [("canary", None), (None, 9), ("production", 2), ("canary", 1)])
    def test_what_is_not_served_has_no_route(
        self, front: Front, tmp_path: Path, stage: str | None, version: int | None
    ) -> None:
        write_routes(tmp_path / "routes.json", production=1, staging=2)
        routing = front("routing")
        routes = routing.Routes(tmp_path / "routes.json", 0.25)
        with pytest.raises(routing.NoRoute, match="production: version 1"):
            routes.choose(stage, version)

    def test_without_a_file_nothing_is_served(self, front: Front, tmp_path: Path) -> None:
        routing = front("routing")
        with pytest.raises(routing.NoRoute, match="none"):
            routing.Routes(tmp_path / "routes.json", 0.25).choose()


class TestSpool:
    def test_a_file_is_seen_only_when_it_is_complete(self, front: Front, tmp_path: Path) -> None:
        spool = front("spool").Spool(tmp_path, flush_s=3600)
        spool.append([{"n": 1}])
        spool.flush()
        assert list(tmp_path.glob("*.jsonl")) == []
        spool.append([{"n": 2}])
        spool.flush(is_last=True)
        (path,) = tmp_path.glob("predictions-*.jsonl")
        assert [json.loads(line) for line in path.read_text().splitlines()] == [{"n": 1}, {"n": 2}]
        assert list(tmp_path.glob("*.part")) == []

    def test_what_a_dead_writer_left_is_finished_without_its_half_row(self, front: Front, tmp_path: Path) -> None:
        (tmp_path / "predictions-dead.jsonl.part").write_text('{"n": 1}\n{"n": 2')
        (tmp_path / "predictions-empty.jsonl.part").write_text("")
        assert front("spool").Spool(tmp_path, 1.0).adopt_orphans() == 1
        assert (tmp_path / "predictions-dead.jsonl").read_text() == '{"n": 1}\n'
        assert list(tmp_path.glob("*.part")) == []

    def test_the_file_of_a_living_writer_is_not_touched(self, front: Front, tmp_path: Path) -> None:
        module = front("spool")
        writer = module.Spool(tmp_path, 3600)
        writer.append([{"n": 1}])
        assert module.Spool(tmp_path, 1.0).adopt_orphans() == 0
        assert len(list(tmp_path.glob("*.part"))) == 1

    def test_a_file_has_its_name_only_once_its_writer_holds_it(
        self, front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = front("spool")
        other, real = module.Spool(tmp_path, 1.0), module.fcntl.flock
        adopted: list[int] = []

        def flock(file: Any, how: int) -> None:
            if not adopted:
                adopted.append(-1)
                adopted[0] = other.adopt_orphans()
            real(file, how)

        monkeypatch.setattr(module.fcntl, "flock", flock)
        writer = module.Spool(tmp_path, 3600)
        writer.append([{"n": 1}])
        writer.flush(is_last=True)
        assert adopted == [0]
        assert len(list(tmp_path.glob("predictions-*.jsonl"))) == 1

    def test_lost_rows_of_all_writers_add_up(self, front: Front, tmp_path: Path) -> None:
        module = front("spool")
        for lost in (3, 4):
            spool = module.Spool(tmp_path, 1.0)
            spool.lost["queue is full"] += lost
            spool.flush()
        assert json.loads((tmp_path / "lost.json").read_text())["lost"] == 7

    def test_a_row_that_cannot_be_written_is_counted_and_not_raised(self, front: Front, tmp_path: Path) -> None:
        spool = front("spool").Spool(tmp_path, 1.0)
        spool.append([{"n": float("nan")}])
        spool.flush(is_last=True)
        assert json.loads((tmp_path / "lost.json").read_text())["lost"] == 1

    def test_a_spool_that_nobody_collects_stops_growing(
        self, front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = front("spool")
        monkeypatch.setattr(module, "MOST_FILES", 3)
        for number in range(5):
            (tmp_path / f"predictions-{number}.jsonl").write_text("{}\n")
        spool = module.Spool(tmp_path, 1.0)
        spool.append([{"n": 1}, {"n": 2}])
        spool.flush(is_last=True)
        assert len(list(tmp_path.glob("*.jsonl"))) == 5
        assert json.loads((tmp_path / "lost.json").read_text())["reasons"] == {"spool is full": 2}


def test_a_line_that_a_full_disk_does_not_take_is_not_raised(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    """The front would answer a refusal that may be tried again with an error of its own, which is final."""

    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    front("said").warn("refused", reason="detector version 3 did not answer")


def a_route(front: Front) -> Any:
    return front("routing").Route("production", "detector", 7, 320, ("car", "bus"), (0.5, 0.25))


def a_prediction(front: Front, rows: list[list[float]], **changed: Any) -> Any:
    values = {
        "at": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
        "camera_id": "north",
        "purpose": "live",
        "route": a_route(front),
        "width": 200,
        "height": 100,
        "rows": np.asarray(rows, np.float32).reshape(-1, 6),
        "latency_ms": 12.5,
    }
    return front("prediction_log").Prediction(**{**values, **changed})


GREY = np.full((100, 200, 3), 128, np.uint8)


def row_of(front: Front, prediction: Any, image: Any = GREY, embedder: Any = None) -> dict[str, Any]:
    module = front("prediction_log")
    embedder = embedder or module.Embedder(Path("missing.onnx"), 0)
    return module.row_of(prediction, module.Look(image, True, True), embedder, module.Measured(0))


def a_log(front: Front, folder: Path, most_rows: int) -> Any:
    module = front("prediction_log")
    spools = [front("spool").Spool(folder, 3600, kind) for kind in ("predictions", "pairs")]
    return module.PredictionLog(spools[0], module.Embedder(folder / "no", 0), module.Measured(0), most_rows, spools[1])


class TestRow:
    def test_counts_are_at_the_thresholds_and_scores_below_them_are_kept(self, front: Front) -> None:
        rows = [[0, 0, 100, 50, 0.9, 0], [0, 0, 20, 10, 0.4, 0], [0, 0, 20, 10, 0.3, 1], [0, 0, 9, 9, 0.02, 1]]
        row = row_of(front, a_prediction(front, rows))
        assert row["counts"] == {"car": 1, "bus": 1}
        assert row["n"] == 2
        assert row["confidences"] == pytest.approx([0.9, 0.4, 0.3, 0.02])
        assert row["mean_confidence"] == pytest.approx(0.6)
        assert row["box_areas"] == pytest.approx([0.5, 0.1])
        assert (row["model"], row["version"], row["stage"]) == ("detector", 7, "production")
        assert row["embedding"] is None
        json.dumps(row, allow_nan=False)

    def test_an_empty_picture_has_a_row_too(self, front: Front) -> None:
        row = row_of(front, a_prediction(front, []))
        assert (row["n"], row["mean_confidence"], row["confidences"]) == (0, None, [])
        assert row["counts"] == {"car": 0, "bus": 0}

    def test_the_figures_are_those_of_the_one_implementation(self, front: Front) -> None:
        from its_platform.frames.quality import figures, light_of

        image = np.random.default_rng(0).integers(0, 90, (100, 200, 3), dtype=np.uint8)
        row = row_of(front, a_prediction(front, []), image)
        for name, value in figures(image).items():
            assert row[name] == pytest.approx(value, abs=1e-4)
        assert row["light"] == light_of(figures(image))


def figures_of(front: Front, measured: Any, prediction: Any, image: Any) -> dict[str, float]:
    """As the log does it: a picture that is not due is not handed on."""
    look = front("prediction_log").Look(image, True, False) if measured.is_due(prediction) else None
    return measured.figures(prediction, look)


def vector_of(front: Front, embedder: Any, prediction: Any) -> Any:
    look = front("prediction_log").Look(GREY, False, True) if embedder.is_due(prediction) else None
    return embedder.embed(look)


class TestMeasured:
    def test_a_camera_is_measured_once_in_its_interval_of_captured_time(self, front: Front) -> None:
        measured = front("prediction_log").Measured(0.2)
        start = datetime(2026, 1, 1, tzinfo=UTC)

        def brightness(camera_id: str, at_s: float, grey: int) -> float:
            at = (start + timedelta(seconds=at_s)).isoformat()
            image = np.full((100, 200, 3), grey, np.uint8)
            seen = figures_of(front, measured, a_prediction(front, [], camera_id=camera_id, at=at), image)
            return round(seen["brightness"] * 255)

        asked = ((0, 10), (0.12, 20), (0.2, 30), (0.36, 40), (0.1, 50))
        assert [brightness("north", at_s, grey) for at_s, grey in asked] == [10, 10, 30, 30, 50]
        assert [brightness("batch", 1.0, grey) for grey in (70, 80)] == [70, 80], "pictures of one request"
        assert brightness("south", 0.12, 60) == 60

    def test_what_names_no_camera_is_measured_each_time(self, front: Front) -> None:
        measured = front("prediction_log").Measured(60)
        for grey in (10, 200):
            image = np.full((100, 200, 3), grey, np.uint8)
            seen = figures_of(front, measured, a_prediction(front, [], camera_id="unknown"), image)
            assert round(seen["brightness"] * 255) == grey


class TestCamerasWithoutEnd:
    """Whoever names each picture's camera anew must fill neither the memory of an instance nor its disk."""

    def test_what_is_known_of_each_is_bounded(
        self, front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = front("prediction_log")
        monkeypatch.setattr(module, "MOST_CAMERAS", 20)
        monkeypatch.setattr(module, "SHARED_FOR_S", -1.0)
        (tmp_path / "embedder.onnx").touch()
        measured, embedder = module.Measured(60.0), module.Embedder(tmp_path / "embedder.onnx", 60.0)
        for number in range(100):
            prediction = a_prediction(front, [], camera_id=f"car-{number}")
            assert measured.is_due(prediction)
            assert embedder.is_due(prediction)
            assert "brightness" in measured.figures(prediction, module.Look(GREY, True, False))
            assert "brightness" in measured.figures(prediction, None), "its next picture"
        assert len(measured._measured_at) <= 20
        assert len(measured._figures) <= 20
        assert len(embedder._last) <= 20
        assert len(list((tmp_path / "embedded").iterdir())) <= 20

    def test_a_start_forgets_versions_that_were_served_long_ago(self, front: Front, tmp_path: Path) -> None:
        module = front("prediction_log")
        (tmp_path / "embedder.onnx").touch()
        assert module.Embedder(tmp_path / "embedder.onnx", 1.0).is_due(a_prediction(front, []))
        (told,) = (tmp_path / "embedded").iterdir()
        module.Embedder(tmp_path / "embedder.onnx", 1.0)
        assert told.exists()
        os.utime(told, (0, 0))
        module.Embedder(tmp_path / "embedder.onnx", 1.0)
        assert not told.exists()


class TestPredictionLog:
    def test_every_row_is_there_after_it_was_closed(self, front: Front, tmp_path: Path) -> None:
        log = a_log(front, tmp_path, 100)
        for number in range(50):
            log.add(a_prediction(front, [], camera_id=str(number)), GREY)
        log.close()
        (path,) = tmp_path.glob("*.jsonl")
        assert [json.loads(line)["camera_id"] for line in path.read_text().splitlines()] == [str(n) for n in range(50)]
        assert not (tmp_path / "lost.json").exists()

    def test_a_full_queue_loses_rows_and_counts_them_without_waiting(
        self, front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = front("prediction_log")
        gate, real = threading.Event(), module.row_of

        def slow(*given: Any) -> Any:
            gate.wait(10)
            return real(*given)

        monkeypatch.setattr(module, "row_of", slow)
        log = a_log(front, tmp_path, 4)
        for _ in range(20):
            log.add(a_prediction(front, []), GREY)
        gate.set()
        log.close()
        (path,) = tmp_path.glob("*.jsonl")
        written = len(path.read_text().splitlines())
        assert 4 <= written <= 5
        assert json.loads((tmp_path / "lost.json").read_text())["reasons"] == {"queue is full": 20 - written}

    def test_a_picture_is_copied_only_where_it_is_looked_at(self, front: Front, tmp_path: Path) -> None:
        module = front("prediction_log")
        spools = [front("spool").Spool(tmp_path, 3600, kind) for kind in ("predictions", "pairs")]
        log = module.PredictionLog(spools[0], module.Embedder(tmp_path / "no", 0), module.Measured(1.0), 100, spools[1])
        start = datetime(2026, 1, 1, tzinfo=UTC)
        image = np.zeros((100, 200, 3), np.uint8)
        for at_s, grey in ((0.0, 10), (0.5, 20), (1.0, 30)):
            image[:] = grey
            log.add(a_prediction(front, [], at=(start + timedelta(seconds=at_s)).isoformat()), image)
        image[:] = 255
        log.close()
        (path,) = tmp_path.glob("*.jsonl")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert [round(row["brightness"] * 255) for row in rows] == [10, 10, 30]

    def test_pictures_that_wait_are_bounded_in_bytes(
        self, front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = front("prediction_log")
        monkeypatch.setattr(module, "MOST_PICTURE_BYTES", 100)
        log = a_log(front, tmp_path, 100)
        log.add(a_prediction(front, []), GREY)
        log.close()
        assert json.loads((tmp_path / "lost.json").read_text())["lost"] == 1

    @pytest.mark.parametrize("size", [0, 100])
    def test_a_full_disk_costs_rows_which_are_counted_and_does_not_end_the_log(
        self, front: Front, tmp_path: Path, size: int
    ) -> None:
        module = front("prediction_log")
        spools = [front("spool").Spool(tmp_path, 0.0, kind) for kind in ("predictions", "pairs")]
        embedder, measured = module.Embedder(tmp_path / "no", 0), module.Measured(0)
        log = module.PredictionLog(spools[0], embedder, measured, 100, spools[1])
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        # As on a full disk, no file may become larger; a row is.
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            for _ in range(3):
                log.add(a_prediction(front, []), GREY)
                time.sleep(0.3)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        log.add(a_prediction(front, []), GREY)
        log.close()
        assert sum(len(path.read_text().splitlines()) for path in tmp_path.glob("*.jsonl")) == 1
        assert json.loads((tmp_path / "lost.json").read_text())["lost"] == 3
        assert len(list(tmp_path.iterdir())) < 10, "nothing is left behind at each try to count"

    def test_one_odd_picture_does_not_end_the_log(self, front: Front, tmp_path: Path) -> None:
        log = a_log(front, tmp_path, 100)
        log.add(a_prediction(front, []), np.zeros((0, 0, 3), np.uint8))
        log.add(a_prediction(front, []), GREY)
        log.close()
        (path,) = tmp_path.glob("*.jsonl")
        assert len(path.read_text().splitlines()) == 1
        assert json.loads((tmp_path / "lost.json").read_text())["lost"] == 1


class TestEmbedder:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """An embedder whose vector is the mean colour of the stretched picture."""
        onnx = pytest.importorskip("onnx")
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            [
                helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
                helper.make_node("ReduceMean", ["real"], ["embedding"], axes=[1, 2], keepdims=0),
            ],
            "mean",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 16, 16, 3])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 3])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        model.metadata_props.add(key="digest", value="abc")
        onnx.save(model, str(tmp_path / "embedder.onnx"))
        return tmp_path / "embedder.onnx"

    def test_a_row_carries_the_vector_and_whose_it_is(self, front: Front, path: Path) -> None:
        module = front("prediction_log")
        image = np.full((100, 200, 3), (10, 20, 30), np.uint8)
        row = row_of(front, a_prediction(front, []), image, module.Embedder(path, 0))
        assert row["embedding"] == pytest.approx([10, 20, 30])
        assert row["embedder"] == "abc"

    def test_a_camera_is_embedded_once_in_its_interval_of_captured_time(self, front: Front, path: Path) -> None:
        module = front("prediction_log")
        embedder = module.Embedder(path, 1.0)
        start = datetime(2026, 1, 1, tzinfo=UTC)

        def is_embedded(camera_id: str, at_s: float) -> bool:
            at = (start + timedelta(seconds=at_s)).isoformat()
            return vector_of(front, embedder, a_prediction(front, [], camera_id=camera_id, at=at)) is not None

        assert [is_embedded("north", at_s) for at_s in (0, 0.5, 0.9, 1.0, 1.5, 2.2)] == [
            True,
            False,
            False,
            True,
            False,
            True,
        ]
        assert is_embedded("south", 0.5)

    def test_two_instances_share_the_interval_of_a_camera(self, front: Front, path: Path) -> None:
        module = front("prediction_log")
        instances = [module.Embedder(path, 1.0), module.Embedder(path, 1.0)]
        start = datetime(2026, 1, 1, tzinfo=UTC)
        embedded = [
            vector_of(
                front,
                instances[number % 2],
                a_prediction(front, [], at=(start + timedelta(seconds=number * 0.25)).isoformat()),
            )
            is not None
            for number in range(9)
        ]
        assert embedded == [number % 4 == 0 for number in range(9)]

    def test_an_interval_that_another_left_half_written_stops_nothing(self, front: Front, path: Path) -> None:
        embedder = front("prediction_log").Embedder(path, 1.0)
        assert vector_of(front, embedder, a_prediction(front, [])) is not None
        (left,) = (path.parent / "embedded").iterdir()
        left.write_text("")
        assert vector_of(front, front("prediction_log").Embedder(path, 1.0), a_prediction(front, [])) is not None

    def test_without_an_embedder_rows_have_no_vector(self, front: Front, tmp_path: Path) -> None:
        module = front("prediction_log")
        row = row_of(front, a_prediction(front, []), embedder=module.Embedder(tmp_path / "missing.onnx", 0))
        assert (row["embedding"], row["embedder"]) == (None, None)
