"""An operator's cancel that comes at the moment of something else: the case is cancelled all the same."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.testing import WorkflowEnvironment

from incident.queues import Integration, queue_of
from starter import Started
from tests.workflows.test_together import next_run
from tests.workflows.world import Scene, World, alert, policy, working

CANCEL = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED
DONE = EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
TASK = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED


@pytest.fixture
async def apart(dev_server: WorkflowEnvironment) -> AsyncIterator[Scene]:
    """A world whose endpoint has a worker of its own: its steps go on while the cases' worker is away."""
    world, queue = World(), f"q-{uuid.uuid4()}"
    async with working(dev_server.client, world, queue_of(Integration.ENDPOINT, queue)):
        yield Scene(dev_server.client, world, queue)


async def kinds(scene: Scene, started: Started) -> list[int]:
    return [event.event_type for event in (await scene.handle(started).fetch_history()).events]


async def has(scene: Scene, started: Started, kind: EventType.ValueType, times: int) -> None:
    """Wait until the history has so many events of a kind."""
    async with asyncio.timeout(20):
        while (await kinds(scene, started)).count(kind) < times:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def at_once(scene: Scene, started: Started, *, cancel_first: bool) -> AsyncIterator[None]:
    """The worker comes back to a case that was cancelled, and whose last read-back came, while it was away."""
    known = (await kinds(scene, started)).count(DONE)
    gate = scene.world.gates["read_back_host"]
    if cancel_first:
        await scene.handle(started).cancel()
    gate.set()
    await has(scene, started, DONE, known + 1)
    if not cancel_first:
        await scene.handle(started).cancel()
    await has(scene, started, CANCEL, 1)
    last = (await kinds(scene, started))[::-1]
    assert max(last.index(CANCEL), last.index(DONE)) < last.index(TASK), "they come in one workflow task"
    async with working(scene.client, scene.world, scene.queue):
        yield


@pytest.mark.parametrize("cancel_first", [True, False])
@pytest.mark.parametrize("within", [timedelta(minutes=1), None])
async def test_a_cancel_at_the_moment_of_the_last_read_back_is_kept(
    apart: Scene, within: timedelta | None, cancel_first: bool
) -> None:
    apart.world.gates["read_back_host"] = asyncio.Event()
    async with working(apart.client, apart.world, apart.queue):
        started = await apart.start(alert(), policy(settle_within=within, own_queues=(Integration.ENDPOINT,)))
        states = ["accepted", "verified"]
        await apart.until(started, lambda s: [action["state"] for action in s["actions"]] == states)
    async with at_once(apart, started, cancel_first=cancel_first):
        with pytest.raises(WorkflowFailureError):
            await apart.end(started)
        state = await apart.handle(started).query("status")
    assert (await apart.handle(started).describe()).status is WorkflowExecutionStatus.CANCELED
    assert state["outcome"] is None
    (ticket,) = apart.world.tickets.values()
    assert ticket.description.startswith("The case was cancelled by an operator.")


async def test_what_waits_for_the_next_case_outlives_a_cancel_at_the_very_end(scene: Scene) -> None:
    """The ticket system may take minutes to take the record, and an operator may not wait for it."""
    scene.world.gates["attach"] = asyncio.Event()
    steering = policy(fold_alerts=True, tell_apart=True, attach_record=True)
    first = alert(user_account="jdoe")
    started = await scene.start(first, steering)
    await scene.until(started, lambda state: "attach" in scene.world.calls)
    other = alert(destination_ip=first.destination_ip, user_account="asmith")
    await scene.start(other, steering)
    await scene.until(started, lambda state: state["others_total"] == 1)
    await scene.handle(started).cancel()
    with pytest.raises(WorkflowFailureError):
        await scene.end(started)
    scene.world.gates["attach"].set()
    own = await next_run(scene, started)
    assert (await scene.until(own, lambda state: state["alerts_total"]))["alerts"] == [other.id]
    await scene.handle(own).terminate()
