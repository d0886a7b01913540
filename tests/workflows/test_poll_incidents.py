"""The poller: every incident of a Securonix stand-in becomes one alert of one case, whatever fails in between."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tomllib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

import polling
from activities.pulse import Pulse
from activities.siem_incidents import MARKER, SiemIncidentActivities
from cases import CaseRefused, start_incident
from incident.alert import parse_alert
from incident.polling import SCHEDULE_ID, Dealt, SiemIncident
from integrations.securonix import Securonix
from lab.securonix import SecuronixLab
from polling import install_poller, pause_poller, poller_status, remove_poller, resume_poller, taking
from settings import Settings
from tests.house.layers import ROOT
from tests.integrations.swapped import Current, current
from tests.workflows.world import STRICT, Scene
from workflows.poll_incidents import IncidentPoller

RULE = "Large data transfer from web server"


def settings(**changes: Any) -> Settings:
    tree = tomllib.loads((ROOT / "holdpoint.example.toml").read_text(encoding="utf-8"))
    for section in (tree["securonix"], tree["directory"], tree["ticketing"]["servicenow"]):
        section["password"] = "x"
    tree["endpoint"]["crowdstrike"]["client_secret"] = "x"
    tree["securonix"] |= {"tenant": "acme", "poll_every": "1h", "write_back": True, **changes}
    tree["record"]["attach"] = False
    return Settings(**tree)


class Polled:
    """A stand-in, a world where its cases wait, and the poller between them. Its ticks come when they are asked for."""

    def __init__(self, scene: Scene, lab: SecuronixLab, source: Securonix, given: Settings, queue: str) -> None:
        self.scene = scene
        self.lab = lab
        self.settings = given
        self.refusals: list[RPCError] = []
        self._queue = queue
        self._take = taking(scene.client, given, source, task_queue=scene.queue)
        self.activities = SiemIncidentActivities(source, self.take, comments=True)
        self._used = 0

    async def take(self, incidents: Sequence[SiemIncident]) -> list[Dealt | Exception]:
        if self.refusals:
            return [self.refusals.pop() for _ in incidents]
        return await self._take(incidents)

    def incident(self, number: int, ip: str | None = None, **fields: Any) -> str:
        address = ip or f"10.{uuid.uuid4().int % 200}.{number % 250}.{uuid.uuid4().int % 250}"
        told = {"entity": "Activityip", "violatorText": address, "violatorId": address, "reason": [f"Policy: {RULE}"]}
        self.lab.add_incident(str(number), **{**told, **fields})
        return address

    async def install(self, since: timedelta | None = None) -> dict[str, Any]:
        await install_poller(self.scene.client, self.settings, since=since, task_queue=self._queue)
        return await self._ended(1)

    async def tick(self) -> dict[str, Any]:
        """One more run; returns the status after it."""
        handle = self.scene.client.get_schedule_handle(SCHEDULE_ID)
        before = (await handle.describe()).info.num_actions
        await handle.trigger()
        return await self._ended(before + 1)

    async def _ended(self, number: int) -> dict[str, Any]:
        handle = self.scene.client.get_schedule_handle(SCHEDULE_ID)
        async with asyncio.timeout(30):
            while True:
                info = (await handle.describe()).info
                if info.num_actions >= number and not info.running_actions:
                    return await poller_status(self.scene.client)
                await asyncio.sleep(0.05)

    async def alerts(self) -> Counter[str]:
        """How often each alert stands in a case."""
        counted: Counter[str] = Counter()
        async for run in self.scene.client.list_workflows(f"TaskQueue = '{self.scene.queue}'"):
            if run.workflow_type == "SuspiciousUserActivity":
                state = await self.scene.client.get_workflow_handle(run.id, run_id=run.run_id).query("status")
                counted.update(state["alerts"])
        return counted

    async def settled(self, expected: int) -> Counter[str]:
        """The same, once Temporal's list has caught up."""
        async with asyncio.timeout(20):
            while (counted := await self.alerts()).total() < expected:
                await asyncio.sleep(0.1)
        return counted


@pytest.fixture(scope="module")
async def served() -> AsyncIterator[Current[SecuronixLab]]:
    async with current(SecuronixLab) as app:
        yield app


