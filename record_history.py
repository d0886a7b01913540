"""Temporal's own history of a case, read for a record to be held against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from cases import NO_WORKER, WORKFLOW, case_handle
from incident.chain import Finding
from incident.record import key_of
from incident.text import plain
from record_evidence import Held, History, Message, Step, Witness, compare

__all__ = ["Held", "against_history"]

_MESSAGES = ("alert", "alerts", "analyst_decision", "decide")
_MOST_RUNS = 1000


async def against_history(client: Client, sealed: Mapping[str, Any], *, case_id: str | None = None) -> Held:
    """Hold a record against the history of its case, or of the case that it is said to be of.

    Raises:
        CaseRefused: that can be the id of no case.
        RPCError: Temporal did not answer.
    """
    named, key = sealed.get("case_id"), sealed.get("case_key")
    wanted = case_id or named
    other = (
        [] if named == wanted else [Finding(where="case_id", what=f"it names another case than {plain(str(wanted))}")]
    )
    runs = await _runs(client, wanted, key) if isinstance(wanted, str) and isinstance(key, str) else []
    if not runs:
        gone = f"Temporal's history: it keeps no case {plain(str(wanted))} with this record's key"
        return Held(findings=tuple(other), unchecked=(gone,))
    held = compare(sealed, await _history(client, str(wanted), runs))
    return held.model_copy(update={"findings": (*other, *held.findings)})


Run = tuple[str, list[HistoryEvent]]


async def _runs(client: Client, case_id: str, key: str) -> list[Run]:
    """The runs of the case whose key the record has, the first one first: one case may have been continued.

    The key is a digest of the case's id and its first run. Mostly the latest run is the one; else every run of that id
    is looked at that Temporal still lists.
    """
    handle = case_handle(client, case_id)
    try:
        latest: str | None = (await handle.describe()).run_id
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return []
    back: list[Run] = []
    while latest:
        events = await _events(client, case_id, latest)
        started = events[0].workflow_execution_started_event_attributes
        if key_of(case_id, started.first_execution_run_id) != key:
            break
        back.insert(0, (latest, events))
        latest = started.continued_execution_run_id
    return back or await _earlier(client, case_id, key)


async def _earlier(client: Client, case_id: str, key: str) -> list[Run]:
    runs: list[Run] = []
    # Quotes would end the query's text; no id that Holdpoint makes has any.
    if "'" in case_id or '"' in case_id or "\\" in case_id:
        return runs
    query = f"WorkflowType = '{WORKFLOW}' AND WorkflowId = '{case_id}'"
    current = ""
    async for run in client.list_workflows(query, limit=_MOST_RUNS):
        if key_of(case_id, run.run_id) == key:
            current = run.run_id
    while current:
        runs.append((current, await _events(client, case_id, current)))
        current = runs[-1][1][-1].workflow_execution_continued_as_new_event_attributes.new_execution_run_id
    return runs


async def _events(client: Client, case_id: str, run_id: str) -> list[HistoryEvent]:
    return [event async for event in client.get_workflow_handle(case_id, run_id=run_id).fetch_history_events()]


async def _history(client: Client, case_id: str, runs: Sequence[Run]) -> History:
    messages: list[Message] = []
    steps: list[Step] = []
    for _, events in runs:
        messages += await _messages(client, events)
        steps += await _steps(client, events)
    ended = runs[-1][1][-1].workflow_execution_completed_event_attributes
    result = await _decoded(client, ended.result.payloads)
    kept = [Witness(where="the record that was attached", said=said) for said in _attached(steps)]
    if isinstance(result, dict):
        kept.append(Witness(where="the case's result", said=result, final=True))
    told, unheard = await _told(client, case_id, runs[-1][0], result)
    given = await _decoded(client, runs[0][1][0].workflow_execution_started_event_attributes.input.payloads)
    return History(
        given=given,
        messages=tuple(messages),
        steps=tuple(steps),
        witnesses=(*kept, *([Witness(where="the case itself", said=told, final=bool(result))] if told else [])),
        unheard=unheard,
    )


async def _messages(client: Client, events: Sequence[HistoryEvent]) -> list[Message]:
    found = []
    for event in events:
        signal = event.workflow_execution_signaled_event_attributes
        update = event.workflow_execution_update_accepted_event_attributes.accepted_request.input
        name, payloads = (signal.signal_name, signal.input) if signal.signal_name else (update.name, update.args)
        if name in _MESSAGES:
            argument = await _decoded(client, payloads.payloads)
            found.append(Message(name=name, argument=argument, at=_at(event.event_time)))
    return found


async def _steps(client: Client, events: Sequence[HistoryEvent]) -> list[Step]:
    """The steps in the order in which they began, each with what came of it."""
    steps: dict[int, Step] = {}
    for event in events:
        scheduled = event.activity_task_scheduled_event_attributes
        done = event.activity_task_completed_event_attributes
        undone = (
            event.activity_task_failed_event_attributes,
            event.activity_task_timed_out_event_attributes,
            event.activity_task_canceled_event_attributes,
        )
        ended = max([done.scheduled_event_id, *(end.scheduled_event_id for end in undone)])
        if scheduled.activity_type.name:
            request = await _decoded(client, scheduled.input.payloads)
            began = _at(event.event_time)
            steps[event.event_id] = Step(name=scheduled.activity_type.name, request=request, began=began)
        elif ended in steps:
            result = await _decoded(client, done.result.payloads)
            changes = {"ended": _at(event.event_time), "result": result, "failed": not done.scheduled_event_id}
            steps[ended] = steps[ended].model_copy(update=changes)
    return list(steps.values())


def _attached(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The records that went out to the ticket: each stands in the history, as it was then."""
    asked = [step.request for step in steps if step.name == "record.attach" and isinstance(step.request, dict)]
    return [request["record"] for request in asked if isinstance(request.get("record"), dict)]


async def _told(client: Client, case_id: str, run_id: str, result: Any) -> tuple[dict[str, Any] | None, str | None]:
    """What the case tells of itself, or why it does not. Another version may word what happened otherwise."""
    handle = client.get_workflow_handle(case_id, run_id=run_id)
    try:
        told: dict[str, Any] = await handle.query("record", result_type=dict[str, Any], rpc_timeout=NO_WORKER)
    except WorkflowQueryFailedError as error:
        return None, f"the case does not tell it: {plain(error.message)}"
    except RPCError:
        return None, "no worker answers for the case: start one with 'python worker.py'"
    if isinstance(result, dict) and "record" in result and told.get("record") != result["record"]:
        return None, "the worker is of another version than the one that ran the case"
    return told, None


async def _decoded(client: Client, payloads: Sequence[Payload]) -> Any:
    """The first value, as plain JSON. Raises RuntimeError where a codec is missing."""
    return (await client.data_converter.decode(list(payloads)))[0] if payloads else None


def _at(stamp: Timestamp) -> datetime:
    """To the microsecond, as the workflow's own clock tells it."""
    return stamp.ToDatetime(tzinfo=UTC)
