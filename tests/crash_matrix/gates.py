"""Gates in the steps of a worker process: closed and opened by files, since whoever waits at one is to be killed.

Only what nothing outside can see is held here: a step that has begun and sent nothing, and the steps that ask nobody
but Temporal.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

VARIABLE: Final = "CRASH_GATES"
"""The environment variable that names the folder."""

_REACHED = ".reached"
_POLL = 0.02


class Gates:
    """The gates in one folder, from either side."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def close(self, case_id: str, step: str, point: str) -> None:
        """Let the case's step stop at that point."""
        self._gate(case_id, step, point).touch()

    def reached(self, case_id: str, step: str, point: str) -> bool:
        """Whether the step stands there."""
        gate = self._gate(case_id, step, point)
        return gate.with_name(gate.name + _REACHED).exists()

    def open(self, point: str = "*") -> None:
        """Let every step go on that stands, or would stand, at that point."""
        for gate in self._folder.glob(f"*~{point}"):
            gate.unlink()

    async def passed(self, case_id: str, step: str, point: str) -> None:
        """Stand at the gate while it is closed."""
        gate = self._gate(case_id, step, point)
        if gate.exists():
            gate.with_name(gate.name + _REACHED).touch()
        while gate.exists():
            await asyncio.sleep(_POLL)

    def _gate(self, case_id: str, step: str, point: str) -> Path:
        return self._folder / f"{case_id}~{step}~{point}"
