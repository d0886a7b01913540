"""A mail of one's own: the link that a case gives to each, and those whom the mail server puts off."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.testing import WorkflowEnvironment

from activities.answer_links import LinkMaker
from incident.links import LinkClaim, read
from incident.policy import Tier
from incident.requests import Delivery
from integrations.errors import Busy
from starter import Started
from tests.workflows.world import ANALYST, ON_CALL, Scene, World, alert, policy, working

KEY = "k" * 40
BOB, SOC = "bob@acme.example", "soc@acme.example"
TIERS = (
    Tier(name="analyst", recipients=(ANALYST, BOB, SOC), analysts=(ANALYST, BOB), wait=timedelta(minutes=30)),
    Tier(name="on-call", recipients=(ON_CALL,), analysts=(ON_CALL,), wait=timedelta(minutes=20)),
)


class Greylisting(World):
    """A world whose mail server puts some recipients off, so many times."""

    def __init__(self) -> None:
        super().__init__()
        self.sightings = 0
        self.put_off: dict[str, int] = {}

    async def send(self, mail: Any) -> Delivery:
        (recipient,) = mail.recipients
        if self.put_off.get(recipient, 0) > 0:
            self.put_off[recipient] -= 1
            raise Busy(f"{recipient}: 451 greylisted")
        return await super().send(mail)

    def sent_to(self) -> list[str]:
        return [mail.recipients[0] for mail in self.mails]


@pytest.fixture
def world() -> Greylisting:
    return Greylisting()


@pytest.fixture
async def scene(dev_server: WorkflowEnvironment, world: Greylisting) -> AsyncIterator[Scene]:
    queue = f"q-{uuid.uuid4()}"
    desk = LinkMaker("https://desk.acme.example", KEY, timedelta(hours=24))
    async with working(dev_server.client, world, queue, desk=desk):
        yield Scene(dev_server.client, world, queue)


def claim(mail: Any) -> LinkClaim:
    (token,) = set(re.findall(r"/answer/([\w.-]+)\?answer=", mail.text))
    return read([KEY], token, datetime.now(UTC))


async def test_a_case_gives_each_who_may_answer_a_link_to_its_question(scene: Scene, world: Greylisting) -> None:
    started = await scene.start(alert(), policy(tiers=TIERS))
    await scene.mailed(3)
    state = await scene.until(started, lambda s: s["question"]["asked"])
    ann, bob, soc = world.mails
    for mail, who in ((ann, ANALYST), (bob, BOB)):
        said = claim(mail)
        assert (said.analyst, said.case_id, said.run_id) == (who, started.case_id, started.run_id)
        assert (said.question, said.digest) == (state["question"]["id"], state["question"]["digest"])
    assert "/answer/" not in soc.text + soc.html
    events = (await scene.handle(started).fetch_history()).events
    history = b"".join(event.SerializeToString() for event in events)
    assert said.digest.encode() in history
    assert b"/answer/" not in history
    await scene.handle(started).terminate()


async def test_who_may_not_decide_has_no_link(scene: Scene, world: Greylisting) -> None:
    mine = (TIERS[0].model_copy(update={"recipients": (ANALYST, "john.doe@acme.example")}),)
    started = await scene.start(alert(), policy(tiers=mine))
    await scene.mailed(1)
    await scene.until(started, lambda s: s["question"]["asked"])
    assert world.sent_to() == [ANALYST]
    await scene.handle(started).terminate()


async def test_who_is_put_off_is_mailed_later_and_the_case_knows_who_has_it_meanwhile(
    scene: Scene, world: Greylisting
) -> None:
    world.put_off = {BOB: 2}
    started = await scene.start(alert(), policy(tiers=TIERS))
    state = await scene.until(started, lambda s: s["question"] and s["question"]["asked"])
    (asked,) = state["question"]["asked"]
    assert asked["refused"] == {BOB: f"{BOB}: 451 greylisted"}
    assert world.sent_to() == [ANALYST, SOC]
    state = await scene.until(started, lambda s: not s["question"]["asked"][0]["refused"])
    assert world.sent_to() == [ANALYST, SOC, BOB]
    assert claim(world.mails[2]).analyst == BOB
    told = await scene.handle(started).query("timeline")
    assert f"mail (ask) to analyst: sent; put off, and tried again: {BOB}" in told
    assert f"mail (ask) to {BOB}: sent, after it was put off" in told
    await scene.handle(started).terminate()


async def test_an_answered_question_is_not_mailed_any_more(scene: Scene, world: Greylisting) -> None:
    world.put_off = {BOB: 10**6}
    world.gates["open_ticket"] = asyncio.Event()
    started = await scene.start(alert(), policy(tiers=TIERS))
    await scene.until(started, lambda s: s["question"] and s["question"]["asked"])
    answer = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
    await scene.handle(started).execute_update("decide", answer)
    async with asyncio.timeout(20):
        while not await _gave_up(scene, started):
            await asyncio.sleep(0.05)
    world.gates["open_ticket"].set()
    assert (await scene.end(started))["outcome"] == "contained"
    assert BOB not in world.sent_to()


async def _gave_up(scene: Scene, started: Started) -> bool:
    """Whether a step was given up; here that is the mail alone."""
    kinds = {event.event_type async for event in scene.handle(started).fetch_history_events()}
    return EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED in kinds
