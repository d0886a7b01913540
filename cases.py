"""Cases for programs: start one, answer one, look at them. The command line and a SIEM bridge stand on these."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from temporalio.api.common.v1 import Priority as ApiPriority
from temporalio.api.common.v1 import WorkflowExecution as ApiExecution
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflow.v1 import WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import UpdateWorkflowExecutionOptionsRequest
from temporalio.client import (
    Client,
    WithStartWorkflowOperation,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError as UpdateTimedOut
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from connection import TASK_QUEUE
from handing_over import (
    MOST_TOGETHER,
    WORKFLOW,
    Fault,
    Started,
    refused_for_good,
    start_incident,
    start_incidents,
    together,
)
from incident.release import read_lease_answer, read_request
from incident.text import plain
from workflows import search_attributes

__all__ = [
    "MOST_TOGETHER",
    "WORKFLOW",
    "Fault",
    "Started",
    "refused_for_good",
    "start_incident",
    "start_incidents",
    "together",
]

RELEASE = "ReleaseContainment"
NO_WORKER = timedelta(seconds=10)
"""How long an answer of a worker is waited for before saying that none runs."""

_FIRST = 1
_HASTE = timedelta(seconds=2)
_OLD_REFUSAL = timedelta(minutes=1)
"""Until then the same answer gets the same refusal: whoever pressed twice meant it once."""

_LOOKS_UP = timedelta(seconds=30)
"""How long a release may take to look up what its case did."""

_NO_SUCH_CASE = "there is no case {}; 'python starter.py list --all' shows them"

T = TypeVar("T")


class CaseRefused(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


class NoWorker(CaseRefused):
    """No worker answers just now. The case is kept; so is an answer that is left as a signal."""


class NoSuchCase(CaseRefused):
    """There is no case of that id."""


class NotReached(CaseRefused):
    """Temporal did not take it, for a reason of its own."""


async def decide_case(client: Client, case_id: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Answer a case's question; returns the receipt. The same answer twice gives the same receipt.

    Raises:
        CaseRefused: the answer does not count, there is no such case, or no worker runs.
    """
    await _hasten(client, case_id)
    digest = hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()[:24]
    began, mark = datetime.now(UTC), ""
    while True:
        try:
            return await _decided(client, case_id, answer, f"decide-{digest}{mark}")
        except WorkflowUpdateFailedError as error:
            cause = error.cause
            at = _refused_at(cause)
            # Temporal keeps a refusal for its update's id; one of before says nothing of now.
            if at is None or at > began - _OLD_REFUSAL or mark == f"-{at.isoformat()}":
                raise CaseRefused(cause.message if isinstance(cause, ApplicationError) else str(cause)) from None
            mark = f"-{at.isoformat()}"


async def _hasten(client: Client, case_id: str) -> None:
    """Let the tasks of a case go before all others from now on: a person waits for it."""
    request = UpdateWorkflowExecutionOptionsRequest(
        namespace=client.namespace,
        workflow_execution=ApiExecution(workflow_id=case_id),
        workflow_execution_options=WorkflowExecutionOptions(priority=ApiPriority(priority_key=_FIRST)),
        update_mask=FieldMask(paths=["priority.priority_key"]),
    )
    # A server that cannot, or does not know the case: what is asked of it next tells, or goes on in the common line.
    with contextlib.suppress(RPCError):
        await client.workflow_service.update_workflow_execution_options(request, timeout=_HASTE)


async def _decided(client: Client, case_id: str, answer: dict[str, Any], update_id: str) -> dict[str, Any]:
    try:
        receipt: dict[str, Any] = await case_handle(client, case_id).execute_update(
            "decide", answer, id=update_id, result_type=dict[str, Any], rpc_timeout=NO_WORKER
        )
    except UpdateTimedOut:
        raise NoWorker(
            "no worker answered, so the answer may not be kept. Start a worker, or leave it as a signal:\n"
            f"  temporal workflow signal --workflow-id {shlex.quote(case_id)} --name analyst_decision"
            f" --input {shlex.quote(json.dumps(answer))}"
        ) from None
    except RPCError as error:
        raise await _why_no_case(client, case_id, error) from None
    return receipt


def _refused_at(cause: BaseException) -> datetime | None:
    """When the case refused an answer after it had weighed it; ``None`` for what it refused at the door."""
    told = cause.details[0] if isinstance(cause, ApplicationError) and cause.details else None
    try:
        return datetime.fromisoformat(told) if isinstance(told, str) else None
    except ValueError:
        return None


async def leave_answer(client: Client, case_id: str, answer: dict[str, Any]) -> None:
    """Leave an answer as a signal. It is kept while no worker runs, and weighed when one is back.

    Unlike with ``decide_case`` nothing is refused here: one that does not count is recorded in the case as that.

    Raises:
        CaseRefused: there is no such case, or it is closed.
    """
    await _hasten(client, case_id)
    await _signalled(client, case_id, "analyst_decision", answer)


