"""The poller's step: a page of the SIEM's incidents, each brought to its case."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from activities.failures import told_to_temporal
from incident.polling import Became, Dealt, PageRequest, PageTaken, SiemIncident, fresh
from incident.text import plain
from integrations.errors import IntegrationError
from integrations.interfaces import IncidentSource

MARKER: Final = "[holdpoint: no case]"
"""Stands in the comment on an incident that starts no case, and tells whether it is there already."""

_AT_ONCE: Final = 8

Take = Callable[[SiemIncident], Awaitable[Dealt]]
"""Brings one incident to its case and tells what became of it. Raises RPCError where Temporal does not take it."""


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
            results = await asyncio.gather(*(self._dealt(by_id[name], request) for name in new), return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        dealt = tuple(result for result in results if isinstance(result, Dealt))
        return PageTaken(count=page.count, total=page.total, ids=tuple(by_id), dealt=dealt)

    async def _dealt(self, incident: SiemIncident, request: PageRequest) -> Dealt:
        assert self._take is not None, "the caller has looked"  # noqa: S101
        async with self._room:
            try:
                dealt = await self._take(incident)
            except RPCError as error:
                if error.status is RPCStatusCode.INVALID_ARGUMENT:
                    dealt = Dealt(incident=incident.id, became=Became.MISSED, why=plain(error.message, limit=200))
                else:
                    raise ApplicationError(f"Temporal did not take it: {plain(error.message)}", type="Busy") from None
            waits = incident.opened_at is not None and request.until - incident.opened_at < request.patience
            if dealt.became is Became.LATER and not waits:
                dealt = dealt.model_copy(update={"became": Became.MISSED})
            if dealt.became is Became.MISSED and self._comments:
                await self._say_so(dealt)
        return dealt

    async def _say_so(self, dealt: Dealt) -> None:
        """Tell the incident's own readers. That it fails keeps no other incident from its case."""
        assert self._source is not None, "the caller has looked"  # noqa: S101
        text = f"Holdpoint started no case for this incident: {dealt.why} {MARKER}"
        try:
            await self._source.comment(dealt.incident, text, MARKER)
        except IntegrationError as error:
            activity.logger.warning("incident %s could not be commented: %s", plain(dealt.incident), error)
