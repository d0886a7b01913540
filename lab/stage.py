"""A stage for cases: the stand-ins, Temporal's dev server and a worker, all in one run directory."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from lab.environment import Environment
from lab.servers import (
    READY_WITHIN,
    ROOT,
    TEMPORAL,
    LabFailed,
    ProcessList,
    Ran,
    TemporalServer,
    WorkerProcess,
    run_command,
)

RUN_DIRECTORY = ROOT / ".holdpoint"
_FOLDERS_MADE_HERE = ("alerts", "certificates", "logs", "mail", "records", "secrets")
_FILES_MADE_HERE = ("temporal.sqlite*", "env", "*.toml", "processes.json")


class InUse(LabFailed):
    """Another demo has the run directory, and its report."""


@dataclass
class Stage:
    """What the acts of a demo use. ``variables`` is the environment of every child process."""

    folder: Path
    environment: Environment
    settings: Path
    variables: dict[str, str]
    temporal: TemporalServer
    worker: WorkerProcess
    client: Client
    processes: ProcessList
    console: Console
    started: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """A line of progress."""
        elapsed = Text(f"{time.monotonic() - self.started:5.1f} s  ", style="dim")
        self.console.print(elapsed + Text(text), soft_wrap=True)

    async def starter(self, *arguments: str, settings: Path | None = None) -> Ran:
        """Run ``python starter.py …`` as a user does, with other settings if need be."""
        variables = self.variables | ({"HOLDPOINT_CONFIG": str(settings)} if settings else {})
        return await run_command([sys.executable, str(ROOT / "starter.py"), *arguments], variables)

    async def starter_json(self, *arguments: str, settings: Path | None = None) -> Any:
        """What such a command prints with ``--json``. Raises LabFailed when it fails."""
        ran = await self.starter(*arguments, "--json", settings=settings)
        if ran.code:
            raise LabFailed(f"starter.py {' '.join(arguments)} ended with {ran.code}: {_last_lines(ran.err)}")
        return json.loads(ran.out)

    async def cli(self, *arguments: str) -> Ran:
        """Run ``temporal …`` as a user does. Raises LabFailed when it fails."""
        ran = await run_command([str(TEMPORAL), *arguments], self.variables)
        if ran.code:
            raise LabFailed(f"temporal {' '.join(arguments)} ended with {ran.code}: {_last_lines(ran.err)}")
        return ran

    def alert_file(self, name: str, alert: dict[str, Any]) -> Path:
        """Write an alert where ``starter.py start`` can read it."""
        path = self.folder / "alerts" / f"{name}.json"
        path.write_text(json.dumps(alert, indent=2) + "\n", encoding="utf-8")
        return path

    def handle(self, case_id: str, run_id: str) -> WorkflowHandle[Any, dict[str, Any]]:
        """One run of a case."""
        return self.client.get_workflow_handle(case_id, run_id=run_id, result_type=dict)

    async def status(self, case_id: str, run_id: str) -> dict[str, Any]:
        """The query ``status`` of one run."""
        state: dict[str, Any] = await self.handle(case_id, run_id).query("status", result_type=dict[str, Any])
        return state

    async def start_temporal(self) -> None:
        """Start the server, for the first time or again."""
        await self.temporal.start()
        self.processes.keep(self.temporal, self.worker)

    async def start_worker(self) -> None:
        """Start the worker, for the first time or again."""
        await self.worker.start()
        self.processes.keep(self.temporal, self.worker)


def _last_lines(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-3:])


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Hold the run directory for ourselves. Raises InUse when another demo runs in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InUse(f"another demo runs in {folder}; end it first") from None
        yield


def clear(folder: Path) -> list[int]:
    """Remove what an earlier run made, and end the processes that it left behind; returns their ids."""
    ended = ProcessList(folder / "processes.json").end_leftovers()
    for name in _FOLDERS_MADE_HERE:
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in [found for pattern in _FILES_MADE_HERE for found in folder.glob(pattern)]:
        path.unlink()
    for name in ("alerts", "logs"):
        (folder / name).mkdir()
    return ended


def _own_variables(folder: Path) -> dict[str, str]:
    """Our environment without a Temporal, Holdpoint or telemetry configuration that belongs to something else."""
    foreign = ("TEMPORAL_", "HOLDPOINT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"TEMPORAL_CONFIG_FILE": str(folder / "temporal.toml"), "PYTHONUNBUFFERED": "1"}


@asynccontextmanager
async def stage(folder: Path, console: Console, **policy: Any) -> AsyncIterator[Stage]:
    """Everything started, from an empty database; everything ended by its process id afterwards, whatever happens.

    ``policy`` is what ``Environment.write_settings`` takes.

    Raises:
        LabFailed: something did not start.
    """
    with sole_use(folder):
        left = clear(folder)
        variables = _own_variables(folder)
        (folder / "temporal.toml").write_text("# No profile: the demo's own server is named by TEMPORAL_ADDRESS.\n")
        async with Environment(folder) as environment:
            settings = environment.write_settings("holdpoint.toml", **policy)
            variables |= environment.variables(settings)
            temporal = TemporalServer(folder, variables)
            variables["TEMPORAL_ADDRESS"] = temporal.address
            worker = WorkerProcess(folder, variables)
            processes = ProcessList(folder / "processes.json")
            try:
                await temporal.start()
                client = await _connected(temporal)
                made = Stage(folder, environment, settings, variables, temporal, worker, client, processes, console)
                made.processes.keep(temporal)
                if left:
                    made.say(f"ended {len(left)} processes that an earlier run had left behind")
                yield made
            finally:
                await worker.stop()
                await temporal.stop()
                processes.keep()


async def _connected(server: TemporalServer) -> Client:
    deadline = time.monotonic() + READY_WITHIN
    while True:
        try:
            return await Client.connect(server.address, data_converter=pydantic_data_converter)
        except (RuntimeError, RPCError) as error:
            if time.monotonic() > deadline:
                raise LabFailed(f"Temporal does not answer at {server.address}: {error}") from None