async def note_seen(client: Client, case_id: str, question: str, analyst: str) -> None:
    """Have the case note that the link of this analyst to this question was opened. Raises CaseRefused as above."""
    await _signalled(client, case_id, "seen", {"question": question, "analyst": analyst})


async def _signalled(client: Client, case_id: str, signal: str, what: dict[str, Any]) -> None:
    """Leave a signal, which needs Temporal alone."""
    try:
        await case_handle(client, case_id).signal(signal, what, rpc_timeout=NO_WORKER)
    except RPCError as error:
        if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED):
            raise NotReached("Temporal does not answer") from None
        raise await _why_no_case(client, case_id, error) from None


async def case_status(client: Client, case_id: str) -> dict[str, Any]:
    """The case as the query ``status`` answers it.

    Raises:
        CaseRefused: there is no such case, or no worker runs.
    """
    return await queried(client, case_id, "status", dict[str, Any])


async def queried(client: Client, case_id: str, query: str, result: type[T]) -> T:
    """What a query of the case answers. Raises CaseRefused as ``case_status`` does."""
    try:
        answer: T = await case_handle(client, case_id).query(query, result_type=result, rpc_timeout=NO_WORKER)
    except RPCError as error:
        raise await _why_no_case(client, case_id, error) from None
    except WorkflowQueryFailedError as error:
        raise CaseRefused(f"{plain(case_id)} does not answer as a case does: {plain(error.message)}") from None
    return answer


def case_handle(client: Client, case_id: str) -> WorkflowHandle[Any, Any]:
    """The case of that id, which may not be there. Raises CaseRefused for what can be no id."""
    if not case_id.isprintable() or not case_id.strip():
        raise NoSuchCase(_NO_SUCH_CASE.format(plain(case_id)))
    return client.get_workflow_handle(case_id)


async def _why_no_case(client: Client, case_id: str, error: RPCError) -> CaseRefused:
    if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.CANCELLED):
        return NoWorker(f"no worker answers for {plain(case_id)}: start one with 'python worker.py'")
    if error.status is not RPCStatusCode.NOT_FOUND or "namespace" in error.message.lower():
        return NotReached(f"Temporal refused: {plain(error.message)}")
    try:
        found = await client.get_workflow_handle(case_id).describe()
    except RPCError:
        return NoSuchCase(_NO_SUCH_CASE.format(plain(case_id)))
    outcome = case_row(found)["outcome"]
    return CaseRefused(f"case {plain(case_id)} is closed{f' ({outcome})' if outcome else ''}: no question stands")


async def release_case(
    client: Client,
    case_id: str,
    *,
    analyst: str,
    reason: str,
    actions: Sequence[str] | None = None,
    run_id: str | None = None,
    task_queue: str = TASK_QUEUE,
) -> dict[str, Any]:
    """Undo what a case contained; returns the receipt as soon as it is taken, the same one for the same release.

    Without ``run_id`` it is the case's latest run that changed anything. ``actions`` narrows it. ``released`` waits
    for what comes of it.

    Raises:
        ReleaseRefused: the request is malformed.
        CaseRefused: who asks may not decide, there is no such case, or no worker runs.
    """
    asked = read_request({"analyst": analyst, "reason": reason, "actions": list(actions) if actions else None})
    request = asked.model_dump(mode="json", exclude_none=True)
    handle = _release_handle(client, case_id)
    start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
        RELEASE,
        {"case_id": case_id, "run_id": run_id, "after": await _ended_run(handle)},
        id=handle.id,
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        static_summary=plain(f"Release of {case_id}", limit=190),
        static_details=plain(f"Asked for by {asked.analyst}: {asked.reason}"),
    )
    try:
        receipt: dict[str, Any] = await client.execute_update_with_start_workflow(
            "release",
            request,
            start_workflow_operation=start,
            result_type=dict[str, Any],
            rpc_timeout=_LOOKS_UP,
        )
    except WorkflowUpdateFailedError as error:
        raise _refused(error) from None
    except UpdateTimedOut:
        raise CaseRefused("no worker answered, so nothing was released: start a worker and ask again") from None
    except RPCError as error:
        raise CaseRefused(_why_no_release(case_id, error)) from None
    return receipt


async def renew_lease(
    client: Client, case_id: str, *, analyst: str, reason: str, question: str | None = None
) -> dict[str, Any]:
    """Let a leased containment stand for another lease, while the question about it stands; returns the receipt.

    Raises:
        ReleaseRefused: the answer is malformed.
        CaseRefused: it does not count, no lease runs, or no worker does.
    """
    given = {"decision": "renew", "analyst": analyst, "reason": reason, "question": question}
    answer = read_lease_answer(given).model_dump(mode="json", exclude_none=True)
    try:
        receipt: dict[str, Any] = await _release_handle(client, case_id).execute_update(
            "decide", answer, result_type=dict[str, Any], rpc_timeout=NO_WORKER
        )
    except WorkflowUpdateFailedError as error:
        raise _refused(error) from None
    except (UpdateTimedOut, RPCError) as error:
        raise CaseRefused(_why_no_release(case_id, error)) from None
    return receipt


