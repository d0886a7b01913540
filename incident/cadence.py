"""How often a case that waits looks again: as the settings say, and more seldom while everything runs late.

Thousands of cases may wait at once. When their looks are more than the workers can take, the answers of people wait in
the same line. Whoever is called late looks more seldom next time, so that the line becomes shorter.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

_NOTHING: Final = timedelta(0)
AS_LATE: Final = 100
"""Somebody called six seconds late looks every ten minutes at most."""

MOST: Final = 4
"""So many times the wait of the settings, however late it is: all are late after an outage."""

SELDOM: Final = 12
"""So many times for a case that cannot begin its history anew, once that is long: it must not be used up."""


class Cadence:
    """The looks of one case. Times are handed in."""

    def __init__(self, every: timedelta) -> None:
        self._every = every
        self._late = _NOTHING
        self._due: datetime | None = None

    def wait(self, now: datetime, *, seldom: bool = False) -> timedelta:
        """How long the case waits from ``now`` on."""
        length = min(max(self._every, self._late * AS_LATE), self._every * MOST)
        if seldom:
            length = max(length, self._every * SELDOM)
        self._due = now + length
        return length

    def called(self, now: datetime) -> None:
        """The wait is over; before its time it is never late."""
        self._late = max(_NOTHING, now - self._due) if self._due else _NOTHING
