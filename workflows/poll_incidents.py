"""One tick of the poller: what was opened since the last one, page by page, each incident brought to its case.

Temporal hands a run of a schedule what the last successful one returned, so there is no other place where it is kept
how far was read: a tick that fails leaves that as it was, and the next one begins where the last good one ended.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from incident.polling import PageRequest, PageTaken, PollInput, PollState, fresh
    from incident.queues import Integration
    from workflows import steps

SPAN: Final = timedelta(hours=6)
"""How much of the past is read as one window."""

_SHORTEST: Final = timedelta(minutes=1)
_MOST: Final = 10_000
"""Incidents of one window; lists have been seen to end there."""

_MOST_PAGES: Final = 100
"""Pages of one run. The rest is the next one's."""


@workflow.defn(name="IncidentPoller")
class IncidentPoller:
    """Reads the SIEM's incidents up to now."""

    def __init__(self) -> None:
        self._pages = 0
        self.own_queues: tuple[Integration, ...] = ()

    @workflow.run
    async def run(self, given: PollInput) -> PollState:
        """Read on from where the last run ended; returns where this one did.

        Raises:
            ApplicationError: nothing could be read; the next run begins where this one did.
        """
        carried = workflow.get_last_completion_result(PollState) if workflow.has_last_completion_result() else None
        self.own_queues = given.own_queues
        state = (carried or PollState(until=given.since)).model_copy(update={"trouble": None})
        now = workflow.now()
        span = SPAN
        while state.until < now and self._pages < _MOST_PAGES:
            until = min(now, state.until + span)
            try:
                state, whole = await self._window(state, given, until, narrower=span > _SHORTEST)
            except _Broken as broken:
                if not self._pages:
                    raise ApplicationError(broken.why, type="PollFailed", non_retryable=True) from None
                return broken.state.model_copy(update={"trouble": broken.why})
            if whole:
                state = state.read(until, given.overlap)
            else:
                span = max(_SHORTEST, (until - state.until) / 2)
        return state

    async def _window(
        self, state: PollState, given: PollInput, until: datetime, *, narrower: bool
    ) -> tuple[PollState, bool]:
        """Read one window to its end; false if it holds too much and can be ``narrower``. Raises _Broken."""
        known: set[str] = set()
        offset = 0
        while True:
            page = await self._page(state, given, until, offset)
            state = state.taken(page, until)
            if not page.count:
                return state, True
            most = min(_MOST, _MOST_PAGES * page.count)
            if narrower and not offset and page.total is not None and page.total > most:
                return state, False
            new = fresh(page.ids, known)
            if page.ids and not new:
                # The same page once more: this version has no more, or it does not mind the offset.
                if page.total is not None and len(known) < page.total:
                    raise _Broken(state, f"only {len(known)} of {page.total} incidents can be read")
                return state, True
            known.update(new)
            offset += page.count

    async def _page(self, state: PollState, given: PollInput, until: datetime, offset: int) -> PageTaken:
        request = PageRequest(
            since=state.until - given.overlap,
            until=until,
            offset=offset,
            seen=tuple(state.seen),
            patience=given.overlap / 2,
        )
        try:
            page = await steps.take_incidents(request, given.within)
        except ActivityError as error:
            raise _Broken(state, steps.reason_of(error)) from None
        self._pages += 1
        return page


class _Broken(Exception):
    """Reading ended in the middle: what was taken by then, and why."""

    def __init__(self, state: PollState, why: str) -> None:
        super().__init__(why)
        self.state = state
        self.why = why
