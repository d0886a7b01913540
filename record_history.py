"""A record held against Temporal's own history: what it says has to be what Temporal kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowQueryFailedError
from temporalio.service import RPCError

from cases import NO_WORKER, WORKFLOW
from incident.chain import Finding
from incident.evidence import Frozen
from incident.record import key_of
from incident.text import plain

_WRITES = {
    "endpoint.quarantine_host": "quarantine_host ",
    "directory.disable_account": "disable_account ",
    "ticketing.open_ticket": "ticket ",
    "siem.comment_incident": "incident ",
}
"""The steps that change something elsewhere, and how the entry of each begins."""

_ANSWERS = ("decide", "analyst_decision")


class Held(Frozen):
    """What was found of a record by Temporal's history, and what could not be looked at."""

    findings: tuple[Finding, ...] = ()
    unchecked: tuple[str, ...] = ()


async def against_history(client: Client, sealed: Mapping[str, Any]) -> Held:
    """Hold a record against the history of its case: the alert, the head, each write and each answer.

    Raises:
        RPCError: Temporal did not answer.
    """
    case_id = sealed.get("case_id")
    run_id = await _run_of(client, case_id, sealed.get("case_key")) if isinstance(case_id, str) else None
    if not isinstance(case_id, str) or run_id is None:
        return Held(unchecked=(f"Temporal's history: it keeps no case {plain(str(case_id))} with this record's key",))
    events = sealed.get("events")
    texts = [str(entry.get("text", "")) for entry in events if isinstance(entry, dict)] if events else []
    findings: list[Finding] = []
    async for step in _happened(client, case_id, run_id):
        if step == "signal or update" and not any("answer" in text for text in texts):
            findings.append(Finding(where="events", what="Temporal has an answer that the record does not tell of"))
        start = _WRITES.get(step)
        if start and not any(text.startswith(start) for text in texts):
            findings.append(Finding(where="events", what=f"Temporal has the step {step}, and the record no word of it"))
    told = await _told_by_case(client, case_id, run_id)
    if told is None:
        return Held(findings=tuple(findings), unchecked=("its head against the case: no worker answers for it",))
    return Held(findings=(*findings, *_compared(sealed, told)))


async def _run_of(client: Client, case_id: str, key: Any) -> str | None:
    """The run whose key the record has: the key is a digest of the case and its first run."""
    if not case_id.isprintable() or "'" in case_id or not isinstance(key, str):
        return None
    query = f"WorkflowType = '{WORKFLOW}' AND WorkflowId = '{case_id}'"
    async for run in client.list_workflows(query, limit=1000):
        if key_of(case_id, run.run_id) == key:
            return run.run_id
    return None


async def _happened(client: Client, case_id: str, run_id: str) -> AsyncIterator[str]:
    """The steps that were completed, and that an answer came, as Temporal kept them; continued runs included."""
    current: str | None = run_id
    while current:
        scheduled: dict[int, str] = {}
        following = None
        async for event in client.get_workflow_handle(case_id, run_id=current).fetch_history_events():
            if event.HasField("activity_task_scheduled_event_attributes"):
                kind = event.activity_task_scheduled_event_attributes.activity_type.name
                scheduled[event.event_id] = kind
            elif event.HasField("activity_task_completed_event_attributes"):
                yield scheduled.get(event.activity_task_completed_event_attributes.scheduled_event_id, "")
            elif event.HasField("workflow_execution_update_accepted_event_attributes"):
                accepted = event.workflow_execution_update_accepted_event_attributes.accepted_request
                if accepted.input.name in _ANSWERS:
                    yield "signal or update"
            elif event.HasField("workflow_execution_signaled_event_attributes"):
                if event.workflow_execution_signaled_event_attributes.signal_name in _ANSWERS:
                    yield "signal or update"
            elif event.HasField("workflow_execution_continued_as_new_event_attributes"):
                following = event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
        current = following


async def _told_by_case(client: Client, case_id: str, run_id: str) -> dict[str, Any] | None:
    """The record as the case tells it now, or the end of its chain from its result; ``None`` without a worker."""
    run = await client.get_workflow_handle(case_id, run_id=run_id).describe()
    continued = run.status is WorkflowExecutionStatus.CONTINUED_AS_NEW
    latest = client.get_workflow_handle(case_id, run_id=None if continued else run_id)
    try:
        told: dict[str, Any] = await latest.query("record", result_type=dict[str, Any], rpc_timeout=NO_WORKER)
        return told
    except (WorkflowQueryFailedError, RPCError):
        if run.status is not WorkflowExecutionStatus.COMPLETED:
            return None
    ended = client.get_workflow_handle(case_id, run_id=run_id, result_type=dict[str, Any])
    result: dict[str, Any] = await ended.result()
    return result


def _compared(sealed: Mapping[str, Any], told: Mapping[str, Any]) -> list[Finding]:
    """A record may be older than the case: then it has to be the beginning of what the case tells."""
    findings = []
    alert = told.get("alert")
    if alert and sealed.get("alert") != alert:
        findings.append(Finding(where="alert", what="the case was started by another alert"))
    ours = {e["seq"]: e.get("digest") for e in sealed.get("events") or [] if isinstance(e, dict) and "seq" in e}
    theirs = {entry["seq"]: entry["digest"] for entry in told.get("events") or []}
    if theirs:
        strange = sorted(seq for seq in ours if (seq in theirs and ours[seq] != theirs[seq]) or seq > max(theirs))
        findings += [Finding(where=f"entry {seq}", what="the case's own entry is another one") for seq in strange[:10]]
    elif sealed.get("record") != told.get("record"):
        findings.append(Finding(where="head", what="the case ended with another head"))
    return findings