@pytest.fixture
async def polled(
    dev_server: WorkflowEnvironment, scene: Scene, served: Current[SecuronixLab], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Polled]:
    monkeypatch.setattr(polling, "PAGE_WITHIN", timedelta(seconds=4))
    scene.world.sightings = 0
    lab = served.renewed()
    source = Securonix(served.url, lab.username, lab.password, tenant="acme")
    queue = f"poll-{uuid.uuid4()}"
    given = Polled(scene, lab, source, settings(), queue)
    async with Worker(
        dev_server.client,
        task_queue=queue,
        workflows=[IncidentPoller],
        activities=[given.activities.take_incidents],
        interceptors=[Pulse()],
        workflow_runner=SandboxedWorkflowRunner(restrictions=STRICT),
        workflow_failure_exception_types=[Exception],
    ):
        yield given
        with contextlib.suppress(CaseRefused):
            await remove_poller(dev_server.client)
    await source.aclose()
    async for run in dev_server.client.list_workflows(f"TaskQueue = '{scene.queue}' AND ExecutionStatus = 'Running'"):
        with contextlib.suppress(RPCError):
            await dev_server.client.get_workflow_handle(run.id, run_id=run.run_id).terminate("the test has ended")


async def test_it_takes_what_was_opened_since_and_nothing_twice(polled: Polled) -> None:
    polled.incident(1, opened=datetime.now(UTC) - timedelta(minutes=5))
    polled.incident(2)
    polled.incident(3, opened=datetime.now(UTC) - timedelta(hours=2))
    state = await polled.install()
    assert state["counts"] == {"started": 2, "joined": 0, "passed": 0, "later": 0, "missed": 0}
    polled.incident(4)
    state = await polled.tick()
    assert state["counts"]["started"] == 3
    # Nor are those that are remembered brought to their cases again.
    again = await polled.tick()
    assert (again["counts"]["started"], again["counts"]["joined"]) == (3, 0)
    assert await polled.settled(3) == Counter({"SNX-1": 1, "SNX-2": 1, "SNX-4": 1})


async def test_an_outage_is_caught_up_with(polled: Polled) -> None:
    await polled.install()
    read = (await polled.tick())["until"]
    polled.lab.faults.add("403", match="type=list", times=10**6)
    for number in (1, 2, 3):
        polled.incident(number)
        state = await polled.tick()
        assert "the latest run failed" in state["trouble"]
        assert state["until"] == read
    polled.lab.faults.clear()
    polled.lab.faults.add("503", match="type=list", times=10**6)
    assert "the latest run failed" in (await polled.tick())["trouble"]
    polled.lab.faults.clear()
    state = await polled.tick()
    assert (state["trouble"], state["counts"]["started"]) == (None, 3)
    assert await polled.settled(3) == Counter({"SNX-1": 1, "SNX-2": 1, "SNX-3": 1})


async def test_days_are_read_window_by_window(polled: Polled) -> None:
    polled.lab.quirks.incident_page = 2
    now = datetime.now(UTC)
    for number in range(9):
        polled.incident(number, opened=now - timedelta(hours=8 * number))
    state = await polled.install(since=timedelta(days=3))
    assert state["counts"]["started"] == 9
    assert len(await polled.settled(9)) == 9


async def test_a_window_that_holds_too_much_is_halved(polled: Polled, monkeypatch: pytest.MonkeyPatch) -> None:
    polled.lab.quirks.incident_page = 1
    now = datetime.now(UTC)
    for number in range(120):
        polled.incident(number, ip="10.20.30.40", opened=now - timedelta(minutes=3 * number))
    state = await polled.install(since=timedelta(hours=6))
    for _ in range(4):
        if state["counts"]["joined"] == 119:
            break
        state = await polled.tick()
    assert (state["counts"]["started"], state["counts"]["joined"]) == (1, 119)
    assert set((await polled.settled(120)).values()) == {1}


async def test_what_breaks_in_the_middle_is_not_done_again(polled: Polled) -> None:
    polled.lab.quirks.incident_page = 2
    for number in range(6):
        polled.incident(number)
    polled.lab.faults.add("403", match="offset=4", times=10**6)
    state = await polled.install()
    assert "Securonix answered 403" in state["trouble"]
    assert state["counts"]["started"] == 4
    polled.lab.faults.clear()
    state = await polled.tick()
    assert (state["trouble"], state["counts"]["started"]) == (None, 6)


