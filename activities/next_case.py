"""The step that opens the case of alerts that waited for another one to close."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError, RPCStatusCode

from incident.alert import Alert
from incident.next_case import OpenNext
from incident.text import plain

_SOON: Final = timedelta(seconds=1)

Take = Callable[[Sequence[Alert]], Awaitable[str]]
"""Brings alerts of one case to Temporal; returns the run. Raises RPCError where Temporal does not take them."""


class NextCaseActivities:
    """Asks Temporal whether a case has closed, and hands its successor's alerts to ``take``."""

    def __init__(self, client: Client, take: Take) -> None:
        self._client = client
        self._take = take

    @activity.defn(name="case.open_next")
    async def open_next(self, request: OpenNext) -> str:
        """Open the case, or let its alerts join the one that somebody else opened. Repeated it starts nothing twice.

        Raises:
            ApplicationError: the case before is still open, or Temporal did not take them; both pass.
        """
        try:
            before = await self._client.get_workflow_handle(request.case_id, run_id=request.run_id).describe()
            if before.status is WorkflowExecutionStatus.RUNNING:
                raise ApplicationError(
                    f"{plain(request.case_id)} is still closing",
                    type="Busy",
                    next_retry_delay=_SOON,
                    category=ApplicationErrorCategory.BENIGN,
                )
            return await self._take(request.alerts)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return await self._take(request.alerts)
            raise ApplicationError(f"Temporal did not take them: {plain(error.message)}", type="Busy") from None
