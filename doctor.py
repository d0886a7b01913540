"""The doctor: Temporal and every integration looked at, read-only, one line each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime

from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.service import RPCError

from clients import SOURCES, Clients
from connection import TASK_QUEUE, TemporalUnreachable, connect_temporal
from group_checks import examine_groups
from healthcheck import RECENT
from incident.policy import Mode, OnUnanswered
from incident.text import plain
from incident.triage import ActionName
from integrations.interfaces import Check
from ledger import frozen_words
from settings import Settings
from workflows import search_attributes


async def examine(settings: Settings, clients: Clients) -> list[Check]:
    """Every check. One integration's failure does not hide another's."""
    groups = await asyncio.gather(
        _temporal(),
        _of(SOURCES["securonix"], clients.siem.check()),
        _of(SOURCES["directory"], asyncio.to_thread(clients.directory.check)),
        _of(SOURCES[settings.endpoint.provider], clients.endpoint.check()),
        _of(SOURCES[settings.ticketing.provider], clients.ticketing.check()),
        _of(SOURCES["mail"], clients.mailer.check()),
        examine_groups(clients.directory, settings.guardrails.protected_groups),
        *([_of(SOURCES["entra"], clients.sign_ins.check())] if clients.sign_ins else []),
    )
    return [check for group in (*groups, _advice(settings)) for check in group]


async def _of(source: str, checks: Awaitable[list[Check]]) -> list[Check]:
    """The checks, each with its integration's name before it unless it carries it."""
    return [
        check if check.name.startswith(source) else check.model_copy(update={"name": f"{source}: {check.name}"})
        for check in await checks
    ]


async def _temporal() -> list[Check]:
    try:
        client = await connect_temporal()
        listed = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
        queue = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(namespace=client.namespace, task_queue=TaskQueue(name=TASK_QUEUE))
        )
        frozen = await frozen_words(client)
    except (TemporalUnreachable, RPCError) as error:
        return [Check(name="Temporal: reachable", ok=False, detail=str(error))]
    now = datetime.now(UTC)
    polling = sum(now - poller.last_access_time.ToDatetime(tzinfo=UTC) <= RECENT for poller in queue.pollers)
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
        Check(
            name="Guardrails: freeze",
            ok=True,
            detail=f"FROZEN, nothing is contained: {plain(frozen)}" if frozen else "not frozen",
        ),
    ]


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
