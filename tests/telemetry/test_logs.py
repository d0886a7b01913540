"""The worker's log: whatever is logged stays one line, and says whose case it is."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from temporalio import activity, workflow
from temporalio.testing import ActivityEnvironment

import logs

HOSTILE = 'FIN\n{"level": "error"}\x1b[2J\u202e\ud800 \'x'


class Watched(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    adapters = activity.logger, workflow.logger
    levels = {name: logging.getLogger(name).level for name in ("httpx", "httpcore")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    adapters[0].activity_info_on_message = adapters[1].workflow_info_on_message = True
    workflow.logger.unsafe_disable_sandbox(False)  # noqa: FBT003 - the SDK takes it by position


def _break() -> None:
    raise ValueError(HOSTILE)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_when_how_bad_and_what(stream: io.StringIO) -> None:
    stop = logs.set_up(stream)
    logging.getLogger("holdpoint.test").warning("%s of %d", "one", 2)
    stop()
    (line,) = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line == {"level": "warning", "logger": "holdpoint.test", "message": "one of 2"}


def test_untrusted_text_stays_on_its_line(stream: io.StringIO) -> None:
    stop = logs.set_up(stream)
    logging.getLogger("holdpoint.test").info("host %s", HOSTILE)
    stop()
    (line,) = lines(stream)
    assert line["message"] == f"host {HOSTILE}"
    assert stream.getvalue().isascii()
    assert stream.getvalue().count("\n") == 1


def test_an_exception_is_text_on_the_same_line(stream: io.StringIO) -> None:
    stop = logs.set_up(stream)
    try:
        _break()
    except ValueError:
        logging.getLogger("holdpoint.test").exception("it broke")
    stop()
    (line,) = lines(stream)
    assert line["message"] == "it broke"
    assert line["exception"].startswith("Traceback")
    assert "ValueError: FIN" in line["exception"]


def test_the_ids_of_a_workflow_and_of_an_activity(stream: io.StringIO) -> None:
    stop = logs.set_up(stream)
    run = {"workflow_id": "sua-acme-10.0.0.1", "run_id": "r1", "attempt": 1}
    logging.getLogger("temporalio.workflow").info("x", extra={"temporal_workflow": run})
    step = {
        "workflow_id": "sua-acme-10.0.0.2",
        "workflow_run_id": "r2",
        "activity_type": "siem.score_risk",
        "attempt": 3,
    }
    logging.getLogger("temporalio.activity").info("y", extra={"temporal_activity": step})
    stop()
    first, second = lines(stream)
    assert (first["case_id"], first["run_id"]) == ("sua-acme-10.0.0.1", "r1")
    assert "activity" not in first
    assert [second[key] for key in ("case_id", "run_id", "activity", "attempt")] == [
        "sua-acme-10.0.0.2",
        "r2",
        "siem.score_risk",
        3,
    ]


def test_any_logger_inside_of_an_activity_says_the_case(stream: io.StringIO) -> None:
    stop = logs.set_up(stream)
    environment = ActivityEnvironment()
    environment.run(lambda: logging.getLogger("integrations.somewhere").info("inside"))
    environment.run(lambda: activity.logger.info("by the adapter"))
    stop()
    info = ActivityEnvironment.default_info()
    for line, message in zip(lines(stream), ("inside", "by the adapter"), strict=True):
        assert (line["message"], line["case_id"], line["activity"]) == (message, info.workflow_id, info.activity_type)


def test_the_addresses_that_are_asked_stay_out(stream: io.StringIO) -> None:
    stop = logs.set_up(stream)
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client:
        client.get("https://siem.example/search?query=jdoe&token=s3cret")
    stop()
    assert stream.getvalue() == ""


def test_a_terminal_gets_plain_lines_that_cannot_steer_it() -> None:
    terminal = Watched()
    stop = logs.set_up(terminal)
    run = {"workflow_id": "sua-acme-10.0.0.1", "run_id": "r1"}
    try:
        _break()
    except ValueError:
        logging.getLogger("x").exception("host %s", HOSTILE, extra={"temporal_workflow": run})
    stop()
    first, *traceback = terminal.getvalue().splitlines()
    assert "ERROR" in first
    assert first.endswith("[sua-acme-10.0.0.1]")
    assert all(line.startswith("    ") for line in traceback)
    assert not {"\x1b", "\u202e", "\ud800"} & set(terminal.getvalue())


def test_the_log_before_comes_back(stream: io.StringIO) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    stop = logs.set_up(stream)
    stop()
    assert (list(root.handlers), root.level) == before
    assert sys.stderr is not stream
