"""The doctor: Temporal and every integration looked at, read-only, one line each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

from clients import SOURCES, Clients
from connection import TASK_QUEUE, TemporalUnreachable, connect_temporal
from group_checks import analysts_groups, examine_groups
from healthcheck import RECENT
from incident.policy import Mode, OnUnanswered
from incident.queues import Integration, queue_of
from incident.text import plain
from incident.triage import ActionName
from integrations.interfaces import Check
from ledger import frozen_words
from serving import served
from settings import Settings
from workflows import search_attributes


async def examine(settings: Settings, clients: Clients) -> list[Check]:
    """Every check. One integration's failure does not hide another's."""
    groups = await asyncio.gather(
        _temporal(settings),
        *(_of(source, checks()) for source, checks in _checks(settings, clients)),
        _protected_groups(settings, clients),
    )
    return [check for group in (*groups, _advice(settings)) for check in group]


def _checks(settings: Settings, clients: Clients) -> Iterator[tuple[str, Callable[[], Awaitable[list[Check]]]]]:
    """How each integration is checked, by its source; those that this process has no credentials for are left out."""
    every: dict[Integration, tuple[str | None, Callable[[], Awaitable[list[Check]]] | None]] = {
        Integration.SIEM: ("securonix", clients.siem.check),
        Integration.DIRECTORY: ("directory", lambda: asyncio.to_thread(clients.directory.check)),
        Integration.ENDPOINT: (settings.endpoint.provider, clients.endpoint.check),
        Integration.TICKETING: (settings.ticketing.provider, clients.ticketing.check),
        Integration.MAIL: ("mail", clients.mailer.check),
        Integration.IDENTITY: ("entra", clients.sign_ins.check if clients.sign_ins else None),
        Integration.CHAT: (settings.chat.provider, clients.chat.check if clients.chat else None),
    }
    for integration in served(settings):
        provider, check = every[integration]
        if provider and check:
            yield SOURCES[provider], check


async def _protected_groups(settings: Settings, clients: Clients) -> list[Check]:
    """Where this process may ask the directory: does it know the groups?"""
    if Integration.DIRECTORY not in served(settings):
        return []
    protected, analysts = settings.guardrails.protected_groups, analysts_groups(settings)
    return await examine_groups(clients.directory, protected, analysts=analysts)


async def _of(source: str, checks: Awaitable[list[Check]]) -> list[Check]:
    """The checks, each with its integration's name before it unless it carries it."""
    return [
        check if check.name.startswith(source) else check.model_copy(update={"name": f"{source}: {check.name}"})
        for check in await checks
    ]


async def _temporal(settings: Settings) -> list[Check]:
    try:
        client = await connect_temporal()
        listed = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
        polling = await _pollers(client, TASK_QUEUE, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW)
        own = [await _own_queue(client, name, limit, polling) for name, limit in settings.own_queues().items()]
        frozen = await frozen_words(client)
    except (TemporalUnreachable, RPCError) as error:
        return [Check(name="Temporal: reachable", ok=False, detail=str(error))]
    missing = [key.name for key in search_attributes.ALL if key.name not in listed.custom_attributes]
    return [
        Check(name="Temporal: reachable", ok=True, detail=f"namespace {client.namespace}"),
        Check(
            name="Temporal: search attributes",
            ok=not missing,
            detail=f"missing: {', '.join(missing)}; run 'python starter.py setup'" if missing else "registered",
        ),
        Check(
            name="Temporal: worker",
            ok=True,
            detail=f"{polling} polled {TASK_QUEUE} lately" if polling else "none has polled; run 'python worker.py'",
        ),
        *own,
        Check(
            name="Guardrails: freeze",
            ok=True,
            detail=f"FROZEN, nothing is contained: {plain(frozen)}" if frozen else "not frozen",
        ),
    ]


async def _pollers(client: Client, queue: str, kind: TaskQueueType.ValueType) -> int:
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind)
    )
    now = datetime.now(UTC)
    return sum(now - poller.last_access_time.ToDatetime(tzinfo=UTC) <= RECENT for poller in described.pollers)


async def _own_queue(client: Client, name: Integration, limit: int | None, main: int) -> Check:
    """An integration's own task queue: a fault where cases are worked on and nobody takes its steps."""
    queue = queue_of(name, TASK_QUEUE)
    polling = await _pollers(client, queue, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)
    limited = f", at most {limit} steps a minute" if limit else ""
    nobody = f"none has polled {queue}: no step of {name} is taken; run a worker that serves it"
    return Check(
        name=f"Temporal: worker of {name}",
        ok=bool(polling) or not main,
        detail=f"{polling} polled {queue} lately{limited}" if polling else nobody,
    )


def _advice(settings: Settings) -> list[Check]:
    """What is allowed, and worth a second thought."""
    policy = settings.policy
    contains = policy.on_unanswered in (OnUnanswered.CONTAIN, OnUnanswered.DISABLE_ACCOUNT)
    unanswered = f"after the last tier: {policy.on_unanswered}" + (", without a person" if contains else "")
    modes = settings.case_policy().guardrails
    acting = [action.value for action in ActionName if modes.mode_of(action) is Mode.ACT]
    if acting:
        mode = (
            f'{", ".join(acting)}: act, without a person. For the first week: mode = "observe", and look at the report'
        )
    else:
        mode = ", ".join(f"{action}: {modes.mode_of(action)}" for action in ActionName)
    return [
        Check(name="Policy: on_unanswered", ok=True, detail=unanswered),
        Check(name="Guardrails: mode", ok=True, detail=mode),
    ]
