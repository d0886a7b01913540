"""Temporal's dev server and the worker processes of one benchmark, in a folder of their own and ended by their ids."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from benchmarks.marks import Read
from benchmarks.process import READY
from cases import register_search_attributes
from lab.servers import Child, LabFailed, TemporalServer

_READY_WITHIN = 60.0


class BenchWorker(Child):
    """A worker process, see ``benchmarks.process``; what it marks is in ``marks``."""

    def __init__(self, stage: Stage, what: str, knobs: tuple[str, ...] = ()) -> None:
        path = stage.folder / f"{what}-{len(stage.workers)}.marks"
        command = [sys.executable, "-m", "benchmarks.process", what, str(path), *knobs]
        log = stage.folder / "logs" / f"{what}-{len(stage.workers)}.log"
        super().__init__(what, command, log=log, variables=stage.variables | {"TEMPORAL_ADDRESS": stage.server.address})
        self.marks = Read(path)

    async def start(self) -> None:
        """Start it and wait until it polls."""
        await super().start()
        await self.until_ready(READY)


class Stage:
    """An asynchronous context manager: a server on a free port of loopback, its file and all logs in a folder."""

    def __init__(self, *options: str) -> None:
        """``options`` are further ones of Temporal's dev server."""
        self._open = AsyncExitStack()
        self._options = options
        self.workers: list[BenchWorker] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            self.folder = Path(opening.enter_context(tempfile.TemporaryDirectory(prefix="holdpoint-bench-")))
            (self.folder / "logs").mkdir()
            nothing = self.folder / "temporal.toml"
            nothing.touch()
            self.variables = dict(os.environ) | {"TEMPORAL_CONFIG_FILE": str(nothing), "PYTHONUNBUFFERED": "1"}
            self.server = TemporalServer(self.folder, self.variables, port=0, ui_port=0, options=self._options)
            opening.push_async_callback(self._end)
            await self.server.start()
            self.client = await self.connect()
            await self._register()
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def connect(self) -> Client:
        """A client of this stage's server, which may not be ready when its port is.

        Raises:
            LabFailed: it did not become ready.
        """
        try:
            async with asyncio.timeout(_READY_WITHIN):
                while True:
                    try:
                        return await Client.connect(self.server.address, data_converter=pydantic_data_converter)
                    except RuntimeError:
                        await asyncio.sleep(0.1)
        except TimeoutError:
            raise LabFailed(f"Temporal was not ready within {_READY_WITHIN:.0f} s, see {self.server.log}") from None

    async def worker(self, what: str, *knobs: str) -> BenchWorker:
        """Start a worker; it is ended with the stage."""
        made = BenchWorker(self, what, knobs)
        self.workers.append(made)
        await made.start()
        return made

    @property
    def disk_mb(self) -> float:
        """What the server's file takes, in megabytes."""
        return round(sum(path.stat().st_size for path in self.folder.glob("temporal.sqlite*")) / 1e6, 1)

    async def _register(self) -> None:
        async with asyncio.timeout(_READY_WITHIN):
            while True:
                try:
                    await register_search_attributes(self.client)
                    # They are known a moment after they were taken.
                    await self.client.count_workflows("IncidentStage = 'none' AND AlertIds = 'none'")
                except RPCError:
                    await asyncio.sleep(0.1)
                else:
                    return

    async def _end(self) -> None:
        for worker in self.workers:
            await worker.kill()
        await self.server.stop()


async def answering(stage: Stage, within: float = 60.0) -> None:
    """Wait until the server answers again. Raises LabFailed when it does not."""
    try:
        async with asyncio.timeout(within):
            while True:
                try:
                    await stage.client.count_workflows("IncidentStage = 'none'")
                except RPCError:
                    await asyncio.sleep(0.05)
                else:
                    return
    except TimeoutError:
        raise LabFailed(f"Temporal did not answer within {within:.0f} s") from None
