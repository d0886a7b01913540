"""The worker and the server are killed; no case, timer, answer or effect is lost, and none is doubled."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from incident.policy import OnUnanswered
from lab.environment import ANALYST, TIERS
from lab.scenarios import Scenario
from tests.crashes.house import CONTAIN, Case, House, eventually, house, steering

PAUSED = Scenario("paused while the worker dies", 1, 50.0, further=False)
ANSWERED = Scenario("paused while the server dies", 2, 90.0, further=False)
UNANSWERED = Scenario("paused while the server dies, and nobody answers", 3, 50.0, further=False)
DRAINED = Scenario("containing while the worker drains", 4, 50.0, further=True)
SIGNALLED = Scenario("answered while no worker runs", 5, 50.0, further=False)
DONE = Scenario("killed in mid-write, which has its effect", 6, 90.0, further=True)
TICKETED = Scenario("killed while the ticket is opened", 8, 90.0, further=True)
NOT_DONE = Scenario("killed in mid-write, which has no effect", 7, 90.0, further=True)


@pytest.fixture(scope="module")
async def standing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("standing"), (PAUSED, ANSWERED, UNANSWERED, DRAINED, SIGNALLED)) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
async def in_mid_write(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[asyncio.Task[None]]:
    """Runs beside the other tests: a step whose worker died is tried again when its attempt times out (45 s)."""
    task = asyncio.create_task(killed_in_mid_write(tmp_path_factory.mktemp("mid-write")))
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def killed_in_mid_write(folder: Path) -> None:
    async with house(folder, (TICKETED, DONE, NOT_DONE)) as struck:
        falcon, directory, tickets = struck.lab.falcon, struck.lab.directory, struck.lab.tickets
        tickets.faults.add("slow", match="POST ", seconds=600, after_effect=True)
        ticketed = await struck.start(TICKETED)
        await eventually(lambda: len(tickets.rows()) == 1)
        assert struck.attempts == (1, 1)

        falcon.faults.add("slow", match="devices-actions", seconds=600, after_effect=True)
        directory.fail("silent", on="modify")
        done = await struck.start(DONE)
        await eventually(lambda: struck.attempts == (2, 2))
        # The directory's answer is lost, its change is not.
        directory.put(DONE.account, "userAccountControl", 514)

        falcon.faults.add("slow", match="devices-actions", seconds=600)
        directory.fail("silent", on="modify")
        not_done = await struck.start(NOT_DONE)
        await eventually(lambda: struck.attempts == (3, 3))
        assert (struck.contained(NOT_DONE), struck.disabled(NOT_DONE)) == ([], False)

        await struck.worker.kill()
        await struck.worker.start()
        for scenario, case in ((TICKETED, ticketed), (DONE, done), (NOT_DONE, not_done)):
            async with asyncio.timeout(90):
                final = await case.result()
            assert final["outcome"] == "contained"
            assert struck.contained(scenario) == ["contain"]
            assert struck.disabled(scenario)
            before = {action["action"]: action["before"] for action in final["actions"]}
            assert before["disable_account"] == {"userAccountControl": "512"}
            assert before["quarantine_host"]["status"] == "normal"
            struck.check_singles(scenario, final, mails=0)
        assert len(tickets.rows()) == 3


async def test_the_worker_is_killed_while_a_case_is_paused(standing: House) -> None:
    case = await standing.start(PAUSED)
    question = await standing.asked(PAUSED)
    await standing.worker.kill()
    await standing.worker.start()
    assert (await case.query("status"))["question"] == question

    ran = await standing.starter("decide", PAUSED.case_id, "contain", "--analyst", ANALYST, "--reason", "seen it")
    assert ran.code == 0, ran.err
    final = await ended(case)
    assert final["outcome"] == "contained"
    assert standing.disabled(PAUSED)
    assert standing.contained(PAUSED) == ["contain"]
    standing.check_singles(PAUSED, final, mails=1)


async def test_the_server_is_killed_while_cases_are_paused(standing: House) -> None:
    """One timer is due during the outage and one after it; neither fires early, and none is lost."""
    wait = 24.0
    answered = await standing.start(ANSWERED, steering(wait))
    unanswered = await standing.start(UNANSWERED, steering(4, 4, 2, on_unanswered=OnUnanswered.DISABLE_ACCOUNT))
    later, soon = await standing.asked(ANSWERED), await standing.asked(UNANSWERED)
    await standing.server.kill()
    await asyncio.sleep(max(0.0, (when(soon) - datetime.now(UTC)).total_seconds()))
    assert len(standing.mails(UNANSWERED)) <= 2
    await standing.server_restarted()

    final = await ended(unanswered)
    assert (final["outcome"], final["decision"]["by"]) == ("account_disabled", "default")
    assert [change["priority"] for change in final["priority_history"]] == ["medium", "high", "critical"]
    lines = (await unanswered.query("timeline")).splitlines()
    turns = [line.split("  ", 1)[1] for line in lines if "did not answer" in line]
    assert turns == [
        "analyst did not answer; on-call is asked",
        "on-call did not answer; soc-lead is asked",
    ]
    mails = standing.mails(UNANSWERED)
    assert Counter(mail.recipients for mail in mails) == {(tier.recipient,): 2 for tier in TIERS}
    escalated = next(mail for mail in mails if mail.recipients == (TIERS[1].recipient,))
    assert escalated.at >= when(soon)
    assert standing.contained(UNANSWERED) == []
    standing.check_singles(UNANSWERED, final, mails=6)

    await eventually(lambda: len(standing.mails(ANSWERED)) > 1)
    assert standing.mails(ANSWERED)[1].at >= when(later) - timedelta(seconds=wait / 2)
    await answered.execute_update("decide", CONTAIN)
    final = await ended(answered)
    assert (final["outcome"], final["decision"]["question"]) == ("contained", later["id"])
    standing.check_singles(ANSWERED, final, mails=2)


async def test_a_worker_that_is_told_to_stop_finishes_what_it_began(standing: House) -> None:
    signalled = await standing.start(SIGNALLED)
    await standing.asked(SIGNALLED)
    standing.lab.falcon.faults.add("slow", match="devices-actions", seconds=2)
    before, _ = standing.attempts
    drained = await standing.start(DRAINED)
    await eventually(lambda: standing.attempts[0] > before)
    assert await standing.worker.drain() == 0
    assert standing.contained(DRAINED) == ["contain"]
    assert await first_attempts_of(drained, "endpoint.quarantine_host") == ["1, completed"]

    answer = ("decide", SIGNALLED.case_id, "contain", "--analyst", ANALYST, "--reason", "it's real")
    refused, status = await asyncio.gather(
        standing.starter(*answer), standing.starter("status", SIGNALLED.case_id, "--json")
    )
    assert (refused.code, status.code) == (1, 1)
    assert "no worker answered" in refused.err
    assert "python worker.py" in json.loads(status.out)["error"]
    program, *signal = shlex.split(refused.err.splitlines()[-1])
    assert program == "temporal"
    assert (await standing.temporal(*signal)).code == 0

    await standing.worker.start()
    final = await ended(drained)
    assert final["outcome"] == "contained"
    standing.check_singles(DRAINED, final, mails=0)
    final = await ended(signalled)
    assert (final["outcome"], final["decision"]["reason"]) == ("contained", "it's real")
    assert standing.contained(SIGNALLED) == ["contain"]
    standing.check_singles(SIGNALLED, final, mails=1)


async def test_the_worker_is_killed_in_the_middle_of_a_write(in_mid_write: asyncio.Task[None]) -> None:
    async with asyncio.timeout(120):
        await in_mid_write


def when(question: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(question["due_at"])


async def ended(case: Case) -> dict[str, Any]:
    async with asyncio.timeout(60):
        return await case.result()


async def first_attempts_of(case: Case, activity: str) -> list[str]:
    """The same, once there are any: what ends while a task of the case is given out is told when that one is over."""
    async with asyncio.timeout(60):
        while not (told := await attempts_of(case, activity)):
            await asyncio.sleep(0.1)
    return told


async def attempts_of(case: Case, activity: str) -> list[str]:
    """The attempts of an activity, and how each ended."""
    scheduled, started, told = set(), {}, []
    async for event in case.fetch_history_events():
        if event.activity_task_scheduled_event_attributes.activity_type.name == activity:
            scheduled.add(event.event_id)
        begun, done = event.activity_task_started_event_attributes, event.activity_task_completed_event_attributes
        if begun.scheduled_event_id in scheduled:
            started[event.event_id] = begun.attempt
        if done.scheduled_event_id in scheduled:
            told.append(f"{started[done.started_event_id]}, completed")
    return told
