"""The log: JSON lines or lines for people, what belongs together under one id, and no secret in any of it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from its_platform.telemetry import REDACTED, configure_logs, correlated, correlation, get_log, redact

LOG = get_log("its_platform.some_module")


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Where the log of this process goes; pytest's own handlers are put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("its_platform").setLevel(logging.NOTSET)


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_process_and_facts(out: io.StringIO) -> None:
    configure_logs("supervisor", stream=out)
    LOG.warning("died and is started again", part="redis", restarts=3)
    (line,) = lines(out)
    assert line.pop("at").endswith("Z")
    assert line == {
        "event": "died and is started again",
        "level": "warning",
        "logger": "its_platform.some_module",
        "process": "supervisor",
        "part": "redis",
        "restarts": 3,
    }


def test_what_a_library_says_is_a_line_of_the_same_kind(out: io.StringIO) -> None:
    configure_logs("metrics", stream=out)
    logging.getLogger("somebody.else").error("lost the connection to %s", "redis")
    (line,) = lines(out)
    assert (line["event"], line["level"], line["logger"]) == ("lost the connection to redis", "error", "somebody.else")


def test_good_health_of_libraries_is_not_written(out: io.StringIO) -> None:
    configure_logs("metrics", stream=out)
    logging.getLogger("somebody.else").info("sent a heartbeat")
    LOG.info("frames are stored")
    assert [line["event"] for line in lines(out)] == ["frames are stored"]


def test_a_person_reads_text_and_an_exception_keeps_its_traceback(out: io.StringIO) -> None:
    configure_logs("its", "text", stream=out)
    try:
        raise ValueError("odd")
    except ValueError:
        LOG.exception("failed", what="the look")
    assert "failed" in out.getvalue()
    assert "what=the look" in out.getvalue() or "what='the look'" in out.getvalue()
    assert "ValueError: odd" in out.getvalue()
    with pytest.raises(ValueError):
        json.loads(out.getvalue().splitlines()[0])


def test_everything_said_meanwhile_carries_the_ids(out: io.StringIO) -> None:
    configure_logs("run", stream=out)
    with correlated(run="r-1"):
        with correlated(frame="f-1"):
            LOG.info("taken in")
            logging.getLogger("somebody.else").warning("stored")
        LOG.info("done")
        assert correlation() == {"run": "r-1"}
    LOG.info("outside")
    inner, foreign, done, outside = lines(out)
    assert (inner["run"], inner["frame"]) == (foreign["run"], foreign["frame"]) == ("r-1", "f-1")
    assert done["run"] == "r-1"
    assert "frame" not in done
    assert "run" not in outside


SECRET = "s3cr3t-w0rd"


@pytest.mark.parametrize(
    "facts",
    [
        {"password": SECRET},
        {"redis_password": SECRET},
        {"api_key": SECRET},
        {"secret_key": SECRET},
        {"Authorization": SECRET},
        {"webhook": f"https://chat.example.org/{SECRET}"},
        {"settings": {"database": {"passwd": SECRET}}},
        {"environment": [{"token": SECRET}]},
        {"url": f"rediss://:{SECRET}@127.0.0.1:6379/0"},
        {"reason": f"could not connect to postgresql+psycopg2://its:{SECRET}@db:5432/its?sslmode=verify-full"},
        {"reason": f"connection failed: host=db password={SECRET} user=its"},
        {"reason": f"GET / with Authorization: Bearer {SECRET}"},
        {"source": f"rtsp://camera/stream?user=admin&password={SECRET}&channel=1"},
        {"reason": f"rtsp://camera/stream?user=admin&pass={SECRET}: connection refused"},
        {"reason": f"no answer from https://chat.example.org/send?access_token={SECRET}"},
        {"reason": f"refused: its_password={SECRET}"},
        {"reason": f"could not start: PGPASSWORD={SECRET} pg_dump"},
        {"reason": f'cannot read {{"secretKey": "{SECRET}"}}'},
    ],
)
def test_a_secret_is_in_no_line(facts: dict[str, Any], out: io.StringIO) -> None:
    configure_logs("its", stream=out)
    LOG.info("said", **facts)
    logging.getLogger("somebody.else").warning("said %s", facts.get("reason", ""))
    assert SECRET not in out.getvalue()
    assert REDACTED in out.getvalue()


def test_a_secret_in_a_traceback_is_not_written_either(out: io.StringIO) -> None:
    configure_logs("its", stream=out)
    try:
        raise OSError(f"no answer from rediss://:{SECRET}@127.0.0.1:6379/0")
    except OSError:
        LOG.exception("failed")
    (line,) = lines(out)
    assert "OSError" in line["exception"]
    assert SECRET not in line["exception"]


def test_what_only_sounds_like_a_secret_is_said() -> None:
    facts = {
        "key": "frames/a.jpg",
        "tokens": 0,
        "row_key": "a:1",
        "reason": "http://127.0.0.1:80/ is away; first pass: 10 s, compass=9, max_tokens=4",
        "monkey": "x",
    }
    assert redact(None, "", facts) == facts


def test_a_command_that_says_nothing_imports_no_log() -> None:
    code = "import sys; import its_platform.notifications, its_platform.supervisor; print('structlog' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_process_that_configured_nothing_writes_warnings_all_the_same() -> None:
    code = (
        "from its_platform.telemetry import get_log; log = get_log('its_platform.x'); log.info('a'); log.warning('b')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["b"]
