"""A house that can be struck: the stand-ins in this process, Temporal's server and ``worker.py`` as processes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from incident.policy import CasePolicy, OnUnanswered, Tier
from lab.environment import ANALYST, HIGH_AT, MEDIUM_AT, TIERS, Environment
from lab.mailbox import Received
from lab.scenarios import Cast, Scenario
from lab.servers import LabFailed, Ran, TemporalServer
from starter import register_search_attributes, start_incident
from tests import processes

Case: TypeAlias = WorkflowHandle[Any, dict[str, Any]]
CONTAIN = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
_SETTLED_WITHIN = 60.0
_POLL = 0.05


def steering(*waits: float, on_unanswered: OnUnanswered = OnUnanswered.CLOSE) -> CasePolicy:
    """A case's settings; ``waits`` are the tiers' in seconds, an hour where none is given."""
    seconds = [*waits, *(3600 for _ in TIERS)]
    return CasePolicy(
        medium_at=MEDIUM_AT,
        high_at=HIGH_AT,
        lookback=timedelta(days=7),
        recheck_every=timedelta(days=7),
        on_unanswered=on_unanswered,
        enrich_within=timedelta(minutes=2),
        contain_within=timedelta(minutes=5),
        verify_within=timedelta(minutes=5),
        ticket_within=timedelta(minutes=5),
        tiers=tuple(
            Tier(name=t.name, recipients=(t.recipient,), analysts=(t.analyst,), wait=timedelta(seconds=wait))
            for t, wait in zip(TIERS, seconds, strict=False)
        ),
    )


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that other processes bring about, and of which no event tells."""
    async with asyncio.timeout(_SETTLED_WITHIN):
        while not condition():
            await asyncio.sleep(_POLL)


@dataclass
class House:
    """What stands and can fall."""

    lab: Environment
    cast: Cast
    server: TemporalServer
    worker: processes.Worker
    client: Client
    env: dict[str, str]

    async def start(self, scenario: Scenario, policy: CasePolicy | None = None) -> Case:
        """Start a scenario's case."""
        started = await start_incident(self.client, self.cast.alert(scenario), policy=policy or steering())
        return self.client.get_workflow_handle(started.case_id, run_id=started.run_id, result_type=dict[str, Any])

    async def asked(self, scenario: Scenario) -> dict[str, Any]:
        """Wait until the case has asked and knows it; returns its question."""
        async with asyncio.timeout(_SETTLED_WITHIN):
            while True:
                state = await self.client.get_workflow_handle(scenario.case_id).query("status")
                if state["question"] and state["question"]["asked"]:
                    return dict(state["question"])
                await asyncio.sleep(_POLL)

    async def starter(self, *arguments: str) -> Ran:
        """``python starter.py …``."""
        return await processes.starter(*arguments, env=self.env)

    async def temporal(self, *arguments: str) -> Ran:
        """``temporal …``."""
        return await processes.temporal(*arguments, env=self.env)

    async def server_restarted(self) -> None:
        """Start the server on its file again, and wait until it answers."""
        await self.server.start()
        await _answering(self.server)

    def mails(self, scenario: Scenario) -> list[Received]:
        """The mails about a case, by its workflow id in the text."""
        return [mail for mail in self.lab.mailbox.messages if scenario.case_id in mail.text.split()]

    @property
    def attempts(self) -> tuple[int, int]:
        """How often a host's containment and an account's change were asked for so far."""
        return self.lab.falcon.faults.count("devices-actions"), self.lab.directory.count("modify")

    def contained(self, scenario: Scenario) -> list[str]:
        """What became of the host's agents, action by action."""
        ids = {device.device_id for device in self.lab.falcon.devices.values() if device.hostname == scenario.host}
        return [action for device, action in self.lab.falcon.actions if device in ids]

    def disabled(self, scenario: Scenario) -> bool:
        """Whether the account is disabled now, and nothing else of it changed."""
        control = self.lab.directory.uac(scenario.account)
        assert control & ~2 == 512
        return bool(control & 2)

    def check_singles(self, scenario: Scenario, final: dict[str, Any], *, mails: int) -> None:
        """One ticket, one mail a turn of the question, one action a target."""
        rows = [row for row in self.lab.tickets.rows() if row["number"] == final["ticket"]["number"]]
        every = Counter(row["correlation_id"] for row in self.lab.tickets.rows())
        assert len(rows) == 1
        assert every[rows[0]["correlation_id"]] == 1
        assert sum(final["reference"] in row["short_description"] for row in self.lab.tickets.rows()) == 1
        ids = [str(mail.message["Message-ID"]) for mail in self.mails(scenario)]
        assert len(ids) == len(set(ids)) == mails
        assert len(self.contained(scenario)) <= 1
        for action in final["actions"]:
            assert action["state"] == "verified", action
            assert action["changed"], action


class Annexed(Protocol):
    """More systems for a house, which the settings have to name."""

    def standing(self, lab: Environment) -> AbstractAsyncContextManager[Any]:
        """Serve them."""

    def switch_on(self, settings: Path, lab: Environment) -> None:
        """Name them in the settings."""


@asynccontextmanager
async def house(
    folder: Path,
    scenarios: tuple[Scenario, ...],
    working: type[processes.Worker] = processes.Worker,
    *,
    annex: Annexed | None = None,
    settle_within: str = "30s",
) -> AsyncIterator[House]:
    """Everything up, and down again by process id whatever happens."""
    (folder / "logs").mkdir(parents=True)
    async with Environment(folder) as lab, annex.standing(lab) if annex else nullcontext():
        settings = lab.write_settings(
            "holdpoint.toml",
            wait="1h",
            on_unanswered=OnUnanswered.CLOSE,
            enrich_within="2m",
            settle_within=settle_within,
        )
        if annex:
            annex.switch_on(settings, lab)
        env = processes.variables(folder, **lab.variables(settings))
        server = TemporalServer(folder, env, port=0, ui_port=0)
        env["TEMPORAL_ADDRESS"] = server.address
        worker = working(folder, env)
        cast = Cast(lab, scenarios)
        try:
            await server.start()
            client = await _answering(server)
            await register_search_attributes(client)
            await worker.start()
            yield House(lab, cast, server, worker, client, env)
        finally:
            await worker.kill()
            await server.kill()


async def _answering(server: TemporalServer) -> Client:
    deadline = time.monotonic() + _SETTLED_WITHIN
    while True:
        try:
            client = await Client.connect(server.address, data_converter=pydantic_data_converter)
            await client.count_workflows()
            return client
        except (RuntimeError, RPCError) as error:
            if time.monotonic() > deadline:
                raise LabFailed(f"no answer at {server.address}: {error}") from None
            await asyncio.sleep(_POLL)
