"""Jobs that the tests of the run launcher have launched; each tells what it found through its run's tags."""

import os
import sys
import time

import dagster as dg

from its_platform.errors import BadInput
from its_platform.resources import told_to_dagster
from its_platform.tracing import span


@dg.op
def tell(context: dg.OpExecutionContext) -> None:
    facts = {"pid": str(os.getpid()), "sid": str(os.getsid(0)), "has_platform": str("its_platform" in sys.modules)}
    context.instance.add_run_tags(context.run_id, {f"told/{name}": value for name, value in facts.items()})


@dg.op
def wait() -> None:
    time.sleep(120)


@dg.op
def take_in() -> None:
    with told_to_dagster(), span("ingest", camera="north"):
        pass


@dg.op(ins={"after": dg.In(dg.Nothing)})
def break_off() -> None:
    with told_to_dagster():
        raise BadInput("It cannot be used.")


@dg.job(executor_def=dg.in_process_executor)
def telling() -> None:
    tell()


@dg.job(executor_def=dg.in_process_executor)
def waiting() -> None:
    wait()


@dg.job(executor_def=dg.in_process_executor)
def traced() -> None:
    break_off(take_in())
