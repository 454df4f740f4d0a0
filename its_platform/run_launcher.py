"""How Dagster's daemon starts a run: by a fork of a process that has the libraries in memory already.

Great Expectations, Evidently, MLflow and Dagster itself take some twelve seconds of a core to import, and Dagster's own
launcher pays them again with every run. Here the daemon keeps one process that imported them once and does nothing but
fork (`multiprocessing`'s fork server). The platform's own modules are not among them: a run always has the code as it
is in the checkout. dagster.yaml names this launcher; what a run does is in `assets/`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from typing import Any

import dagster as dg
from dagster._core.instance import DagsterInstance, InstanceRef
from dagster._core.launcher.base import LaunchRunContext, RunLauncher
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from its_platform.errors import BadInput
from its_platform.processes import birth_of
from its_platform.settings import load_settings
from its_platform.telemetry import configure_logs, correlated, silence_tools
from its_platform.tracing import span, traces_told_to

# Imported before any fork. None of them starts a thread of Python's, and onnxruntime, which starts one of its own, is
# left to the run.
LIBRARIES = (
    "dagster._cli.api",
    "dagster_postgres",
    "pandas",
    "deltalake",
    "duckdb",
    "cv2",
    "PIL.Image",
    "great_expectations",
    "mlflow",
    "evidently",
)
# A tag with this beginning is not shown on the page.
WORKER_TAG = ".dagster/its-worker"


class ForkingRunLauncher(RunLauncher[DagsterInstance], ConfigurableClass):
    """Runs as forks of one warm process, on the machine of whoever launches them."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        self._guard = threading.Lock()
        self._context: ForkServerContext | None = None
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        return self._inst_data

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> ForkingRunLauncher:
        return cls(inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        run_id = context.dagster_run.run_id
        process = self._forking().Process(
            target=work, args=(run_id, self._instance.get_ref()), name=f"run {run_id[:8]}"
        )
        process.start()
        assert process.pid is not None
        worker = {"pid": process.pid, "birth": birth_of(process.pid)}
        self._instance.add_run_tags(run_id, {WORKER_TAG: json.dumps(worker)})

    def terminate(self, run_id: str) -> bool:
        """Interrupt a run, as somebody asks on Dagster's page; whether there was a process to interrupt."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        worker = json.loads(run.tags.get(WORKER_TAG, "{}"))
        # Numbers of processes are given out again.
        if not worker or birth_of(worker["pid"]) != worker["birth"]:
            self._instance.report_engine_event("Its process is gone.", run, cls=self.__class__)
            return False
        os.kill(worker["pid"], signal.SIGINT)
        return True

    def _forking(self) -> ForkServerContext:
        with self._guard:
            if self._context is None:
                self._context = multiprocessing.get_context("forkserver")
                self._context.set_forkserver_preload(list(LIBRARIES))
            return self._context


def work(run_id: str, instance_ref: InstanceRef) -> None:
    """What a fork does: the run, with its events written to the instance."""
    from dagster._cli.api import _execute_run_command_body

    silence_tools()
    configure_logs("run")
    with (
        correlated(run=run_id),
        traces_told_to(_collector(), "run"),
        dg.DagsterInstance.from_ref(instance_ref) as instance,
    ):
        run = instance.get_run_by_id(run_id)
        with span(f"run {run.job_name if run else run_id}"):
            _execute_run_command_body(run_id, instance, lambda event: None, set_exit_code_on_failure=False)


def _collector() -> str | None:
    try:
        return load_settings().serving.traces_url
    except BadInput:
        # Told by the step that reads them, where a person looks for it.
        return None
