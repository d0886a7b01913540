"""When it is no use to ask: a case that did not answer a moment ago, or a queue on which nobody did."""

from __future__ import annotations

import time
from typing import Final

LASTS: Final = 5.0
"""Seconds for which silence is believed."""

SEVERAL: Final = 3
"""So many cases that do not answer, and none that does, are a queue without a worker."""


class Silence:
    """Remembers who did not answer. One case that cannot answer keeps none of the others from being asked."""

    def __init__(self) -> None:
        self._cases: dict[str, float] = {}
        self._queues: dict[str, dict[str, float]] = {}
        self._heard: dict[str, float] = {}

    def holds(self, queue: str, run_id: str) -> bool:
        """Whether to leave this case in peace for now."""
        now = time.monotonic()
        if self._cases.get(run_id, 0.0) > now:
            return True
        if self._heard.get(queue, 0.0) > now:
            return False
        return sum(until > now for until in self._queues.get(queue, {}).values()) >= SEVERAL

    def of(self, queue: str, run_id: str) -> None:
        """Nobody answered for this case in time."""
        until = self._kept(run_id)
        silent = {run: then for run, then in self._queues.get(queue, {}).items() if then > time.monotonic()}
        self._queues[queue] = {**silent, run_id: until}

    def of_case(self, run_id: str) -> None:
        """A worker answered that this case cannot tell."""
        self._kept(run_id)

    def broken(self, queue: str) -> None:
        """Somebody answered."""
        self._queues.pop(queue, None)
        self._heard = {name: until for name, until in self._heard.items() if until > time.monotonic()}
        self._heard[queue] = time.monotonic() + LASTS

    def _kept(self, run_id: str) -> float:
        now = time.monotonic()
        self._cases = {run: until for run, until in self._cases.items() if until > now}
        self._cases[run_id] = now + LASTS
        return now + LASTS
