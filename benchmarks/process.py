"""A worker process of the benchmarks: Holdpoint's own over vendors that answer at once, or the floor's.

``python -m benchmarks.process WHAT MARKS [KNOB=VALUE …]``. WHAT is ``holdpoint``, ``holdpoint-calls`` (every call is
marked) or ``floor``; a KNOB is an argument of Temporal's ``Worker`` that differs from ``worker.py``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.worker import PollerBehaviorSimpleMaximum, UnsandboxedWorkflowRunner, Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

import worker
from benchmarks.as_shipped import shipped_settings
from benchmarks.floor_workflow import FLOOR_QUEUE, BenchmarkFloor, FloorActivities
from benchmarks.instant import instant_clients
from benchmarks.marks import Marks
from connection import TASK_QUEUE, connect_temporal
from sandbox import LOADED_ONCE, CaseSandbox

READY = "benchmark worker ready"
_FLOOR_TOO = LOADED_ONCE.with_passthrough_modules("benchmarks")
_RUNNERS: dict[str, Callable[[], WorkflowRunner]] = {
    "reloading": SandboxedWorkflowRunner,
    "asked": lambda: SandboxedWorkflowRunner(restrictions=LOADED_ONCE),
    "unsandboxed": UnsandboxedWorkflowRunner,
}


def knobs(given: Sequence[str]) -> dict[str, Any]:
    """Arguments of ``Worker`` by name. Pollers are a number, lengths seconds, ``workflow_runner`` a word."""
    told: dict[str, Any] = {}
    for name, _, text in (word.partition("=") for word in given):
        if name == "workflow_runner":
            told[name] = _RUNNERS[text]()
        elif name.endswith("_poller_behavior"):
            told[name] = PollerBehaviorSimpleMaximum(int(text))
        elif name.endswith(("_timeout", "_interval")):
            told[name] = timedelta(seconds=float(text))
        else:
            told[name] = {"True": True, "False": False}.get(text) if text in ("True", "False") else int(text)
    return told


def _holdpoint(client: Client, marks: Marks, executor: ThreadPoolExecutor, changed: dict[str, Any]) -> Worker:
    settings = shipped_settings()
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=worker.WORKFLOWS,
        activities=worker.activities(client, settings, instant_clients(marks)),  # type: ignore[arg-type]
        **{**worker.tuned(executor), **changed},
    )


def _floor(client: Client, marks: Marks, executor: ThreadPoolExecutor, changed: dict[str, Any]) -> Worker:
    tuned = {**worker.tuned(executor), **changed}
    return Worker(
        client,
        task_queue=FLOOR_QUEUE,
        workflows=[BenchmarkFloor],
        activities=[FloorActivities(marks).step],
        **{**tuned, "interceptors": [], "workflow_runner": CaseSandbox(restrictions=_FLOOR_TOO)},
    )


async def run(what: str, marks_path: Path, changed: dict[str, Any]) -> None:
    """Work until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = await connect_temporal(lasting=True)
    marks = Marks(marks_path, all_calls=what == "holdpoint-calls")
    made = _floor if what == "floor" else _holdpoint
    with ThreadPoolExecutor(worker.MAX_ACTIVITIES) as executor:
        async with made(client, marks, executor, changed):
            print(READY, flush=True)
            await stop.wait()
    marks.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], Path(sys.argv[2]), knobs(sys.argv[3:])))
    os._exit(0)
