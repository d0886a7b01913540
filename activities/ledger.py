"""A place in the ledger of containments, asked for on a case's behalf."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta

from temporalio import activity
from temporalio.client import Client, WithStartWorkflowOperation, WorkflowUpdateFailedError
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError as UpdateTimedOut
from temporalio.common import Priority, WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from incident.budget import LEDGER_ID, LEDGER_SUMMARY, LEDGER_URGENCY, LEDGER_WORKFLOW
from incident.requests import Reservation, Reserve

_WITHIN = timedelta(seconds=5)
_TURN_SECONDS = 12.0
"""Waiting for a turn included; a step that Temporal has given up must not take a place later."""

_AT_ONCE = 2
"""Temporal holds at most ten updates of one workflow in flight, and a crowd at its door answers slower than a queue."""


class LedgerActivities:
    """Asks the ledger, and starts it where there is none."""

    def __init__(self, client: Client, task_queue: str, ledger_id: str = LEDGER_ID) -> None:
        self._client = client
        self._task_queue = task_queue
        self._ledger_id = ledger_id
        self._turn = asyncio.Semaphore(_AT_ONCE)

    @activity.defn(name="ledger.reserve")
    async def reserve(self, request: Reserve) -> Reservation:
        """What the ledger says. The update's id is the request's, so that a repeated call finds the first answer.

        Raises:
            ApplicationError: the ledger did not answer; then nothing is granted, and the case asks.
        """
        try:
            async with asyncio.timeout(_TURN_SECONDS), self._turn:
                return await self._asked(request)
        except WorkflowUpdateFailedError as error:
            cause = error.cause
            why = cause.message if isinstance(cause, ApplicationError) else str(cause)
            raise ApplicationError(f"the ledger refused: {why}", type="LedgerRefused", non_retryable=True) from None
        except (UpdateTimedOut, TimeoutError):
            raise ApplicationError("no worker answered for it", type="LedgerUnreachable") from None
        except RPCError as error:
            raise ApplicationError(error.message, type="LedgerUnreachable") from None

    async def _asked(self, request: Reserve) -> Reservation:
        identifier = f"reserve-{hashlib.sha256(request.model_dump_json().encode()).hexdigest()[:32]}"
        handle = self._client.get_workflow_handle(self._ledger_id)
        try:
            told: Reservation = await handle.execute_update(
                "reserve", request, id=identifier, result_type=Reservation, rpc_timeout=_WITHIN
            )
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            told = await self._client.execute_update_with_start_workflow(
                "reserve",
                request,
                start_workflow_operation=self._start(),
                id=identifier,
                result_type=Reservation,
                rpc_timeout=_WITHIN,
            )
        return told

    def _start(self) -> WithStartWorkflowOperation[object, None]:
        return WithStartWorkflowOperation(
            LEDGER_WORKFLOW,
            id=self._ledger_id,
            task_queue=self._task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=LEDGER_SUMMARY,
            priority=Priority(priority_key=LEDGER_URGENCY),
        )
