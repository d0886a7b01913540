"""Whole cases over real protocols: the worker's own wiring, every stand-in on a socket, and Temporal's dev server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from clients import connect
from incident.alert import parse_alert
from incident.policy import OnUnanswered
from lab.checks import differences, history, mails_of, touched
from lab.environment import ANALYST, TIERS, Environment
from lab.scenarios import SCENARIOS, Cast, Scenario, named
from lab.trust_scenes import ALL
from settings import Settings, load_settings
from starter import CaseRefused, Started, case_status, decide_case, start_incident
from worker import build_worker

PATIENCE = 60.0


class Lab:
    """A running worker and the world that it works on."""

    def __init__(self, client: Client, environment: Environment, settings: Settings) -> None:
        self.client = client
        self.environment = environment
        self._settings = settings
        self._cast = Cast(environment, ALL)

    async def start(self, scenario: Scenario, **changes: Any) -> Started:
        """Start the scenario's case by its alert, with changes of the policy if need be."""
        alert = parse_alert(self._cast.alert(scenario))
        policy = self._settings.case_policy().model_copy(update=changes)
        return await start_incident(self.client, alert, policy=policy)

    async def paused(self, scenario: Scenario) -> dict[str, Any]:
        """Wait until the case has mailed its question; returns its status."""
        await self.environment.mailbox.wait_for(lambda mail: scenario.case_id in mail.text, PATIENCE)
        return await case_status(self.client, scenario.case_id)

    async def closed(self, started: Started) -> dict[str, Any]:
        """Wait until the case has closed; returns its last status."""
        handle = self.client.get_workflow_handle(started.case_id, run_id=started.run_id, result_type=dict[str, Any])
        return await asyncio.wait_for(handle.result(), PATIENCE)


@pytest_asyncio.fixture(scope="module")
async def lab(dev_server: WorkflowEnvironment, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    async with Environment(tmp_path_factory.mktemp("lab")) as environment:
        path = environment.write_settings(
            "holdpoint.toml", wait="1h", on_unanswered=OnUnanswered.HOLD, enrich_within="6s"
        )
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.variables(path).items():
                patch.setenv(name, value)
            settings = load_settings()
        clients = connect(settings)
        with ThreadPoolExecutor(32) as executor:
            async with build_worker(dev_server.client, settings, clients, executor):
                yield Lab(dev_server.client, environment, settings)
        await clients.aclose()


async def test_a_row_that_contains_asks_nobody(lab: Lab) -> None:
    scenario = named("high-corroborated")
    state = await lab.closed(await lab.start(scenario))
    assert differences(lab.environment, scenario, state) == []
    assert all(action["before"] for action in state["actions"])


async def test_a_held_case_writes_nothing_until_it_is_answered(lab: Lab) -> None:
    scenario = named("high-alone")
    started = await lab.start(scenario)
    state = await lab.paused(scenario)
    assert touched(lab.environment, scenario, state) == []
    assert scenario.reply is not None
    stranger = scenario.reply.payload() | {"analyst": scenario.mail}
    with pytest.raises(CaseRefused, match="not named as an analyst"):
        await decide_case(lab.client, scenario.case_id, stranger)
    assert touched(lab.environment, scenario, state) == []
    receipt = await decide_case(lab.client, scenario.case_id, scenario.reply.payload(state["question"]["id"]))
    assert receipt["analyst"] == ANALYST
    assert differences(lab.environment, scenario, await lab.closed(started)) == []


async def test_an_integration_that_is_down_is_told_at_the_hold_point(lab: Lab) -> None:
    scenario = named("high-search-down")
    started = await lab.start(scenario)
    state = await lab.paused(scenario)
    assert not state["corroboration"]["known"]
    assert "503" in state["corroboration"]["reason"]
    assert history(state) == [scenario.severity.value, scenario.verdict.priority.value]
    (mail,) = mails_of(lab.environment, state)
    assert mail.recipients == (TIERS[0].recipient,)
    assert "503" in mail.text
    assert "503" in mail.html
    assert scenario.reply is not None
    handle = lab.client.get_workflow_handle(scenario.case_id)
    await handle.signal("analyst_decision", scenario.reply.payload())
    assert differences(lab.environment, scenario, await lab.closed(started)) == []


async def test_the_same_alert_twice_is_one_case(lab: Lab) -> None:
    scenario = next(s for s in SCENARIOS if s.name == "low-alone")
    first = await lab.start(scenario)
    state = await lab.paused(scenario)
    again = await lab.start(scenario)
    assert (first.joined, again.joined) == (False, True)
    assert again.run_id == first.run_id
    assert scenario.reply is not None
    await decide_case(lab.client, scenario.case_id, scenario.reply.payload(state["question"]["id"]))
    closed = await lab.closed(first)
    assert closed["alerts"] == [scenario.alert_id]
    assert differences(lab.environment, scenario, closed) == []
