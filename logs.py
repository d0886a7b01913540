"""The worker's log: one JSON object a line with the case that it is about, or plain lines where a terminal watches.

Whatever a line holds, it stays one line: alerts, hosts and vendors name themselves. Lines are made where they are
logged and written by a thread of their own, since a workflow must never wait for a pipe.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue
from typing import Any, TextIO

from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError

from incident.text import plain

_LONGEST = 4000
"""Characters of a message, or of a line of a traceback, on a terminal."""

_QUIET = ("httpx", "httpcore")
"""They log every address whole, and a query holds the names that were asked for."""


def set_up(stream: TextIO | None = None) -> Callable[[], None]:
    """Log to ``stream`` (standard error) from INFO up; returns what writes the rest out and stops."""
    stream = sys.stderr if stream is None else stream
    handler = QueueHandler(SimpleQueue())
    handler.addFilter(_in_words)
    handler.setFormatter(PlainLines() if stream.isatty() else JsonLines())
    writer = QueueListener(handler.queue, logging.StreamHandler(stream))
    root = logging.getLogger()
    before, level = root.handlers, root.level
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)  # noqa: FBT003 - the logging API takes it by position
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # The ids are keys of their own. Outside of the sandbox, because a traceback reads the source's lines.
    activity.logger.activity_info_on_message = workflow.logger.workflow_info_on_message = False
    workflow.logger.unsafe_disable_sandbox()
    writer.start()

    def stop() -> None:
        logging.captureWarnings(False)  # noqa: FBT003
        root.handlers = before
        root.setLevel(level)
        writer.stop()

    return stop


def _in_words(record: logging.LogRecord) -> bool:
    """A vendor's failure that was foreseen is told in words: a traceback of ours each attempt says nothing more."""
    failure = record.exc_info[1] if record.exc_info else None
    if isinstance(failure, ApplicationError) and failure.type:
        record.msg, record.args = "%s: %s: %s", (record.getMessage(), failure.type, failure.message)
        record.exc_info = None
    return True


def _belongs_to(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """The case, the run and the step that a record is about, as far as it is told."""
    step: Mapping[str, Any] = getattr(record, "temporal_activity", None) or {}
    if not step and activity.in_activity():
        step = vars(activity.info())
    run: Mapping[str, Any] = getattr(record, "temporal_workflow", None) or {}
    if not run and workflow.in_workflow():
        run = vars(workflow.info())
    yield "case_id", step.get("workflow_id") or run.get("workflow_id")
    yield "run_id", step.get("workflow_run_id") or run.get("run_id")
    yield "activity", step.get("activity_type")
    yield "attempt", step.get("attempt")
    yield "trace_id", _trace_id()


def _trace_id() -> str | None:
    trace = sys.modules.get("opentelemetry.trace")
    context = trace.get_current_span().get_span_context() if trace else None
    return f"{context.trace_id:032x}" if context and context.is_valid else None


class JsonLines(logging.Formatter):
    """A record as a JSON object in ASCII on one line. Times are UTC; absent keys have no value."""

    def format(self, record: logging.LogRecord) -> str:
        """The line: ``time``, ``level``, ``logger``, ``message``, then whose it is, then ``exception``."""
        line = {
            "time": _utc(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{key: value for key, value in _belongs_to(record) if value is not None},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class PlainLines(logging.Formatter):
    """A record for a person at a terminal; whatever would steer the terminal is taken out."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and below it, indented, the traceback if there is one."""
        case = dict(_belongs_to(record)).get("case_id")
        first = f"{_utc(record):%H:%M:%S} {record.levelname:<7} {record.getMessage()}" + (f" [{case}]" if case else "")
        traceback = self.formatException(record.exc_info).splitlines() if record.exc_info else []
        return "\n    ".join([plain(first, _LONGEST), *(plain(line, _LONGEST) for line in traceback)])


def _utc(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)
