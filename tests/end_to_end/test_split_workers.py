"""Several worker processes: split by queue, each with its own credentials, and two on one queue of which one dies."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from incident.policy import CasePolicy, OnUnanswered
from incident.queues import Integration
from lab.checks import differences
from lab.environment import Environment
from lab.scenarios import Cast, Scenario, named
from lab.servers import ROOT, LabFailed, Ran, TemporalServer
from settings import load_settings
from starter import register_search_attributes, start_incident
from tests import processes

PATIENCE = 60.0


@dataclass
class Shop:
    """The stand-ins, a server, and worker processes that a test hires."""

    lab: Environment
    folder: Path
    client: Client
    policy: CasePolicy
    env: dict[str, str]
    open: AsyncExitStack
    hired: dict[str, dict[str, str]] = field(default_factory=dict)
    """The environment of each worker, by its name."""

    async def hire(self, name: str, *, queues: str | None = None, secrets: list[str] | None = None) -> processes.Worker:
        """Start ``worker.py``, with a directory of just these secrets; with all of them where none is named."""
        place = self.folder / name
        (place / "logs").mkdir(parents=True)
        env = dict(self.env)
        if secrets is not None:
            (place / "secrets").mkdir()
            for secret in secrets:
                shutil.copy(self.lab.secrets / secret, place / "secrets")
            env["HOLDPOINT_SECRETS_DIR"] = str(place / "secrets")
        if queues is not None:
            env["HOLDPOINT_WORKER__QUEUES"] = queues
        self.hired[name] = env
        worker = processes.Worker(place, env)
        self.open.push_async_callback(worker.kill)
        await worker.start()
        return worker

    async def start(self, scenario: Scenario) -> WorkflowHandle[Any, dict[str, Any]]:
        """Start a scenario's case, with the settings that the workers have."""
        alert = Cast(self.lab, (scenario,)).alert(scenario)
        started = await start_incident(self.client, alert, policy=self.policy)
        return self.client.get_workflow_handle(started.case_id, run_id=started.run_id, result_type=dict[str, Any])


@asynccontextmanager
async def shop(folder: Path, **variables: str) -> AsyncIterator[Shop]:
    """Everything but workers, up; all of it down again by process id."""
    (folder / "logs").mkdir(parents=True)
    async with Environment(folder) as lab, AsyncExitStack() as hired:
        path = lab.write_settings("holdpoint.toml", wait="1h", on_unanswered=OnUnanswered.CLOSE, enrich_within="1m")
        env = processes.variables(folder, **lab.variables(path), **variables)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**lab.variables(path), **variables}.items():
                patch.setenv(name, value)
            policy = load_settings().case_policy()
        server = TemporalServer(folder, env, port=0, ui_port=0)
        env["TEMPORAL_ADDRESS"] = server.address
        hired.push_async_callback(server.kill)
        await server.start()
        client = await _answering(server)
        await register_search_attributes(client)
        yield Shop(lab, folder, client, policy, env, hired)


async def _answering(server: TemporalServer) -> Client:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            client = await Client.connect(server.address, data_converter=pydantic_data_converter)
            await client.count_workflows()
            return client
        except (RuntimeError, RPCError) as error:
            if time.monotonic() > deadline:
                raise LabFailed(f"no answer at {server.address}: {error}") from None
            await asyncio.sleep(0.05)


async def takers(handle: WorkflowHandle[Any, Any]) -> dict[str, set[tuple[str, str]]]:
    """Over which queue each step went and who took it, by the step's name."""
    queues: dict[int, tuple[str, str]] = {}
    told: dict[str, set[tuple[str, str]]] = {}
    async for event in handle.fetch_history_events():
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            asked = event.activity_task_scheduled_event_attributes
            queues[event.event_id] = (asked.activity_type.name, asked.task_queue.name)
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            taken = event.activity_task_started_event_attributes
            name, queue = queues[taken.scheduled_event_id]
            told.setdefault(name, set()).add((queue, taken.identity.partition("@")[0]))
    return told


async def doctor(env: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The checks of ``starter.py doctor``, by their names."""
    ran = await processes.starter("doctor", "--json", env=env)
    return {check["name"]: check for check in json.loads(ran.out)}


async def healthy(queues: str, env: dict[str, str]) -> Ran:
    """``python healthcheck.py`` for a process that serves these queues."""
    return await processes.run(sys.executable, ROOT / "healthcheck.py", env=env | {"HOLDPOINT_WORKER__QUEUES": queues})


async def test_one_process_for_the_directory_and_one_for_the_rest(tmp_path: Path) -> None:
    scenario = named("high-corroborated")
    async with shop(tmp_path / "shop", HOLDPOINT_QUEUES__OWN='["directory"]') as place:
        assert place.policy.own_queues == (Integration.DIRECTORY,)
        every = sorted(path.name for path in place.lab.secrets.iterdir())
        rest = await place.hire(
            "rest", queues="cases", secrets=[name for name in every if not name.startswith("directory")]
        )
        line = (await doctor(place.env))["Temporal: worker of directory"]
        assert (line["ok"], "none has polled incident-response-directory" in line["detail"]) == (False, True)
        alone = await place.hire("directory", queues="directory", secrets=["directory__password"])
        case = await place.start(scenario)
        state = await asyncio.wait_for(case.result(), PATIENCE)
        assert differences(place.lab, scenario, state) == []
        ours = ("incident-response-directory", str(alone.pid))
        found = await takers(case)
        assert {name for name, by in found.items() if ours in by} >= {
            "directory.find_person",
            "directory.disable_account",
            "directory.confirm_disabled",
        }
        for name, by in found.items():
            wanted = ours if name.startswith("directory.") else ("incident-response", str(rest.pid))
            assert by == {wanted}, name
        assert (await doctor(place.env))["Temporal: worker of directory"]["ok"]
        theirs = await doctor(place.hired["directory"])
        assert {name.partition(":")[0] for name in theirs} == {"Temporal", "Active Directory", "Policy", "Guardrails"}
        assert (await healthy("cases,directory", place.env)).code == 0
        assert "incident-response-endpoint" in (await healthy("cases,endpoint", place.env)).err
        assert await alone.drain() == 0


async def test_of_two_workers_on_one_queue_one_is_killed_in_the_middle(tmp_path: Path) -> None:
    scenario = named("high-corroborated")
    async with shop(tmp_path / "shop") as place:
        first = await place.hire("first")
        place.lab.falcon.faults.add("slow", match="devices-actions", seconds=600)
        case = await place.start(scenario)
        async with asyncio.timeout(PATIENCE):
            while not place.lab.falcon.faults.count("devices-actions"):
                await asyncio.sleep(0.05)
        second = await place.hire("second")
        await first.kill()
        state = await asyncio.wait_for(case.result(), PATIENCE)
        assert differences(place.lab, scenario, state) == []
        by = (await takers(case))["endpoint.quarantine_host"]
        assert by == {("incident-response", str(second.pid))}
        assert len(place.lab.falcon.actions) == 1
