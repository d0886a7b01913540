"""The ledger's workflow over a long life: fresh histories, restarts, a crowd of clients, and what is no request."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment
from temporalio.worker import Replayer, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities.ledger import LedgerActivities
from incident.budget import LEDGER_SUMMARY
from incident.requests import Reservation, Reserve
from incident.triage import CONTAIN
from tests.conftest import FAST, temporal_cli
from tests.workflows.world import STRICT
from workflows.containment_ledger import FROZEN_MEMO, ContainmentLedger

_SHORT = ["--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=60"]
_ACCEPTED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
ANA = {"by": "ana@acme.example", "reason": "drill"}


@pytest.fixture(scope="module")
async def short_server() -> AsyncIterator[WorkflowEnvironment]:
    """A server on which a history is long after a dozen requests."""
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal_cli(),
        data_converter=pydantic_data_converter,
        dev_server_extra_args=[*FAST, *_SHORT],
        dev_server_log_level="error",
    ) as env:
        yield env


class Desk:
    """A ledger, and several processes that ask it: each has its own connection."""

    def __init__(self, clients: list[Client]) -> None:
        self.queue = f"q-{uuid.uuid4()}"
        self.id = f"ledger-{uuid.uuid4()}"
        self.client, self.other = clients[0], clients[-1]
        self.processes = [LedgerActivities(client, self.queue, self.id) for client in clients]

    @property
    def handle(self) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(self.id)

    def worker(self, client: Client | None = None) -> Worker:
        return Worker(
            client or self.client,
            task_queue=self.queue,
            workflows=[ContainmentLedger],
            workflow_runner=SandboxedWorkflowRunner(restrictions=STRICT),
            workflow_failure_exception_types=[Exception],
        )

    async def ask(self, number: int, *, automatic: bool = True, most: int = 7) -> Reservation:
        request = Reserve(
            key=f"k{number}", case_id=f"sua-{number}", actions=CONTAIN, automatic=automatic, max_per_hour=most
        )
        process = self.processes[number % len(self.processes)]
        told: Reservation = await ActivityEnvironment().run(process.reserve, request)
        return told

    async def status(self) -> dict[str, Any]:
        told: dict[str, Any] = await self.handle.query("status")
        return told

    async def details(self) -> str:
        metadata = await self.handle.query("__temporal_workflow_metadata")
        told: str = metadata.current_details
        return told


async def _desk(env: WorkflowEnvironment, processes: int = 1) -> Desk:
    address = env.client.service_client.config.target_host
    more = [
        await Client.connect(address, data_converter=pydantic_data_converter, identity=f"process-{number}")
        for number in range(processes - 1)
    ]
    return Desk([env.client, *more])


@pytest.fixture
async def desk(dev_server: WorkflowEnvironment) -> AsyncIterator[Desk]:
    made = await _desk(dev_server)
    yield made
    await made.handle.terminate("the test has ended")


async def test_a_crowd_of_processes_over_several_histories_and_workers(short_server: WorkflowEnvironment) -> None:
    desk = await _desk(short_server, processes=4)
    async with desk.worker(), desk.worker(desk.other):
        told = await asyncio.gather(*(desk.ask(number) for number in range(60)))
        assert sum(one.granted for one in told) == 3, "two actions each, of seven"
        assert (await desk.status())["used"] == 6
        begun = (await anext(aiter(desk.handle.fetch_history_events()))).workflow_execution_started_event_attributes
        assert begun.continued_execution_run_id
        assert begun.priority.priority_key == 1, "it goes before every case, also in a later history"
    await desk.handle.terminate()


async def test_the_freeze_and_the_places_outlive_histories_and_workers(short_server: WorkflowEnvironment) -> None:
    desk = await _desk(short_server)
    async with desk.worker():
        assert (await desk.ask(0)).granted
        await desk.handle.execute_update("freeze", ANA)
        before = (await desk.handle.describe()).run_id
        await asyncio.gather(*(desk.ask(number, automatic=False) for number in range(1, 40)))
    async with desk.worker():
        told = await desk.ask(41, automatic=False)
        described = await desk.handle.describe()
        assert described.run_id != before
        assert told.frozen
        assert "frozen by ana@acme.example" in told.reason
        assert await described.memo_value(FROZEN_MEMO) == told.reason
        state = await desk.status()
        assert (state["used"], state["frozen"], state["freeze"]["by"]) == (2, True, "ana@acme.example")
        assert (await desk.details()).startswith("# FROZEN\n")
        await desk.handle.execute_update("thaw", ANA)
        assert await desk.ask(0) == Reservation(granted=True)
        assert (await desk.status())["used"] == 2, "a request that comes again after all that has its place"
    await desk.handle.terminate()


async def test_the_web_ui_tells_the_state_in_big_letters(desk: Desk) -> None:
    async with desk.worker():
        assert (await desk.ask(1)).granted
        described = await desk.handle.describe()
        assert await described.static_summary() == LEDGER_SUMMARY
        calm = await desk.details()
        assert calm.startswith("# Not frozen\n")
        assert "**2 of 7 containments within the hour**" in calm
        receipt = await desk.handle.execute_update("freeze", {"by": "ana", "reason": "<b>storm</b>"})
        assert (receipt["frozen"], receipt["changed"]) == (True, True)
        again = await desk.handle.execute_update("freeze", {"by": "bob", "reason": "too"})
        assert (again["changed"], again["freeze"]["by"]) == (False, "ana")
        frozen = await desk.details()
        assert frozen.startswith("# FROZEN\n\n**By ana since ")
        assert "<b>" not in frozen


@pytest.mark.parametrize("raw", [None, {}, {"by": "ana"}, {**ANA, "until": 1}, "stop", ["ana", "drill"], {"by": 7}])
@pytest.mark.parametrize("switch", ["freeze", "thaw"])
async def test_a_switch_without_who_and_why_is_refused_and_changes_nothing(desk: Desk, switch: str, raw: Any) -> None:
    async with desk.worker():
        await desk.ask(1)
        with pytest.raises(WorkflowUpdateFailedError) as refused:
            await desk.handle.execute_update(switch, raw)
        assert getattr(refused.value.cause, "type", None) == "SwitchRefused"
        state = await desk.status()
        assert (state["frozen"], state["history"]) == (False, [])


@pytest.mark.parametrize(
    "raw", ["x", {}, {"key": "k"}, {"key": "", "case_id": "c", "actions": [], "automatic": True, "max_per_hour": 1}]
)
async def test_what_is_no_request_is_refused_and_the_ledger_goes_on(desk: Desk, raw: Any) -> None:
    async with desk.worker():
        await desk.ask(1)
        with pytest.raises(WorkflowUpdateFailedError):
            await desk.handle.execute_update("reserve", raw)
        accepted = [e async for e in desk.handle.fetch_history_events() if e.event_type == _ACCEPTED]
        assert len(accepted) == 1, "what is refused never comes into the history: a bad one there would stop the ledger"
        assert (await desk.ask(2)).granted
        assert (await desk.status())["used"] == 4


@pytest.mark.parametrize(
    ("sent", "by"), [([ANA], "ana@acme.example"), ([], "somebody who sent a signal"), (["stop"], "somebody who sent")]
)
async def test_whoever_signals_a_freeze_wants_it_to_stop(desk: Desk, sent: list[Any], by: str) -> None:
    """It is kept while no worker runs, and comes before all that is asked later."""
    async with desk.worker():
        await desk.ask(1)
    await desk.handle.signal("freeze", args=sent)
    async with desk.worker():
        told = await desk.ask(2, automatic=False)
        assert told.frozen
        assert f"frozen by {by}" in told.reason


async def test_a_ledger_that_was_ended_begins_anew(desk: Desk) -> None:
    async with desk.worker():
        await desk.ask(1)
        await desk.handle.terminate()
        assert (await desk.ask(2)).granted
        assert (await desk.status())["used"] == 2


async def test_the_time_of_the_question_is_the_askers(desk: Desk) -> None:
    async with desk.worker():
        await desk.ask(1)
        assert (await desk.status())["used"] == 2
        assert (await desk.handle.query("status", "2099-01-01T00:00:00Z"))["used"] == 0
        assert (await desk.handle.query("status", "yesterday"))["used"] == 2


async def test_it_replays(desk: Desk) -> None:
    async with desk.worker():
        await desk.ask(1)
        await desk.handle.execute_update("freeze", ANA)
        await desk.ask(2)
        await desk.handle.execute_update("thaw", ANA)
        await desk.handle.signal("freeze", ANA)
        assert (await desk.status())["frozen"]
        history = await desk.handle.fetch_history()
    replayer = Replayer(workflows=[ContainmentLedger], data_converter=pydantic_data_converter)
    await replayer.replay_workflow(history)
