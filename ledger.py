"""The ledger of containments for programs: freeze every containment, thaw it, look at the budget."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecutionStatus,
    WorkflowUpdateFailedError,
)
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError as UpdateTimedOut
from temporalio.common import Priority, WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from cases import NO_WORKER, CaseRefused
from connection import TASK_QUEUE
from incident.budget import (
    LEDGER_ID,
    LEDGER_SUMMARY,
    LEDGER_URGENCY,
    LEDGER_WORKFLOW,
    Ledger,
    read_switch,
    view,
)
from incident.text import plain
from workflows.containment_ledger import FROZEN_MEMO

_NO_ANSWER = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.CANCELLED)


async def freeze_containment(client: Client, *, by: str, reason: str, task_queue: str = TASK_QUEUE) -> dict[str, Any]:
    """Stop every containment at once, for all cases and workers, until ``thaw_containment``.

    Returns ``frozen``, ``changed`` (false where it was frozen already, which keeps its first name, time and reason) and
    ``freeze``. Where no worker answers, the freeze is left with Temporal and comes before everything that a worker
    does later; then ``pending`` is true.

    Raises:
        SwitchRefused: ``by`` or ``reason`` is missing.
        CaseRefused: the ledger refused.
        RPCError: Temporal did not take it; nothing is frozen.
    """
    switch = read_switch({"by": by, "reason": reason}).model_dump()
    start = WithStartWorkflowOperation[Any, None](
        LEDGER_WORKFLOW,
        id=LEDGER_ID,
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        static_summary=LEDGER_SUMMARY,
        priority=Priority(priority_key=LEDGER_URGENCY),
    )
    try:
        told: dict[str, Any] = await client.execute_update_with_start_workflow(
            "freeze", switch, start_workflow_operation=start, result_type=dict[str, Any], rpc_timeout=NO_WORKER
        )
    except WorkflowUpdateFailedError as error:
        raise _refused(error) from None
    except UpdateTimedOut:
        await _leave_signal(client, switch, task_queue)
        return {"frozen": True, "changed": True, "pending": True, "freeze": {**switch, "since": None}}
    return {**told, "pending": False}


async def _leave_signal(client: Client, switch: dict[str, Any], task_queue: str) -> None:
    await client.start_workflow(
        LEDGER_WORKFLOW,
        id=LEDGER_ID,
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        start_signal="freeze",
        start_signal_args=[switch],
        static_summary=LEDGER_SUMMARY,
        priority=Priority(priority_key=LEDGER_URGENCY),
    )


async def thaw_containment(client: Client, *, by: str, reason: str) -> dict[str, Any]:
    """Let containments go on. Returns ``frozen`` and ``changed`` (false where nothing was frozen).

    Raises:
        SwitchRefused: ``by`` or ``reason`` is missing.
        CaseRefused: the ledger refused, or no worker runs.
        RPCError: Temporal did not take it.
    """
    switch = read_switch({"by": by, "reason": reason}).model_dump()
    try:
        told: dict[str, Any] = await client.get_workflow_handle(LEDGER_ID).execute_update(
            "thaw", switch, result_type=dict[str, Any], rpc_timeout=NO_WORKER
        )
    except WorkflowUpdateFailedError as error:
        raise _refused(error) from None
    except UpdateTimedOut:
        raise CaseRefused("no worker answered, so nothing is thawed: start one with 'python worker.py'") from None
    except RPCError as error:
        if _no_ledger(error):
            return {"frozen": False, "changed": False, "freeze": None}
        raise
    return told


async def ledger_status(client: Client) -> dict[str, Any]:
    """The switch and the budget just now, as ``incident.budget.view`` tells them. No ledger yet is an empty one.

    Raises:
        CaseRefused: no worker runs; the message tells what is known without one.
        RPCError: Temporal refused.
    """
    now = datetime.now(UTC)
    frozen = await frozen_words(client)
    if frozen is None:
        return view(Ledger(), now)
    try:
        told: dict[str, Any] = await client.get_workflow_handle(LEDGER_ID).query(
            "status", now.isoformat(), result_type=dict[str, Any], rpc_timeout=NO_WORKER
        )
    except RPCError as error:
        if error.status not in _NO_ANSWER:
            raise
        known = plain(frozen) or "containment was not frozen"
        raise CaseRefused(f"no worker answers for the ledger: start one with 'python worker.py'. {known}") from None
    return told


async def frozen_words(client: Client) -> str | None:
    """Who froze, since when and why, also while no worker runs. Empty if nobody did; ``None`` if there is no ledger.

    Raises:
        RPCError: Temporal refused.
    """
    try:
        described = await client.get_workflow_handle(LEDGER_ID).describe()
    except RPCError as error:
        if _no_ledger(error):
            return None
        raise
    if described.status is not WorkflowExecutionStatus.RUNNING:
        return None
    return str(await described.memo_value(FROZEN_MEMO, ""))


def _no_ledger(error: RPCError) -> bool:
    return error.status is RPCStatusCode.NOT_FOUND and "namespace" not in error.message.lower()


def _refused(error: WorkflowUpdateFailedError) -> CaseRefused:
    cause = error.cause
    return CaseRefused(plain(cause.message if isinstance(cause, ApplicationError) else str(cause)))
