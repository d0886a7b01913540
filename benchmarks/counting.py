"""What a case leaves behind: events, bytes, workflow tasks, billable actions, and the shape of its activities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHandle

from benchmarks.floor_workflow import FloorInput

_WRITES = ("endpoint.quarantine_host", "directory.disable_account")
_ONE_ACTION = (
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
    EventType.EVENT_TYPE_TIMER_STARTED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
    EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
    EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
)
_TWO_ACTIONS = (EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,)


@dataclass(frozen=True)
class Count:
    """One run's history. ``actions`` follow docs.temporal.io/evaluate/cloud/actions, heartbeats left out."""

    events: int
    bytes: int
    workflow_tasks: int
    activities: int
    upserts: int
    timers: int
    actions: int

    def told(self) -> dict[str, int]:
        """As JSON."""
        return asdict(self)


def counted(events: Sequence[HistoryEvent], size: int) -> Count:
    """Count a history of ``size`` bytes. A failed attempt of an activity is an action more."""
    kinds = [event.event_type for event in events]
    attempts = sum(event.activity_task_started_event_attributes.attempt for event in events)
    return Count(
        events=len(events),
        bytes=size,
        workflow_tasks=kinds.count(EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED),
        activities=kinds.count(EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED),
        upserts=kinds.count(EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES),
        timers=kinds.count(EventType.EVENT_TYPE_TIMER_STARTED),
        actions=sum(kinds.count(kind) for kind in _ONE_ACTION)
        + 2 * sum(kinds.count(kind) for kind in _TWO_ACTIONS)
        + attempts,
    )


async def count_of(handle: WorkflowHandle[Any, Any]) -> Count:
    """Count the run that the handle names."""
    events = [event async for event in handle.fetch_history_events()]
    described = await handle.describe()
    return counted(events, described.raw_description.workflow_execution_info.history_size_bytes)


def shape(events: Sequence[HistoryEvent], name: str) -> FloorInput:
    """The activities of a case as batches: those that one workflow task scheduled run side by side."""
    batches: dict[int, list[str]] = {}
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            scheduled = event.activity_task_scheduled_event_attributes
            batch = batches.setdefault(scheduled.workflow_task_completed_event_id, [])
            batch.append(scheduled.activity_type.name)
    writes = next((place for place, names in enumerate(batches.values()) if set(names) & set(_WRITES)), -1)
    return FloorInput(name=name, batches=[len(names) for names in batches.values()], writes=writes)
