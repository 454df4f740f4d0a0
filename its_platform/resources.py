"""What Dagster hands to the assets and sensors, and how the platform's errors become Dagster's.

The flow's modules know nothing of Dagster: only this file, `definitions.py`, `run_launcher.py` and
`dagster_storage.py` do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from its_platform.charts import in_page
from its_platform.errors import PermanentError, TransientError
from its_platform.settings import load_settings
from its_platform.telemetry import Progress, correlated, log_progress, silence_tools
from its_platform.tracing import span

if TYPE_CHECKING:
    from its_platform.stores import Stores


class StoresResource(dg.ConfigurableResource):
    """Opens the stores of the settings in force; `home` names another home folder, for tests."""

    home: str | None = None

    def open(self) -> Stores:
        """The stores, lazily connected."""
        from its_platform.stores import open_stores

        silence_tools()
        return open_stores(load_settings(home=self.home) if self.home else load_settings())


@contextmanager
def told_to_dagster(retries: int = 3, wait_s: float = 5.0) -> Iterator[None]:
    """Turn a transient error into a retry with back-off and a permanent one into a failure that is not retried.

    What the step does within is a span of its name; what it logs and records within names its run.
    """
    step, run = _step()
    try:
        with correlated(**run), span(step):
            yield
    except TransientError as error:
        raise dg.RetryRequested(max_retries=retries, seconds_to_wait=wait_s) from error
    except PermanentError as error:
        raise dg.Failure(
            description=str(error), metadata={"what to do": error.hint or "see the error"}, allow_retries=False
        ) from error


def _step() -> tuple[str, dict[str, str]]:
    """The step's name, and its run."""
    try:
        context = dg.OpExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        # Called by hand, outside of any run.
        return "step", {}
    return str(context.op_handle), {"run": context.run_id}


def progress_to(log: logging.Logger) -> Progress:
    """Long work's progress in the log of a Dagster run."""
    return log_progress(log)


def picture(png: bytes, alt: str) -> dg.MetadataValue:
    """A PNG as metadata that Dagster's page shows in place."""
    return dg.MetadataValue.md(f"![{alt}]({in_page(png)})")
