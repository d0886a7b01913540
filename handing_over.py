"""Alerts to Temporal: each starts its case or joins the one that is open, and those of one case travel together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final

from temporalio.client import Client
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from connection import TASK_QUEUE
from incident.alert import Alert, AlertRefused, parse_alert
from incident.evidence import Frozen
from incident.policy import CasePolicy
from incident.queues import fairness_key, priority_key
from incident.text import plain
from workflows import search_attributes

WORKFLOW: Final = "SuspiciousUserActivity"

MOST_TOGETHER: Final = 200
"""So many alerts travel in one signal."""

MOST_BYTES: Final = 256 * 1024
"""So large is a signal of several alerts at most; Temporal takes 2 MiB, and keeps each of them in the history."""

_AT_ONCE: Final = 32

Fault = AlertRefused | RPCError
"""Why an alert was not taken: it is faulty, or Temporal did not take it."""


class Started(Frozen):
    """A case that an alert has started or joined."""

    case_id: str
    run_id: str
    joined: bool


async def start_incident(
    client: Client,
    alert: Alert | dict[str, Any] | str,
    *,
    policy: CasePolicy | None = None,
    task_queue: str = TASK_QUEUE,
) -> Started:
    """Start the case of an alert, or let the alert join the case that is open for its host.

    Returns as soon as Temporal has the alert: from then on it is not lost. ``policy`` is the settings snapshot;
    without it the worker's settings hold.

    Raises:
        AlertRefused: the alert is faulty; nothing was started.
        RPCError: Temporal did not take it; try again, nothing doubles.
    """
    if not isinstance(alert, Alert):
        alert = parse_alert(alert)
    return (await _sent(client, [alert], policy, task_queue))[0]


async def start_incidents(
    client: Client,
    alerts: Sequence[Alert | dict[str, Any] | str],
    *,
    policy: CasePolicy | None = None,
    task_queue: str = TASK_QUEUE,
) -> list[Started | Fault]:
    """What became of each alert, in their order: those of one case travel together, those of others side by side.

    As soon as Temporal does not take one for a reason that will pass, those of the same case after it are not tried.
    """
    outcomes: dict[int, Started | Fault] = {}
    cases: dict[str, list[tuple[int, Alert]]] = {}
    for index, given in enumerate(alerts):
        try:
            alert = given if isinstance(given, Alert) else parse_alert(given)
        except AlertRefused as refusal:
            outcomes[index] = refusal
        else:
            cases.setdefault(alert.case_id, []).append((index, alert))
    room = asyncio.Semaphore(_AT_ONCE)

    async def one_case(mine: list[tuple[int, Alert]]) -> None:
        at = 0
        for some in together([alert for _, alert in mine]):
            async with room:
                told = await _taken(client, some, policy, task_queue)
            outcomes.update(zip((index for index, _ in mine[at:]), told, strict=False))
            at += len(some)
            if isinstance(told[-1], RPCError) and not refused_for_good(told[-1]):
                outcomes.update((index, told[-1]) for index, _ in mine[at:])
                return

    async with asyncio.TaskGroup() as group:
        for mine in cases.values():
            group.create_task(one_case(mine))
    return [outcomes[index] for index in range(len(alerts))]


def handing_on(
    client: Client, policy: CasePolicy, *, task_queue: str = TASK_QUEUE
) -> Callable[[Sequence[Alert]], Coroutine[Any, Any, str]]:
    """What brings alerts of one case that waited for another one to Temporal, and tells the run that they are in."""

    async def take(alerts: Sequence[Alert]) -> str:
        """Raises RPCError where Temporal does not take one of them."""
        told = await start_incidents(client, alerts, policy=policy, task_queue=task_queue)
        for outcome in told:
            if not isinstance(outcome, Started):
                raise outcome
        return next(outcome.run_id for outcome in told if isinstance(outcome, Started))

    return take


def together(alerts: Sequence[Alert]) -> Iterator[list[Alert]]:
    """Alerts of one case in their order, as many together as one signal may hold."""
    some: list[Alert] = []
    size = 0
    for alert in alerts:
        length = len(json.dumps(_brief(alert)))
        if some and (len(some) >= MOST_TOGETHER or size + length > MOST_BYTES):
            yield some
            some, size = [], 0
        some.append(alert)
        size += length
    if some:
        yield some


def refused_for_good(error: RPCError) -> bool:
    """Whether it is of no use to send it again. A case whose history is full takes alerts again in its next run."""
    return error.status is RPCStatusCode.INVALID_ARGUMENT and "limit" not in error.message.lower()


async def _taken(
    client: Client, alerts: list[Alert], policy: CasePolicy | None, task_queue: str
) -> list[Started | Fault]:
    """What became of alerts that travel together; where Temporal refuses them for good, of each alone."""
    try:
        return list(await _sent(client, alerts, policy, task_queue))
    except RPCError as error:
        if len(alerts) == 1 or not refused_for_good(error):
            return [error] * len(alerts)
    alone: list[Started | Fault] = []
    for alert in alerts:
        alone += await _taken(client, [alert], policy, task_queue)
    return alone


async def _sent(client: Client, alerts: list[Alert], policy: CasePolicy | None, task_queue: str) -> list[Started]:
    """One signal-with-start; one alert alone travels as ever, which workers of before understand as well."""
    first, alone = alerts[0], len(alerts) == 1
    payload = first.model_dump(mode="json")
    urgent = max((alert.severity for alert in alerts), key=lambda severity: severity.rank)
    handle = await client.start_workflow(
        WORKFLOW,
        {"alert": payload, "policy": policy.model_dump(mode="json") if policy else None},
        id=first.case_id,
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        start_signal="alert" if alone else "alerts",
        start_signal_args=[payload if alone else [_brief(alert) for alert in alerts]],
        search_attributes=search_attributes.at_start(first.id, first.severity.value),
        priority=Priority(priority_key=priority_key(urgent), fairness_key=fairness_key(first.tenant or "")),
        static_summary=plain(f"{first.rule or 'Suspicious user activity'}: {first.destination_ip}", limit=190),
        static_details=plain(f"Alert {first.id}, transfer to {first.destination_ip} at {first.occurred_at}"),
    )
    # Whether it started or joined is in the server's answer only, and the SDK (pinned) keeps that behind an underscore.
    joined = not getattr(handle._start_workflow_response, "started", True)
    run_id = handle.result_run_id or ""
    return [Started(case_id=first.case_id, run_id=run_id, joined=joined or at > 0) for at in range(len(alerts))]


def _brief(alert: Alert) -> dict[str, Any]:
    return alert.model_dump(mode="json", exclude_defaults=True)