async def test_temporal_that_takes_nothing_for_a_while(polled: Polled) -> None:
    polled.incident(1)
    polled.refusals += [RPCError("busy", RPCStatusCode.RESOURCE_EXHAUSTED, b"")] * 50
    assert "Temporal did not take it" in (await polled.install())["trouble"]
    polled.refusals.clear()
    assert (await polled.tick())["counts"]["started"] == 1


async def test_incidents_of_one_host_travel_together(polled: Polled) -> None:
    ip = polled.incident(1)
    for number in range(2, 6):
        polled.incident(number, ip)
    polled.incident(6)
    counts = (await polled.install())["counts"]
    assert (counts["started"], counts["joined"]) == (2, 4)
    assert await polled.settled(6) == Counter({f"SNX-{number}": 1 for number in range(1, 7)})
    history = await polled.scene.client.get_workflow_handle(f"sua-acme-{ip}").fetch_history()
    signals = [
        event.workflow_execution_signaled_event_attributes.signal_name
        for event in history.events
        if event.HasField("workflow_execution_signaled_event_attributes")
    ]
    assert signals == ["alerts"]


async def test_an_offset_that_is_not_minded_is_told(polled: Polled) -> None:
    polled.lab.quirks.incident_page, polled.lab.quirks.offsets = 2, False
    for number in range(5):
        polled.incident(number)
    assert "only 2 of 5 incidents can be read" in (await polled.install())["trouble"]
    polled.lab.quirks.incident_page = None
    assert (await polled.tick())["counts"]["started"] == 5


async def test_the_newest_first_is_as_good(polled: Polled) -> None:
    polled.lab.quirks.incident_page, polled.lab.quirks.orders = 2, False
    for number in range(5):
        polled.incident(number)
    assert (await polled.install())["counts"]["started"] == 5


async def test_one_that_is_told_of_late_is_in_the_overlap(polled: Polled) -> None:
    now = datetime.now(UTC)
    polled.incident(1, opened=now - timedelta(minutes=2), shown=now + timedelta(seconds=1.5))
    assert (await polled.install())["counts"]["started"] == 0
    await asyncio.sleep(1.6)
    assert (await polled.tick())["counts"]["started"] == 1


async def test_by_webhook_and_by_poller_it_is_one_alert(polled: Polled) -> None:
    ip = polled.incident(1)
    given = {"id": "SNX-1", "destination_ip": ip, "occurred_at": "2026-03-14T12:34:56Z", "tenant": "acme"}
    await start_incident(
        polled.scene.client, parse_alert(given), policy=polled.settings.case_policy(), task_queue=polled.scene.queue
    )
    state = await polled.install()
    assert (state["counts"]["started"], state["counts"]["joined"]) == (0, 1)
    assert await polled.settled(1) == Counter({"SNX-1": 1})


async def test_what_is_over_or_not_wanted_is_passed(polled: Polled) -> None:
    polled.incident(1, statusCompleted=True)
    polled.incident(2, sandBoxPolicy=True)
    state = await polled.install()
    assert state["counts"] == {"started": 0, "joined": 0, "passed": 2, "later": 0, "missed": 0}
    assert all(incident.comments == [] for incident in polled.lab.incidents.values())


async def test_policies_are_chosen_by_name(polled: Polled) -> None:
    polled.settings = settings(poll_policies=["large DATA*"])
    source: Any = polled.activities._source
    polled._take = taking(polled.scene.client, polled.settings, source, task_queue=polled.scene.queue)
    polled.incident(1)
    polled.incident(2, reason=["Policy: Brute force"])
    polled.incident(3, reason=[{"Policies": {"stage1": {"s1": ["Beaconing", RULE]}}}])
    counts = (await polled.install())["counts"]
    assert (counts["started"], counts["passed"]) == (2, 1)


async def test_one_without_an_address_waits_for_its_violations(polled: Polled) -> None:
    polled.incident(1, entity="Users", violatorText="Jane Roe", violatorSubText="4711")
    assert (await polled.install())["counts"]["later"] == 1
    polled.lab.add_violation(RULE, "10.20.30.40", employeeid="4711", destinationaddress="10.20.30.41")
    state = await polled.tick()
    assert state["counts"]["started"] == 1
    assert await polled.settled(1) == Counter({"SNX-1": 1})
    assert polled.lab.incidents["1"].comments == []


