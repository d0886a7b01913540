"""A flood of alerts for one host, through the bridge's own function to a real Temporal: one case, and none is lost."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import Any, cast

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from bridge.answers import Taken
from bridge.delivery import AT_ONCE, Delivery
from cases import decide_case
from incident.alert import Alert
from incident.joined import known_in
from incident.sealing import seal
from record_history import against_history
from tests.bridge.sending import Cases
from tests.workflows.world import ANALYST, World, alert, policy, working
from workflows.joining import PART

COUNT = 3000
BATCH = 50
TOGETHER: dict[str, Any] = {
    "fold_alerts": True,
    "looks_apart": timedelta(seconds=30),
    "tell_apart": True,
    "hurry": True,
}


def flood(count: int, **changes: Any) -> list[Alert]:
    first = alert(severity="low", **changes)
    ids = [f"SNX-{uuid.uuid4().hex[:10]}" for _ in range(count)]
    return [first.model_copy(update={"id": one}) for one in ids]


async def sent(delivery: Delivery, alerts: list[Alert], batch: int = BATCH, at_once: int = 16) -> list[Taken]:
    """What became of them, handed over in batches as requests do it, several side by side."""
    room = asyncio.Semaphore(at_once)

    async def one(some: list[Alert]) -> list[Any]:
        async with room:
            return list((await delivery.deliver(dict(enumerate(some)))).values())

    told = await asyncio.gather(*(one(alerts[at : at + batch]) for at in range(0, len(alerts), batch)))
    return [outcome for outcomes in told for outcome in outcomes]


async def signals(client: Client, case_id: str) -> tuple[int, int]:
    """Signals and events of a case's run."""
    events = [event async for event in client.get_workflow_handle(case_id).fetch_history_events()]
    signaled = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    return sum(event.event_type == signaled for event in events), len(events)


async def until(client: Client, case_id: str, total: int) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            state: dict[str, Any] = await client.get_workflow_handle(case_id).query("status")
            if state["alerts_total"] >= total and state["question"] and state["question"]["asked"]:
                return state
            await asyncio.sleep(0.2)


async def end(client: Client, case_id: str) -> dict[str, Any]:
    answer = {"decision": "false_positive", "analyst": ANALYST, "reason": "a backup"}
    await decide_case(client, case_id, answer)
    async with asyncio.timeout(60):
        result: dict[str, Any] = await client.get_workflow_handle(case_id).result()
    return result


@pytest.fixture
async def quiet() -> World:
    world = World()
    world.sightings = 0
    return world


async def test_a_flood_is_one_case_with_a_short_history(dev_server: WorkflowEnvironment, quiet: World) -> None:
    client, queue, alerts = dev_server.client, f"q-{uuid.uuid4()}", flood(COUNT)
    case_id = alerts[0].case_id
    async with working(client, quiet, queue):
        delivery = Delivery(client, policy(**TOGETHER), task_queue=queue, within=20)
        told = await sent(delivery, alerts)
        assert {type(one) for one in told} == {Taken}
        assert sum(not one.joined for one in told) == 1
        assert len({one.run_id for one in told}) == 1
        state = await until(client, case_id, COUNT)
        assert state["alerts_total"] == COUNT
        assert state["joined_alerts"]["count"] == COUNT - 1
        assert len(quiet.mails) == 1
        came, events = await signals(client, case_id)
        assert came <= COUNT / BATCH
        assert events < 400, "what a flood may leave in the history"
        # All of it once more joins nothing.
        await sent(delivery, alerts)
        assert (await until(client, case_id, COUNT))["alerts_total"] == COUNT
        final = await end(client, case_id)
        ids = [one.id for one in alerts]
        assert known_in(final, [*ids, "SNX-unheard-of"]) == set(ids)
        lines = await client.get_workflow_handle(case_id).query("timeline")
        assert "alerts joined: 1 rule, highest severity low" in lines
        assert lines.count(" joined (") < 20
        # Temporal's history agrees with the record that names the first of them only.
        sealed = seal(await client.get_workflow_handle(case_id).query("record"), None)
        assert (await against_history(client, sealed)).findings == ()
        fewer = {**sealed, "alerts_total": COUNT - 1}
        assert "alerts_total" in [one.where for one in (await against_history(client, fewer)).findings]
        # And those of them that nothing names any more are known again after the end: nobody is asked a second time.
        again = await sent(delivery, alerts[-20:], batch=20)
        late = client.get_workflow_handle(case_id, run_id=again[0].run_id)
        async with asyncio.timeout(60):
            assert (await late.result())["outcome"] == "duplicate"
        assert len(quiet.mails) == 1


async def test_what_came_while_no_worker_ran_is_taken_in_a_part_at_a_time(
    dev_server: WorkflowEnvironment, quiet: World
) -> None:
    client, queue, alerts = dev_server.client, f"q-{uuid.uuid4()}", flood(2500)
    delivery = Delivery(client, policy(**TOGETHER), task_queue=queue, within=20)
    await sent(delivery, alerts)
    async with working(client, quiet, queue):
        state = await until(client, alerts[0].case_id, len(alerts))
        assert state["alerts_total"] == len(alerts)
        assert len(quiet.mails) == 1
        handle = client.get_workflow_handle(alerts[0].case_id)
        events = [event async for event in handle.fetch_history_events()]
        kinds = [event.event_type for event in events]
        assert sum(b"a part at a time" in event.user_metadata.summary.data for event in events) == len(alerts) // PART
        assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in kinds
        assert EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT not in kinds
        await end(client, alerts[0].case_id)


async def test_requests_of_one_alert_each_travel_together(dev_server: WorkflowEnvironment) -> None:
    client, queue, alerts = dev_server.client, f"q-{uuid.uuid4()}", flood(300)
    delivery = Delivery(client, policy(**TOGETHER), task_queue=queue, within=20)
    told = await sent(delivery, alerts, batch=1, at_once=100)
    assert {type(one) for one in told} == {Taken}
    came, _ = await signals(client, alerts[0].case_id)
    assert came <= 30
    await client.get_workflow_handle(alerts[0].case_id).terminate()


async def test_what_is_more_urgent_does_not_wait_with_the_rest_of_its_case() -> None:
    cases = Cases(gate=asyncio.Event())
    assert cases.gate is not None
    delivery = Delivery(cast("Client", cases), policy(), task_queue="q")
    noise = [alert(id=f"low-{n}", severity="low", destination_ip=f"10.9.{n // 200}.{n % 200}") for n in range(400)]
    waiting = [asyncio.create_task(delivery.deliver(dict(enumerate(noise))))]
    while cases.under_way < AT_ONCE:
        await asyncio.sleep(0)
    last = noise[-1].destination_ip
    for severity in ("low", "critical", "high"):
        given = alert(id=severity, severity=severity, destination_ip=last)
        waiting.append(asyncio.create_task(delivery.deliver({0: given})))
        await asyncio.sleep(0)
    cases.gate.set()
    await asyncio.gather(*waiting)
    ids = [one["id"] for one in cases.started]
    assert ids.index("critical") <= 2 * AT_ONCE
    assert ids.index("high") == ids.index("critical") + 1, "what is less urgent travels along"
    assert ids.index("low") == ids.index("low-399") + 1
    assert len(ids) == len(set(ids)) == 403
    assert delivery.idle
