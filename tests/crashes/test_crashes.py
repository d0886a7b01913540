"""The worker and the server are killed; no case, timer, answer or effect is lost, and none is doubled."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from incident.policy import OnUnanswered
from lab.scenarios import Scenario
from tests.crashes.house import CONTAIN, House, eventually, house, steering, told

PAUSED = Scenario("paused while the worker dies", 1, 50.0, further=False)
ANSWERED = Scenario("paused while the server dies", 2, 90.0, further=False)
UNANSWERED = Scenario("paused while the server dies, and nobody answers", 3, 50.0, further=False)
DRAINED = Scenario("containing while the worker drains", 4, 50.0, further=True)
SIGNALLED = Scenario("answered while no worker runs", 5, 50.0, further=False)
DONE = Scenario("killed in mid-write, which has its effect", 6, 90.0, further=True)
NOT_DONE = Scenario("killed in mid-write, which has no effect", 7, 90.0, further=True)


@pytest.fixture(scope="module")
async def standing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with house(tmp_path_factory.mktemp("standing"), (PAUSED, ANSWERED, UNANSWERED, DRAINED, SIGNALLED)) as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
async def in_mid_write(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[asyncio.Task[Any]]:
    """Runs beside the other tests: a write whose worker died is tried again when its attempt times out (45 s)."""
    task = asyncio.create_task(killed_in_mid_write(tmp_path_factory.mktemp("mid-write")))
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def killed_in_mid_write(folder: Any) -> None:
    async with house(folder, (DONE, NOT_DONE)) as struck:
        falcon, directory = struck.lab.falcon, struck.lab.directory
        falcon.faults.add("slow", match="devices-actions", seconds=600, after_effect=True)
        directory.fail("silent", on="modify")
        done = await struck.start(DONE)
        await eventually("both writes are on their way", lambda: struck.attempts(DONE) == (1, 1))
        # The directory's answer is lost, its change is not.
        directory.put(DONE.account, "userAccountControl", 514)

        falcon.faults.add("slow", match="devices-actions", seconds=600)
        directory.fail("silent", on="modify")
        not_done = await struck.start(NOT_DONE)
        await eventually("the other two as well", lambda: struck.attempts(NOT_DONE) == (2, 2))
        assert (struck.contained(NOT_DONE), struck.disabled(NOT_DONE)) == ([], False)

        await struck.worker.kill()
        await struck.worker.start()
        for scenario, handle in ((DONE, done), (NOT_DONE, not_done)):
            async with asyncio.timeout(90):
                final = await handle.result()
            assert final["outcome"] == "contained"
            assert struck.contained(scenario) == ["contain"]
            assert struck.disabled(scenario)
            before = {action["action"]: action["before"] for action in final["actions"]}
            assert before["disable_account"] == {"userAccountControl": "512"}
            assert before["quarantine_host"]["status"] == "normal"
            struck.check_singles(scenario, final, mails=0)


async def test_the_worker_is_killed_while_a_case_is_paused(standing: House) -> None:
    case = await standing.start(PAUSED)
    await standing.asked(PAUSED)
    question = (await case.query("status"))["question"]
    await standing.worker.kill()
    await standing.worker.start()
    assert (await case.query("status"))["question"] == question | {"asked": question["asked"] or [*_asked(case)]}

    ran = await standing.starter("decide", PAUSED.case_id, "contain", "--analyst", CONTAIN["analyst"], "--reason", "x")
    assert ran.code == 0, ran.err
    final = await case.result()
    assert final["outcome"] == "contained"
    standing.check_singles(PAUSED, final, mails=1)