async def test_one_that_never_has_one_is_told_so_once(polled: Polled) -> None:
    opened = datetime.now(UTC) - timedelta(minutes=6)
    polled.incident(1, entity="Users", violatorText="Jane Roe", violatorSubText="4711", opened=opened)
    polled.incident(2)
    state = await polled.install()
    assert (state["counts"]["missed"], state["counts"]["started"]) == (1, 1)
    assert state["missed"][0]["incident"] == "1"
    assert state["missed"][0]["why"].startswith("destination_ip: is missing")
    await polled.tick()
    (comment,) = polled.lab.incidents["1"].comments
    assert comment.startswith("Holdpoint started no case for this incident: destination_ip: is missing")
    assert MARKER in comment


async def test_a_comment_that_is_refused_stops_nobody(polled: Polled) -> None:
    opened = datetime.now(UTC) - timedelta(minutes=6)
    polled.incident(1, entity="Users", violatorSubText="4711", opened=opened)
    polled.incident(2)
    polled.lab.faults.add("403", match="actionName=comment", times=10**6)
    state = await polled.install()
    assert (state["counts"]["missed"], state["counts"]["started"], state["trouble"]) == (1, 1, None)


async def test_pause_resume_and_remove(polled: Polled) -> None:
    client = polled.scene.client
    for call in (pause_poller(client, note="x"), resume_poller(client, note="x"), poller_status(client)):
        with pytest.raises(CaseRefused, match="not installed"):
            await call
    await polled.install()
    await pause_poller(client, note="a\x1b[2J maintenance")
    state = await poller_status(client)
    assert (state["paused"], state["note"], state["next_at"]) == (True, "a maintenance", None)
    again = await install_poller(client, settings(poll_every="2h"), task_queue=polled._queue)
    state = await poller_status(client)
    assert (again["created"], state["every"], state["paused"]) == (False, "7200s", True)
    polled.incident(1)
    await resume_poller(client, note="back")
    assert (await polled._ended(2))["counts"]["started"] == 1
    with pytest.raises(CaseRefused, match="poll_every"):
        await install_poller(client, settings(poll_every=None))


@pytest.mark.parametrize("seed", range(3))
async def test_each_incident_becomes_one_alert_of_one_case(polled: Polled, seed: int) -> None:
    """Ticks good and bad, incidents early, late and for the same host, and the webhook in between."""
    dice = random.Random(seed)
    polled.lab.quirks.incident_page = dice.choice([None, 2, 3])
    polled.lab.quirks.orders = dice.choice([True, False])
    hosts: list[str] = []
    await polled.install()
    for number in range(24):
        match dice.randrange(8):
            case 0:
                polled.lab.faults.add("403", match="type=list", times=dice.choice([2, 4]))
            case 1:
                polled.lab.faults.add(dice.choice(["503", "reset", "truncated"]), match="type=list", times=1)
            case 2:
                polled.refusals += [RPCError("busy", RPCStatusCode.UNAVAILABLE, b"")] * dice.randrange(1, 4)
            case 3 if hosts:
                known = dice.randrange(len(hosts))
                given = {"id": f"SNX-{known}", "destination_ip": hosts[known], "occurred_at": "2026-03-14T12:34:56Z"}
                parsed = parse_alert(given, "acme")
                await start_incident(
                    polled.scene.client,
                    parsed,
                    policy=polled.settings.case_policy(),
                    task_queue=polled.scene.queue,
                )
            case 4:
                await polled.tick()
            case _:
                ip = dice.choice(hosts) if hosts and dice.random() < 0.4 else None
                now = datetime.now(UTC)
                late = now + timedelta(seconds=dice.random()) if number < 20 and dice.random() < 0.3 else now
                hosts.append(polled.incident(len(hosts), ip, opened=now - timedelta(seconds=1), shown=late))
    await asyncio.sleep(1)
    polled.lab.faults.clear()
    polled.refusals.clear()
    while (await polled.tick())["trouble"]:
        continue
    assert await polled.settled(len(hosts)) == Counter({f"SNX-{number}": 1 for number in range(len(hosts))})
    runs = [run async for run in polled.scene.client.list_workflows(f"TaskQueue = '{polled.scene.queue}'")]
    cases = [run for run in runs if run.workflow_type == "SuspiciousUserActivity"]
    assert len(cases) == len(set(hosts))
    assert all(run.status is WorkflowExecutionStatus.RUNNING for run in cases)
