"""The bridge before a real Temporal: one case for an alert however often and by whichever way it comes, none lost."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from lab.servers import TemporalServer, free_port
from starter import decide_case, register_search_attributes
from tests.bridge.sending import Sender, bridge, signature
from tests.processes import variables
from tests.workflows.world import World, working

MILLIS = 1773491696000


def address() -> str:
    number = uuid.uuid4().int
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def alert(number: int, ip: str, **changes: Any) -> dict[str, Any]:
    return {"id": f"SNX-{number}", "destination_ip": ip, "occurred_at": "2026-03-14T12:34:56Z", **changes}


def incident(number: int, ip: str) -> dict[str, Any]:
    return {
        "incidentId": str(number),
        "entity": "Activityip",
        "violatorText": ip,
        "caseEventEndTime": MILLIS,
        "reason": [{"Policies": ["Large data transfer from web server"]}],
    }


@asynccontextmanager
async def asking(client: Client) -> AsyncIterator[tuple[Sender, World]]:
    """A bridge, and a worker in whose world nothing corroborates: each case asks and waits."""
    world, queue = World(), f"q-{uuid.uuid4()}"
    world.sightings = 0
    async with working(client, world, queue), bridge(client, queue=queue) as sender:
        yield sender, world


async def status(client: Client, case_id: str, stage: str, alerts: int) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            state: dict[str, Any] = await client.get_workflow_handle(case_id).query("status")
            if state["stage"] == stage and len(state["alerts"]) >= alerts:
                return state
            await asyncio.sleep(0.05)


async def runs(client: Client, case_id: str) -> int:
    return len([run async for run in client.list_workflows(f"WorkflowId = '{case_id}'")])


async def test_an_alert_starts_a_case_and_the_next_joins_it(dev_server: WorkflowEnvironment) -> None:
    client, ip = dev_server.client, address()
    async with asking(client) as (sender, _):
        first = (await sender.post(alert(1, ip))).json()["alerts"][0]
        second = (await sender.post(incident(2, ip))).json()["alerts"][0]
        assert first["case_id"] == second["case_id"] == f"sua-acme-{ip}"
        assert first["run_id"] == second["run_id"]
        assert (first["joined"], second["joined"]) == (False, True)
        state = await status(client, first["case_id"], "awaiting_decision", 2)
        assert [one["id"] if isinstance(one, dict) else one for one in state["alerts"]] == ["SNX-1", "SNX-2"]
        await client.get_workflow_handle(first["case_id"]).terminate()


async def test_the_same_alert_by_two_ways_and_many_times_is_one(dev_server: WorkflowEnvironment) -> None:
    client, ip = dev_server.client, address()
    case_id = f"sua-acme-{ip}"
    ours = alert(200417, ip, rule="Large data transfer from web server", siem_incident_id="200417")
    async with asking(client) as (sender, world):
        sent = await asyncio.gather(*(sender.post([ours, incident(200417, ip)]) for _ in range(10)))
        told = [line for response in sent for line in response.json()["alerts"]]
        assert {response.status_code for response in sent} == {202}
        assert [line["joined"] for line in told].count(False) == 1
        assert len({line["run_id"] for line in told}) == 1
        state = await status(client, case_id, "awaiting_decision", 1)
        assert (len(state["alerts"]), await runs(client, case_id)) == (1, 1)
        answer = {"decision": "false_positive", "analyst": "ann@example.com", "reason": "a backup"}
        await decide_case(client, case_id, answer)
        handle = client.get_workflow_handle(case_id, run_id=told[0]["run_id"])
        async with asyncio.timeout(30):
            await handle.result()
        again = (await sender.post(incident(200417, ip))).json()["alerts"][0]
        late = client.get_workflow_handle(case_id, run_id=again["run_id"])
        async with asyncio.timeout(30):
            assert (await late.result())["outcome"] == "duplicate"
        assert len(world.mails) == 1


async def test_a_mixed_request_starts_what_can_be_read(dev_server: WorkflowEnvironment) -> None:
    client, one, two = dev_server.client, address(), address()
    finding = {"class_uid": 2006, "time": MILLIS, "finding_info": {"uid": "f-1"}, "dst_endpoint": {"ip": two}}
    body = json.dumps([alert(1, one), {"id": "x"}, finding, alert(3, "nowhere")]).encode()
    headers = {name.replace("-", "_"): value for name, value in signature(body).items()}
    async with bridge(client, queue=f"q-{uuid.uuid4()}") as sender:
        response = await sender.post(body, **headers)
    assert response.status_code == 207
    first, second, third, fourth = response.json()["alerts"]
    assert (first["case_id"], third["case_id"]) == (f"sua-acme-{one}", f"sua-acme-{two}")
    assert second["fault"].startswith("destination_ip: is missing")
    assert fourth["fault"].startswith("destination_ip: 'nowhere' is not an IP address")
    for line in (first, third):
        handle = client.get_workflow_handle(line["case_id"], run_id=line["run_id"])
        assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
        await handle.terminate()


async def test_what_waits_for_a_worker_is_kept(dev_server: WorkflowEnvironment) -> None:
    client, ip = dev_server.client, address()
    queue = f"q-{uuid.uuid4()}"
    async with bridge(client, queue=queue) as sender:
        lines = (await sender.post([alert(n, ip) for n in range(30)])).json()["alerts"]
    assert [line["joined"] for line in lines] == [False, *[True] * 29]
    world = World()
    world.sightings = 0
    async with working(client, world, queue):
        state = await status(client, lines[0]["case_id"], "awaiting_decision", 30)
        assert len(state["alerts"]) == 30
        await client.get_workflow_handle(lines[0]["case_id"]).terminate()


@pytest.fixture
async def own_temporal(tmp_path: Path) -> AsyncIterator[TemporalServer]:
    """A server of this test's own, which it may stop and start again with what it has."""
    (tmp_path / "logs").mkdir()
    server = TemporalServer(tmp_path, variables(tmp_path), port=free_port(0), ui_port=free_port(0))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def test_while_temporal_is_down_nothing_is_taken_and_nothing_lost(own_temporal: TemporalServer) -> None:
    client = await Client.connect(own_temporal.address, data_converter=pydantic_data_converter)
    await register_search_attributes(client)
    async with bridge(client, queue="q", within=2.0) as sender:
        assert (await sender.get("/readyz")).status_code == 200
        taken = (await sender.post(alert(1, "10.0.0.1"))).json()["alerts"][0]
        await own_temporal.stop()
        sent = [alert(2, "10.0.0.1"), alert(3, "10.0.0.3")]
        down = await sender.post(sent)
        assert (down.status_code, down.headers["retry-after"]) == (503, "5")
        assert [line["retry"] for line in down.json()["alerts"]] == [True, True]
        assert str(own_temporal.address) not in down.text
        async with asyncio.timeout(20):
            while (await sender.get("/readyz")).status_code != 503:
                await asyncio.sleep(0.1)
        assert (await sender.get("/healthz")).status_code == 200
        await own_temporal.start()
        async with asyncio.timeout(40):
            while (again := await sender.post(sent)).status_code != 202:
                assert again.status_code == 503
                await asyncio.sleep(0.2)
    second, third = again.json()["alerts"]
    assert second["run_id"] == taken["run_id"]
    assert third["case_id"] == "sua-acme-10.0.0.3"
