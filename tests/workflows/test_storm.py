"""A storm of cases, each corroborated, against the real ledger: what is written by itself is the budget and no more."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from activities.ledger import LedgerActivities
from incident.evidence import Device, Fact, Host, Located, Person
from incident.policy import CasePolicy, GuardrailPolicy
from incident.requests import Written
from starter import Started
from tests.workflows.world import ANALYST, NOW, Scene, World, alert, policy, working

CASES = 24
CONTAIN = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
NO = {"decision": "false_positive", "analyst": ANALYST, "reason": "the nightly backup"}
Where = Callable[[str], str | None]


class Crowd(World):
    """A host and a user for each address; what is written is counted where it is written."""

    def __init__(self, department: Where = lambda _: None) -> None:
        super().__init__()
        self.disabled = self.contained = True  # what a read-back after a write shows
        self._department = department
        self.done: Counter[str] = Counter()
        self.answering = asyncio.Event()
        self.answering.set()

    async def locate(self, request: Any) -> Located:
        await self._meet("locate")
        host = Fact[Host].of(Host(name=f"ws-{request.ip}", ip=request.ip), "Securonix asset", NOW)
        return Located(host=host, account=Fact[str].of(f"u-{request.ip}", "Securonix activity", NOW))

    def find_person(self, name: str) -> Person:
        self._fail("find_person")
        own = {
            "account": name,
            "upn": f"{name}@corp.example",
            "mails": (f"{name}@acme.example",),
            "dn": f"CN={name},OU=Staff,DC=corp,DC=example",
            "guid": str(uuid.UUID(hashlib.sha256(name.encode()).hexdigest()[:32])),
            "department": self._department(name),
        }
        return self.person.model_copy(update=own)

    def disable(self, account: Any) -> Written:
        self._fail("disable")
        return self._written(account.account, {"userAccountControl": "512"}, {"userAccountControl": "514"})

    async def find_device(self, hostname: str, ip: str | None = None) -> Device:
        await self._meet("find_device")
        return Device(id=f"aid-{hostname}", hostname=hostname, kind="Workstation", containment="normal")

    async def quarantine(self, device: Any) -> Written:
        await self._meet("quarantine")
        written = self._written(device.hostname, {"status": "normal"}, {"status": "contained"})
        await self.answering.wait()
        return written

    def _written(self, target: str, before: dict[str, str], after: dict[str, str]) -> Written:
        if self.done[target]:
            return Written(changed=False, before=after, detail="was so already")
        self.done[target] += 1
        self.writes.append(target)
        return Written(changed=True, before=before)


class Storm(Scene):
    """A scene with a ledger of its own, and workers that come and go."""

    def __init__(self, env: WorkflowEnvironment, world: Crowd) -> None:
        super().__init__(env.client, world, f"q-{uuid.uuid4()}")
        self.ledger_id = f"ledger-{uuid.uuid4()}"

    def worker(self) -> AbstractAsyncContextManager[None]:
        ledger = LedgerActivities(self.client, self.queue, self.ledger_id)
        return working(self.client, self.world, self.queue, ledger=ledger)

    async def begin(self, steering: CasePolicy) -> list[Started]:
        return list(await asyncio.gather(*(self.start(alert(), steering) for _ in range(CASES))))

    async def settled(self, cases: list[Started]) -> tuple[list[Started], list[tuple[Started, dict[str, Any]]]]:
        """Wait until each has closed or asks; returns which have closed, and which ask with their status."""
        states = await asyncio.gather(*(self.rested(case) for case in cases))
        paired = list(zip(cases, states, strict=True))
        closed = [case for case, state in paired if state["outcome"]]
        for case in closed:
            assert (await self.end(case))["outcome"] == "contained"
        return closed, [(case, state) for case, state in paired if not state["outcome"]]

    async def rested(self, case: Started) -> dict[str, Any]:
        async with asyncio.timeout(90):
            while True:
                state: dict[str, Any] = await self.handle(case).query("status")
                if state["outcome"] or (state["question"] and state["question"]["asked"]):
                    return state
                await asyncio.sleep(0.1)

    async def ledger(self) -> dict[str, Any]:
        told: dict[str, Any] = await self.client.get_workflow_handle(self.ledger_id).query("status")
        return told

    async def answer(self, case: Started, answer: dict[str, Any]) -> dict[str, Any]:
        await self.handle(case).execute_update("decide", answer)
        return await self.end(case)


def targets(cases: list[Started], prefixes: tuple[str, ...] = ("ws-", "u-")) -> set[str]:
    """The host and the user of each case."""
    return {prefix + case.case_id.rpartition("-")[2] for case in cases for prefix in prefixes}


@pytest.fixture
async def storm(dev_server: WorkflowEnvironment) -> AsyncIterator[Storm]:
    made = Storm(dev_server, Crowd())
    yield made
    await made.client.get_workflow_handle(made.ledger_id).terminate("the test has ended")


def limited(**limits: int) -> CasePolicy:
    return policy(guardrails=GuardrailPolicy(ledger=True, **limits))


async def test_a_storm_writes_the_budget_by_itself_and_asks_about_the_rest(storm: Storm) -> None:
    """Approved writes go out though the budget is spent, also by a worker that knows these cases from history alone."""
    async with storm.worker():
        closed, asking = await storm.settled(await storm.begin(limited(max_per_hour=11)))
        assert len(closed) == 5, "two actions each, of eleven: half a case is none"
        assert sorted(storm.world.writes) == sorted(targets(closed))
        for _, state in asking:
            assert state["stage"] == "awaiting_decision"
            assert "10 of 11 automatic containments within the hour are used" in state["question"]["why"]
            assert {action["state"] for action in state["actions"]} == {"left_alone"}
        told = await storm.ledger()
        assert (told["used"], told["approved"], told["refused"]) == (10, 0, CASES - 5)

    async with storm.worker():
        approved = [case for case, _ in asking[:3]]
        for final in await asyncio.gather(*(storm.answer(case, CONTAIN) for case in approved)):
            assert (final["outcome"], final["decision"]["by"]) == ("contained", "analyst")
        for final in await asyncio.gather(*(storm.answer(case, NO) for case, _ in asking[3:])):
            assert {action["state"] for action in final["actions"]} == {"left_alone"}
        assert sorted(storm.world.writes) == sorted(targets([*closed, *approved]))
        told = await storm.ledger()
        assert (told["used"], told["approved"]) == (16, 6)


async def test_a_storm_whose_worker_goes_away_in_the_middle_writes_no_more(storm: Storm) -> None:
    """Its writes had their effect and nobody heard the answers; what the next worker does again counts once."""
    crowd = storm.world
    assert isinstance(crowd, Crowd)
    crowd.answering.clear()
    async with storm.worker():
        cases = await storm.begin(limited(max_per_hour=10))
        async with asyncio.timeout(30):
            while sum(target.startswith("ws-") for target in crowd.writes) < 2:
                await asyncio.sleep(0.005)
    crowd.answering.set()
    async with storm.worker():
        closed, asking = await storm.settled(cases)
        assert (len(closed), len(asking)) == (5, CASES - 5)
        assert sorted(storm.world.writes) == sorted(targets(closed))
        for case in closed:
            assert {(a["state"], a["changed"]) for a in (await storm.end(case))["actions"]} == {("verified", True)}
        assert (await storm.ledger())["used"] == 10
        for case, _ in asking:
            await storm.handle(case).terminate("the test has ended")


async def test_a_storm_in_one_department_leaves_the_others_their_budget(dev_server: WorkflowEnvironment) -> None:
    def department(account: str) -> str | None:
        return "Finance" if int(account.rpartition(".")[2]) % 2 else "IT"

    storm = Storm(dev_server, Crowd(department))
    async with storm.worker():
        cases = await storm.begin(limited(max_per_hour=CASES * 2, max_per_department=4))
        closed, asking = await storm.settled(cases)
        by_department = Counter(department(case.case_id) for case in cases)
        expected = sum(min(2, count) for count in by_department.values())
        assert len(closed) == expected
        assert sorted(storm.world.writes) == sorted(targets(closed))
        assert all("automatic containments within the hour in department" in s["question"]["why"] for _, s in asking)
        for case, _ in asking:
            await storm.handle(case).terminate("the test has ended")
    await storm.client.get_workflow_handle(storm.ledger_id).terminate("the test has ended")
