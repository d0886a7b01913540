"""The poller for programs: install its schedule, pause it, look at it; and how an incident is brought to its case."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleDescription,
    ScheduleHandle,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
    WorkflowExecutionStatus,
    WorkflowFailureError,
)
from temporalio.exceptions import FailureError
from temporalio.service import RPCError, RPCStatusCode

from bridge.formats.mapping import Places, alert_fields
from bridge.formats.refusal import FormatRefused
from bridge.formats.shapes import recognised
from cases import CaseRefused
from connection import TASK_QUEUE
from handing_over import Fault, Started, refused_for_good, start_incidents
from incident.alert import Alert, AlertRefused, parse_alert
from incident.polling import (
    POLL_WORKFLOW,
    RUN_ID,
    SCHEDULE_ID,
    Became,
    Dealt,
    PollInput,
    PollState,
    SiemIncident,
    missed,
)
from incident.text import plain
from integrations.errors import IntegrationError
from integrations.interfaces import IncidentSource
from settings import Settings

CATCH_UP = timedelta(minutes=1)
"""How late a tick may still start after an outage of Temporal. One is enough: it reads all that was missed."""

PAGE_WITHIN = timedelta(minutes=5)
"""How long a tick tries to read one page."""

_NO_SCHEDULE = "the poller is not installed: run 'python starter.py poll install'"
_NOT_WANTED = "the settings want no poller: set securonix.poll_every"
_LATEST = 10

_SEARCHES = 8
"""For addresses of incidents, at one time."""

T = TypeVar("T")


def taking(
    client: Client, settings: Settings, source: IncidentSource, *, task_queue: str = TASK_QUEUE
) -> Callable[[Sequence[SiemIncident]], Coroutine[Any, Any, list[Dealt | Exception]]]:
    """What brings incidents to their cases, read as the webhook reads them: both make the same alert of one."""
    reading = _Reading(settings, source)
    policy = settings.case_policy()

    async def take(incidents: Sequence[SiemIncident]) -> list[Dealt | Exception]:
        """What became of each, in their order; why it was not taken, where asking again may help."""
        read = await asyncio.gather(*(reading.alert_of(incident) for incident in incidents))
        alerts = [one for one in read if isinstance(one, Alert)]
        outcomes = iter(await start_incidents(client, alerts, policy=policy, task_queue=task_queue))
        return [
            _became(incident.id, next(outcomes)) if isinstance(one, Alert) else one
            for incident, one in zip(incidents, read, strict=True)
        ]

    return take


class _Reading:
    """Makes alerts of incidents, by the settings."""

    def __init__(self, settings: Settings, source: IncidentSource) -> None:
        mapping = settings.bridge.mapping.securonix
        of = {field: places for field, places in mapping if field not in ("zone", "time_formats")}
        self._places = Places(of, mapping.zone, mapping.time_formats)
        self._tenant = settings.securonix.tenant
        self._wanted = [name.casefold() for name in settings.securonix.poll_policies]
        self._source = source
        self._room = asyncio.Semaphore(_SEARCHES)

    async def alert_of(self, incident: SiemIncident) -> Alert | Dealt | IntegrationError:
        """Its alert; what became of it if there is none; the error of a search that may be repeated."""
        try:
            policies = _policies(incident)
        except FormatRefused as error:
            return Dealt(incident=incident.id, became=Became.PASSED, why=plain(str(error), limit=200))
        if self._wanted and not any(fnmatchcase(name.casefold(), one) for name in policies for one in self._wanted):
            return Dealt(incident=incident.id, became=Became.PASSED, why="its policy is not one of poll_policies")
        try:
            async with self._room:
                found = await self._source.with_address(incident, policies)
        except IntegrationError as error:
            return error
        try:
            return self._read(found)
        except FormatRefused as error:
            why = missed(incident.id, str(error))
            # Its violations may come later.
            later = str(error).startswith("destination_ip: is")
            return why.model_copy(update={"became": Became.LATER}) if later else why
        except AlertRefused as error:
            return missed(incident.id, str(error))

    def _read(self, incident: SiemIncident) -> Alert:
        record = recognised(incident.fields)
        fields = alert_fields(record, self._places) if record else incident.fields
        if self._tenant:
            fields["tenant"] = self._tenant
        return parse_alert(fields, self._tenant)


def _became(incident: str, outcome: Started | Fault) -> Dealt | Exception:
    if isinstance(outcome, Started):
        return Dealt(incident=incident, became=Became.JOINED if outcome.joined else Became.STARTED)
    if isinstance(outcome, RPCError) and not refused_for_good(outcome):
        return outcome
    return missed(incident, outcome.message if isinstance(outcome, RPCError) else str(outcome))


def _policies(incident: SiemIncident) -> list[str]:
    """The policies of an incident. Raises FormatRefused for one that is over already, or of a policy in sandbox."""
    record = recognised(incident.fields)
    return list(record.fields["derived"].get("policies", ())) if record else []


async def install_poller(
    client: Client, settings: Settings, *, since: timedelta | None = None, task_queue: str = TASK_QUEUE
) -> dict[str, Any]:
    """Install the schedule, or bring an installed one to the settings; how far it has read, and a pause, stay.

    ``since`` is how far back the first run begins; without it with ``poll_overlap``.

    Raises:
        CaseRefused: the settings want no poller.
        RPCError: Temporal did not take it.
    """
    every, overlap = settings.securonix.poll_every, settings.securonix.poll_overlap
    if every is None:
        raise CaseRefused(_NOT_WANTED)
    given = PollInput(
        since=datetime.now(UTC) - (since or timedelta(0)),
        overlap=overlap,
        within=PAGE_WITHIN,
        own_queues=tuple(settings.own_queues()),
    )
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(
            POLL_WORKFLOW, given, id=RUN_ID, task_queue=task_queue, static_summary="Incidents of Securonix"
        ),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=max(CATCH_UP, every)),
    )
    try:
        await client.create_schedule(SCHEDULE_ID, schedule, trigger_immediately=True)
        created = True
    except ScheduleAlreadyRunningError:
        await client.get_schedule_handle(SCHEDULE_ID).update(lambda found: _brought(found, schedule))
        created = False
    return {"schedule": SCHEDULE_ID, "created": created, "every": _length(every), "overlap": _length(overlap)}


def _brought(found: ScheduleUpdateInput, schedule: Schedule) -> ScheduleUpdate:
    return ScheduleUpdate(
        schedule=Schedule(
            action=schedule.action,
            spec=schedule.spec,
            policy=schedule.policy,
            state=found.description.schedule.state,
        )
    )


async def pause_poller(client: Client, *, note: str) -> dict[str, Any]:
    """Let no tick begin until ``resume_poller``. Raises CaseRefused where none is installed."""
    handle = client.get_schedule_handle(SCHEDULE_ID)
    await _there(handle.pause(note=plain(note, limit=200)))
    return {"schedule": SCHEDULE_ID, "paused": True}


async def resume_poller(client: Client, *, note: str) -> dict[str, Any]:
    """Let the ticks go on: the first one reads all that was missed. Raises CaseRefused where none is installed."""
    handle = client.get_schedule_handle(SCHEDULE_ID)
    await _there(handle.unpause(note=plain(note, limit=200)))
    await _there(handle.trigger())
    return {"schedule": SCHEDULE_ID, "paused": False}


async def remove_poller(client: Client) -> dict[str, Any]:
    """Remove the schedule, and with it how far it has read. Raises CaseRefused where none is installed."""
    await _there(client.get_schedule_handle(SCHEDULE_ID).delete())
    return {"schedule": SCHEDULE_ID, "removed": True}


async def poller_status(client: Client) -> dict[str, Any]:
    """Whether it runs, how far it has read and what it took, and what was wrong with the latest tick.

    Raises:
        CaseRefused: none is installed.
        RPCError: Temporal did not answer.
    """
    handle: ScheduleHandle = client.get_schedule_handle(SCHEDULE_ID)
    described: ScheduleDescription = await _there(handle.describe())
    state = described.schedule.state
    read, trouble, at = await _latest(client, described)
    upcoming = described.info.next_action_times
    every = [_length(interval.every) for interval in described.schedule.spec.intervals]
    return {
        "schedule": SCHEDULE_ID,
        "paused": state.paused,
        "note": plain(state.note or "") or None,
        "every": every[0] if every else None,
        "next_at": upcoming[0].isoformat() if upcoming and not state.paused else None,
        "latest_at": at.isoformat() if at else None,
        "trouble": trouble,
        **(read.summary() | {"trouble": trouble or read.trouble} if read else {}),
    }


async def _latest(
    client: Client, described: ScheduleDescription
) -> tuple[PollState | None, str | None, datetime | None]:
    """What the latest good tick left, what was wrong with the latest one, and when that began."""
    trouble, at = None, None
    for action in reversed(described.info.recent_actions[-_LATEST:]):
        started: Any = action.action
        handle = client.get_workflow_handle(
            started.workflow_id, run_id=started.first_execution_run_id, result_type=PollState
        )
        at = at or action.started_at
        try:
            run = await handle.describe()
            if run.status is WorkflowExecutionStatus.RUNNING:
                continue
            return await handle.result(follow_runs=False), trouble, at
        except WorkflowFailureError as error:
            cause = error.cause
            told = cause.message if isinstance(cause, FailureError) else str(cause)
            trouble = trouble or plain(f"the latest run failed: {told}")
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
    return None, trouble, at


async def _there(call: Coroutine[Any, Any, T]) -> T:
    try:
        return await call
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND and "namespace" not in error.message.lower():
            raise CaseRefused(_NO_SCHEDULE) from None
        raise


def _length(length: timedelta) -> str:
    return f"{length.total_seconds():g}s"
