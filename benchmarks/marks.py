"""Moments that a process writes down and another one reads: one line each, on the clock that all processes share."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from pathlib import Path
from typing import TextIO


class Marks:
    """Writes moments of this process to a file: containment writes, and with ``all_calls`` every call to a vendor."""

    def __init__(self, path: Path, *, all_calls: bool) -> None:
        self._file: TextIO = path.open("a", encoding="ascii", buffering=1)
        self._all_calls = all_calls

    def write(self, what: str, about: str) -> None:
        """A containment write, or what stands for one in the floor."""
        self._file.write(f"{what} {about} {time.monotonic():.6f}\n")

    def call(self, what: str, about: str) -> None:
        """Any other call to a vendor."""
        if self._all_calls:
            self.write(what, about)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Read:
    """The moments in a file: for each kind and name the times, in seconds, the earliest first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    def refresh(self) -> Read:
        """Take in what was written since the last time."""
        if not self._path.exists():
            return self
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode("ascii").splitlines():
            what, about, at = line.split()
            self.times[what][about].append(float(at))
        return self

    def first(self, about: str, *kinds: str) -> float | None:
        """When the first of these kinds happened to ``about``, or ``None``."""
        found = [self.times[kind][about][0] for kind in kinds if self.times[kind].get(about)]
        return min(found) if found else None

    def count(self, kind: str) -> int:
        """How often this kind happened."""
        return sum(len(times) for times in self.times[kind].values())

    async def until_first(self, about: str, *kinds: str, within: float, look_every: float = 0.02) -> float:
        """Wait for the first of these kinds to happen to ``about``; returns when it did. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while (at := self.refresh().first(about, *kinds)) is None:  # noqa: ASYNC110 - another process tells it
                await asyncio.sleep(look_every)
        return at
