"""How urgent a case and its steps are to Temporal, over which queues the steps go, and what overtakes what."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHandle
from temporalio.common import Priority
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from activities.directory import DirectoryActivities
from cases import CaseRefused, decide_case
from incident.queues import Integration
from starter import start_incident
from tests.conftest import FAST, temporal_cli
from tests.workflows.world import ANALYST, Scene, _Directory, alert, policy
from workflows import search_attributes

_SCHEDULED = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
_STARTED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
_ONE_PARTITION = [
    *("--dynamic-config-value", "matching.numTaskqueueReadPartitions=1"),
    *("--dynamic-config-value", "matching.numTaskqueueWritePartitions=1"),
]
_FAIR = ["--dynamic-config-value", "matching.enableFairness=true"]


async def events(handle: WorkflowHandle[Any, Any]) -> list[HistoryEvent]:
    return [event async for event in handle.fetch_history_events()]


def scheduled(found: list[HistoryEvent]) -> dict[str, Any]:
    """The latest scheduling of each step, by the name of its activity."""
    told = [e.activity_task_scheduled_event_attributes for e in found if e.event_type == _SCHEDULED]
    return {one.activity_type.name: one for one in told}


def keys(found: list[HistoryEvent]) -> dict[str, int]:
    return {name: one.priority.priority_key for name, one in scheduled(found).items()}


async def test_a_case_is_as_urgent_as_its_alert_and_waits_in_its_tenants_line(scene: Scene) -> None:
    for severity, key in (("low", 4), ("medium", 3), ("high", 2), ("critical", 1)):
        started = await scene.start(alert(severity=severity, tenant="acme"))
        first = (await events(scene.handle(started)))[0]
        priority = first.workflow_execution_started_event_attributes.priority
        assert (priority.priority_key, priority.fairness_key) == (key, "acme"), severity
        await scene.end(started)


async def test_the_longest_tenant_is_taken(scene: Scene) -> None:
    started = await scene.start(alert(tenant="t" * 64))
    assert (await scene.end(started))["outcome"] == "contained"


async def test_the_steps_of_a_raised_case_are_as_urgent_as_the_case_is_by_then(scene: Scene) -> None:
    scene.world.score, scene.world.sightings = 90.0, 2
    started = await scene.start(alert(severity="low"))
    assert (await scene.end(started))["priority"] == "critical"
    found = keys(await events(scene.handle(started)))
    assert found["siem.locate_host"] == found["siem.score_risk"] == 4
    assert (
        found["endpoint.quarantine_host"] == found["directory.disable_account"] == found["ticketing.open_ticket"] == 1
    )


async def test_an_escalated_case_is_more_urgent_too(scene: Scene) -> None:
    scene.world.sightings = 0
    scene.world.score = 0.01
    steering = policy()
    tiers = tuple(tier.model_copy(update={"wait": timedelta(seconds=2)}) for tier in steering.tiers)
    started = await scene.start(alert(severity="low"), steering.model_copy(update={"tiers": tiers}))
    await scene.until(started, lambda state: state["priority"] == "medium")
    answer = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
    await scene.handle(started).execute_update("decide", answer)
    await scene.end(started)
    assert keys(await events(scene.handle(started)))["endpoint.quarantine_host"] == 3


async def test_a_look_by_the_clock_lets_others_go_first(scene: Scene) -> None:
    scene.world.sightings, scene.world.score = 0, 0.01
    steering = policy(recheck_every=timedelta(milliseconds=300))
    started = await scene.start(alert(severity="medium"), steering)
    await scene.until(started, lambda state: state["question"])

    async def looked() -> dict[str, int]:
        return keys(await events(scene.handle(started)))

    async with asyncio.timeout(20):
        while (await looked())["siem.score_risk"] == 3:
            await asyncio.sleep(0.05)
    found = await looked()
    assert (found["siem.score_risk"], found["notification.notify"]) == (4, 3)
    await scene.handle(started).execute_update(
        "decide", {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
    )
    await scene.end(started)
    assert (await looked())["endpoint.quarantine_host"] == 3


async def test_a_look_for_an_alert_that_joined_waits_for_nobody(scene: Scene) -> None:
    scene.world.sightings, scene.world.score = 0, 0.01
    first = alert(severity="medium")
    started = await scene.start(first)
    await scene.until(started, lambda state: state["question"])
    seen = len(await events(scene.handle(started)))
    await scene.start(alert(severity="medium", destination_ip=first.destination_ip))
    async with asyncio.timeout(20):
        while "siem.score_risk" not in keys((await events(scene.handle(started)))[seen:]):
            await asyncio.sleep(0.05)
    assert keys((await events(scene.handle(started)))[seen:])["siem.score_risk"] == 3


async def test_without_queues_of_their_own_every_step_goes_over_the_cases_queue(scene: Scene) -> None:
    started = await scene.start(alert())
    await scene.end(started)
    assert {one.task_queue.name for one in scheduled(await events(scene.handle(started))).values()} == {scene.queue}


async def test_steps_go_over_their_integrations_queue(scene: Scene) -> None:
    steering = policy(own_queues=(Integration.DIRECTORY,))
    directory = DirectoryActivities(_Directory(scene.world), "Active Directory")  # type: ignore[arg-type]
    with ThreadPoolExecutor(8) as executor:
        async with Worker(
            scene.client,
            task_queue=f"{scene.queue}-directory",
            activities=[directory.find_person, directory.disable_account, directory.confirm_disabled],
            activity_executor=executor,
            max_concurrent_activities=8,
        ):
            started = await scene.start(alert(), steering)
            assert (await scene.end(started))["outcome"] == "contained"
    queues = {name: one.task_queue.name for name, one in scheduled(await events(scene.handle(started))).items()}
    own = {name for name, queue in queues.items() if queue == f"{scene.queue}-directory"}
    assert own == {name for name in queues if name.startswith("directory.")}
    assert {queue for name, queue in queues.items() if name not in own} == {scene.queue}


async def test_a_queue_that_nobody_serves_is_told_and_the_case_asks(scene: Scene) -> None:
    steering = policy(own_queues=(Integration.SIEM,), enrich_within=timedelta(seconds=1))
    started = await scene.start(alert(), steering)
    state = await scene.until(started, lambda state: state["question"] and state["question"]["asked"])
    told = f"no worker of the task queue {scene.queue}-siem took it in the time allowed"
    assert state["host"]["reason"] == told
    assert "no worker of the task queue" in " ".join(scene.world.mails[0].text.split())
    assert scene.world.writes == []
    answer = {"decision": "false_positive", "analyst": ANALYST, "reason": "backup"}
    await scene.handle(started).execute_update("decide", answer)
    await scene.end(started)


async def test_the_comment_of_a_case_goes_over_the_siems_queue(scene: Scene) -> None:
    steering = policy(own_queues=(Integration.SIEM,), enrich_within=timedelta(seconds=1), comment_incident=True)
    started = await scene.start(alert(), steering)
    state = await scene.until(started, lambda state: state["question"] and state["question"]["asked"])
    assert not state["host"]["known"]
    (child,) = [
        event.child_workflow_execution_started_event_attributes.workflow_execution.workflow_id
        for event in await events(scene.handle(started))
        if event.event_type == EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED
    ]
    comment = scene.client.get_workflow_handle(child)
    async with asyncio.timeout(20):
        while not (found := scheduled(await events(comment))):
            await asyncio.sleep(0.05)
    assert found["siem.comment_incident"].task_queue.name == f"{scene.queue}-siem"
    await comment.terminate()
    answer = {"decision": "false_positive", "analyst": ANALYST, "reason": "backup"}
    await scene.handle(started).execute_update("decide", answer)
    await scene.end(started)


ORDER: list[str] = []
"""The alerts of the cases, in the order in which a worker came to them."""


@workflow.defn(name="SuspiciousUserActivity")
class InOrder:
    """Stands for the runbook, and notes when a worker comes to it."""

    @workflow.run
    async def run(self, given: Any) -> None:
        """Be over at once."""
        ORDER.append(given["alert"]["id"])

    @workflow.signal
    def alert(self, given: Any) -> None:
        """The alert that the case was started with."""


@pytest.fixture(params=[[], _FAIR], ids=["as it comes", "fair"])
async def one_line(request: pytest.FixtureRequest) -> AsyncIterator[WorkflowEnvironment]:
    """A server on which a queue is one line: with several partitions the order is exact in each of them only."""
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal_cli(),
        search_attributes=search_attributes.ALL,
        data_converter=pydantic_data_converter,
        dev_server_extra_args=[*FAST, *_ONE_PARTITION, *request.param],
        dev_server_log_level="error",
    ) as env:
        yield env


async def _worked_on(env: WorkflowEnvironment, alerts: list[Any], queue: str) -> list[str]:
    """Start a case of each while no worker runs, then let one come, and tell the order."""
    ORDER.clear()
    started = [await start_incident(env.client, one, policy=policy(), task_queue=queue) for one in alerts]
    async with Worker(
        env.client,
        task_queue=queue,
        workflows=[InOrder],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_workflow_tasks=2,
    ):
        for one in started:
            await env.client.get_workflow_handle(one.case_id).result()
    return list(ORDER)


async def test_a_critical_case_overtakes_a_backlog_and_no_tenant_waits_for_anothers(
    one_line: WorkflowEnvironment, request: pytest.FixtureRequest
) -> None:
    noise = [alert(id=f"noise-{n}", severity="low", tenant="loud", destination_ip=f"10.9.0.{n}") for n in range(40)]
    quiet = [alert(id=f"quiet-{n}", severity="low", tenant="calm", destination_ip=f"10.9.1.{n}") for n in range(5)]
    late = alert(id="critical", severity="critical", tenant="loud", destination_ip="10.9.2.1")
    order = await _worked_on(one_line, [*noise, *quiet, late], f"q-{uuid.uuid4()}")
    assert len(order) == 46
    assert order.index("critical") < 4, order
    places = [order.index(one.id) for one in quiet]
    if "fair" in request.node.callspec.id.split("-"):
        assert max(places) < 20, order
    else:
        assert min(places) > 30, order


async def test_a_step_of_another_workflow_keeps_that_ones_priority(scene: Scene) -> None:
    """A release is as urgent as its case was."""
    scene.world.score, scene.world.sightings = 90.0, 2
    started = await scene.start(alert(), policy(lease=timedelta(days=3)))
    await scene.end(started)
    release = scene.client.get_workflow_handle(f"release-{started.case_id}")
    first = (await events(release))[0].workflow_execution_started_event_attributes.priority
    assert Priority._from_proto(first) == Priority(priority_key=3, fairness_key="acme")
    await release.terminate()


async def test_an_answer_makes_its_case_go_first(scene: Scene) -> None:
    scene.world.sightings = 0
    started = await scene.start(alert(severity="low", tenant="acme"))
    await scene.until(started, lambda state: state["question"] and state["question"]["asked"])
    await decide_case(scene.client, started.case_id, {"decision": "contain", "analyst": ANALYST, "reason": "seen it"})
    await scene.end(started)
    (told,) = [
        event.workflow_execution_options_updated_event_attributes.priority
        for event in await events(scene.handle(started))
        if event.HasField("workflow_execution_options_updated_event_attributes")
    ]
    assert (told.priority_key, told.fairness_key) == (1, "acme"), "in its tenant's line all the same"


async def test_an_answer_to_no_case_is_told_as_before(scene: Scene) -> None:
    with pytest.raises(CaseRefused, match="there is no case"):
        await decide_case(scene.client, "sua-acme-192.0.2.1", {"decision": "contain"})
