"""Reading the SIEM's incidents at intervals: what a poll goes on from, and what it did. Times are UTC."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from pydantic import AwareDatetime, Field

from incident.evidence import Frozen
from incident.queues import Integration
from incident.text import plain

POLL_WORKFLOW: Final = "IncidentPoller"
SCHEDULE_ID: Final = "holdpoint-poll-securonix"
RUN_ID: Final = "poll-securonix"
"""The schedule, and what its runs are called; Temporal adds the time that a run was due."""

MOST_SEEN: Final = 5000
MOST_TOLD: Final = 20
CLOCKS_APART: Final = timedelta(minutes=5)
"""How far the SIEM's clock may be from Temporal's."""


class PollInput(Frozen):
    """What the schedule gives each run. ``since`` is where the very first one begins.

    ``overlap`` is read again each time: the SIEM tells of an incident some time after it was opened. A page is tried
    for ``within``: what a tick cannot read is the next one's.
    """

    since: AwareDatetime
    overlap: timedelta
    within: timedelta
    own_queues: tuple[Integration, ...] = ()


class PageRequest(Frozen):
    """One page of the incidents that were opened in a window. Those of ``seen`` are left out.

    ``patience`` is how long after it was opened an incident is waited for that cannot start a case yet.
    """

    since: AwareDatetime
    until: AwareDatetime
    offset: int
    seen: tuple[str, ...]
    patience: timedelta


class Became(StrEnum):
    """What became of an incident. ``PASSED`` is none for us, ``LATER`` cannot start a case yet, ``MISSED`` never."""

    STARTED = "started"
    JOINED = "joined"
    PASSED = "passed"
    LATER = "later"
    MISSED = "missed"


class Dealt(Frozen):
    """One incident: its id, what became of it, and for ``MISSED`` and ``LATER`` why."""

    incident: str
    became: Became
    why: str = ""


class PageTaken(Frozen):
    """What was on a page: how many incidents, their ids, and what became of those that were new.

    ``total`` is the SIEM's own count over all pages of the window, if it gave one.
    """

    count: int
    total: int | None
    ids: tuple[str, ...]
    dealt: tuple[Dealt, ...]


class SiemIncident(Frozen):
    """An incident as the SIEM lists it: ``fields`` are its own, ``opened_at`` when it was opened, if that is told."""

    id: str
    opened_at: AwareDatetime | None
    fields: dict[str, Any]


class SiemIncidents(Frozen):
    """One page of them. ``count`` counts what stood there, also what is another tenant's."""

    count: int
    total: int | None
    incidents: tuple[SiemIncident, ...]


class PollState(Frozen):
    """What one run leaves to the next: everything opened before ``until`` was read.

    ``seen`` are the incidents that are dealt with, each with the end of the window that it was in, in epoch seconds.
    The counts are since the beginning; ``missed`` are the latest that started no case, and ``trouble`` why this run
    ended before its time.
    """

    until: AwareDatetime
    seen: dict[str, int] = Field(default={})
    counts: dict[Became, int] = Field(default={})
    missed: tuple[Dealt, ...] = ()
    trouble: str | None = None

    def taken(self, page: PageTaken, until: datetime) -> PollState:
        """After a page of the window that ends at ``until``."""
        seen, counts = dict(self.seen), dict(self.counts)
        for dealt in page.dealt:
            counts[dealt.became] = counts.get(dealt.became, 0) + 1
            if dealt.became is not Became.LATER:
                seen[dealt.incident] = int(until.timestamp())
        missed = (*self.missed, *(dealt for dealt in page.dealt if dealt.became is Became.MISSED))
        return self.model_copy(update={"seen": seen, "counts": counts, "missed": missed[-MOST_TOLD:]})

    def read(self, until: datetime, overlap: timedelta) -> PollState:
        """After all of a window: what no later window can hold again is forgotten, and the oldest beyond a bound.

        To have forgotten one does no harm: a case knows its alerts, and an alert of a closed case is recognised.
        """
        oldest = (until - overlap - CLOCKS_APART).timestamp()
        kept = sorted(((at, name) for name, at in self.seen.items() if at >= oldest), reverse=True)[:MOST_SEEN]
        return self.model_copy(update={"until": until, "seen": {name: at for at, name in reversed(kept)}})

    def summary(self) -> dict[str, Any]:
        """For people and programs: without what is only remembered."""
        told = self.model_dump(mode="json", exclude={"seen"})
        return {**told, "counts": {became.value: self.counts.get(became, 0) for became in Became}}


def missed(incident: str, why: str) -> Dealt:
    """An incident that starts no case, and why not."""
    return Dealt(incident=incident[:100], became=Became.MISSED, why=plain(why, limit=200))


def fresh(ids: Iterable[str], known: set[str]) -> list[str]:
    """Those ids that are not known, each once."""
    return [name for name in dict.fromkeys(ids) if name not in known]