async def released(client: Client, receipt: dict[str, Any]) -> dict[str, Any]:
    """Wait until everything of a receipt is undone or left alone; returns the release's ``status``.

    Raises:
        CaseRefused: somebody ended the release before.
    """
    handle = client.get_workflow_handle(_release_id(receipt["case_id"]), run_id=receipt["release_run_id"])
    while True:
        run = await handle.describe()
        if run.status is WorkflowExecutionStatus.COMPLETED:
            done: dict[str, Any] = await handle.result(follow_runs=False)
            return done
        if run.status is WorkflowExecutionStatus.CONTINUED_AS_NEW:
            handle = client.get_workflow_handle(run.id)
        elif run.status is not WorkflowExecutionStatus.RUNNING:
            raise CaseRefused(f"the release of {plain(receipt['case_id'])} was ended by an operator")
        else:
            with contextlib.suppress(RPCError):  # no worker just now; the release is kept
                state: dict[str, Any] = await handle.query("status", rpc_timeout=NO_WORKER)
                under_way = any(undo["state"] in ("requested", "accepted") for undo in state["actions"])
                if state["stage"] in ("leased", "awaiting_decision") and not under_way:
                    return state
        await asyncio.sleep(0.3)


def _release_id(case_id: str) -> str:
    return f"release-{case_id}"


def _release_handle(client: Client, case_id: str) -> WorkflowHandle[Any, Any]:
    case_handle(client, case_id)
    return client.get_workflow_handle(_release_id(case_id))


async def _ended_run(handle: WorkflowHandle[Any, Any]) -> str | None:
    """The run of an earlier release that has ended, if the latest has."""
    try:
        run = await handle.describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    return run.run_id if run.status is WorkflowExecutionStatus.COMPLETED else None


def _refused(error: WorkflowUpdateFailedError) -> CaseRefused:
    cause = error.cause
    return CaseRefused(cause.message if isinstance(cause, ApplicationError) else str(cause))


def _why_no_release(case_id: str, error: RPCError | UpdateTimedOut) -> str:
    if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
        return f"no lease runs for {plain(case_id)}: there is nothing to renew"
    if isinstance(error, UpdateTimedOut) or error.status is RPCStatusCode.DEADLINE_EXCEEDED:
        return f"no worker answers for {plain(case_id)}: start one with 'python worker.py'"
    return f"Temporal refused: {plain(error.message)}"


async def list_cases(client: Client, *, everything: bool = False, limit: int = 200) -> list[dict[str, Any]]:
    """The open cases, the latest first; with ``everything`` the closed ones too, as far as Temporal keeps them."""
    query = f"WorkflowType = '{WORKFLOW}'" + ("" if everything else " AND ExecutionStatus = 'Running'")
    return [case_row(run) async for run in client.list_workflows(query, limit=limit)]


async def closed_cases(client: Client, *, limit: int = 50) -> list[dict[str, Any]]:
    """The cases that have ended, the latest first, as far as Temporal keeps them."""
    ended = " AND ".join(f"ExecutionStatus != '{status}'" for status in ("Running", "ContinuedAsNew"))
    query = f"WorkflowType = '{WORKFLOW}' AND {ended}"
    return [case_row(run) async for run in client.list_workflows(query, limit=limit)]


def case_row(run: WorkflowExecution) -> dict[str, Any]:
    """What Temporal shows of a case, as it was published last. It needs no worker."""
    attributes = run.typed_search_attributes
    due = attributes.get(search_attributes.DUE)
    return {
        "case_id": run.id,
        "run_id": run.run_id,
        "stage": attributes.get(search_attributes.STAGE),
        "priority": attributes.get(search_attributes.PRIORITY),
        "risk": attributes.get(search_attributes.RISK),
        "user": attributes.get(search_attributes.USER),
        "host": attributes.get(search_attributes.HOST),
        "alerts": list(attributes.get(search_attributes.ALERTS) or ()),
        "decision_due_at": due.isoformat() if due else None,
        "outcome": attributes.get(search_attributes.OUTCOME),
        "started_at": run.start_time.isoformat(),
        "closed_at": run.close_time.isoformat() if run.close_time else None,
        "execution": run.status.name.lower() if run.status is not None else None,
        "task_queue": run.task_queue,
    }


async def register_search_attributes(client: Client) -> dict[str, list[str]]:
    """Register what cases are found by. Idempotent.

    Raises:
        CaseRefused: one of the names is registered already with another type.
    """
    listed = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    kinds = {key.name: _kind(key.indexed_value_type) for key in search_attributes.ALL}
    wrong = [n for n, kind in kinds.items() if n in listed.custom_attributes and listed.custom_attributes[n] != kind]
    if wrong:
        raise CaseRefused(f"registered with another type: {', '.join(wrong)}; remove them or use another namespace")
    missing = {name: kind for name, kind in kinds.items() if name not in listed.custom_attributes}
    if missing:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
        )
    return {"created": sorted(missing), "present": sorted(set(kinds) - set(missing))}


def _kind(value: Any) -> IndexedValueType.ValueType:
    return IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{value.name}")
