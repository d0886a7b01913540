"""The poller's step: a page of the SIEM's incidents, each brought to its case."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from activities.failures import told_to_temporal
from incident.polling import Became, Dealt, PageRequest, PageTaken, SiemIncident, fresh
from incident.text import plain
from integrations.errors import IntegrationError
from integrations.interfaces import IncidentSource

MARKER: Final = "[holdpoint: no case]"
"""Stands in the comment on an incident that starts no case, and tells whether it is there already."""

_AT_ONCE: Final = 8
"""Comments at one time."""

Take = Callable[[Sequence[SiemIncident]], Awaitable[list[Dealt | Exception]]]
"""Brings incidents to their cases and tells what became of each, in their order; why, where asking again may help."""


class SiemIncidentActivities:
    """Reads from one SIEM, and hands each incident to ``take``."""

    def __init__(self, source: IncidentSource | None, take: Take | None, *, comments: bool) -> None:
        """``comments`` is whether an incident that starts no case is told so."""
        self._source = source
        self._take = take
        self._comments = comments
        self._room = asyncio.Semaphore(_AT_ONCE)

    @activity.defn(name="siem.take_incidents")
    async def take_incidents(self, request: PageRequest) -> PageTaken:
        """A page of a window, and what became of the incidents on it.

        Repeated it starts nothing twice: a case knows its alerts.

        Raises:
            ApplicationError: Securonix or Temporal did not answer; what was taken before stays taken.
        """
        if self._source is None or self._take is None:
            raise ApplicationError("this worker reads no incidents", type="Misconfigured", non_retryable=True)
        with told_to_temporal():
            page = await self._source.incidents(request.since, request.until, request.offset)
            by_id = {incident.id: incident for incident in page.incidents}
            new = fresh(by_id, set(request.seen))
            results = await self._take([by_id[name] for name in new])
            dealt = tuple(_settled(result, request, by_id) for result in results if isinstance(result, Dealt))
            if self._comments:
                mute = [one for one in dealt if one.became is Became.MISSED]
                await asyncio.gather(*(self._say_so(self._source, one) for one in mute))
            for result in results:
                if isinstance(result, RPCError):
                    raise ApplicationError(f"Temporal did not take it: {plain(result.message)}", type="Busy")
                if isinstance(result, Exception):
                    raise result
        return PageTaken(count=page.count, total=page.total, ids=tuple(by_id), dealt=dealt)

    async def _say_so(self, source: IncidentSource, dealt: Dealt) -> None:
        """Tell the incident's own readers. That it fails keeps no other incident from its case."""
        text = f"Holdpoint started no case for this incident: {dealt.why} {MARKER}"
        try:
            async with self._room:
                await source.comment(dealt.incident, text, MARKER)
        except IntegrationError as error:
            activity.logger.warning("incident %s could not be commented: %s", plain(dealt.incident), error)


def _settled(dealt: Dealt, request: PageRequest, incidents: Mapping[str, SiemIncident]) -> Dealt:
    """An incident that cannot start a case yet is waited for no longer than the request's patience."""
    opened_at = incidents[dealt.incident].opened_at
    waits = opened_at is not None and request.until - opened_at < request.patience
    if dealt.became is Became.LATER and not waits:
        return dealt.model_copy(update={"became": Became.MISSED})
    return dealt
