"""When a channel is told, and that its outage changes nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from incident.policy import OnUnanswered, Tier
from integrations.errors import Busy, Misconfigured, Unreachable
from tests.workflows.world import ANALYST, Scene, alert, policy

CONTAIN = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
IRRELEVANT = {
    *("at", "due_at", "record", "reference", "case_id", "alerts", "id", "digest", "priority_history", "question"),
    *("ip", "pending_until", "comment"),
}


def told(scene: Scene) -> list[str]:
    return [notice.kind.value for notice in scene.world.posts]


def bare(value: Any) -> Any:
    """A status without what differs from case to case."""
    if isinstance(value, dict):
        return {key: bare(part) for key, part in value.items() if key not in IRRELEVANT}
    return [bare(part) for part in value] if isinstance(value, list) else value


async def test_it_is_off_unless_the_settings_want_it(scene: Scene) -> None:
    await scene.run(alert())
    assert "post" not in scene.world.calls


async def test_the_table_decides_and_the_case_closes(scene: Scene) -> None:
    started = await scene.start(alert(), policy(chat=True))
    final = await scene.end(started)
    assert final["outcome"] == "contained"
    assert told(scene) == ["decided", "closed"]
    # The case has waited for its last line, and knows that it went out.
    assert "channel told: closed" in await scene.handle(started).query("timeline")
    assert all(final["reference"] in notice.text for notice in scene.world.posts)


async def test_asked_answered_and_closed(scene: Scene) -> None:
    scene.world.sightings = 0
    started = await scene.start(alert(), policy(chat=True))
    await scene.mailed(1)
    await scene.handle(started).execute_update("decide", CONTAIN)
    await scene.end(started)
    assert sorted(told(scene)) == ["asked", "closed", "decided"]
    assert told(scene)[0] == "asked"


async def test_each_escalation_and_no_reminder(fast: Scene) -> None:
    fast.world.sightings = 0
    final = await fast.run(alert(), policy(chat=True, on_unanswered=OnUnanswered.CLOSE))
    assert final["outcome"] == "unanswered"
    assert sorted(told(fast)) == ["asked", "closed", "decided", "escalated", "escalated"]


async def test_a_withdrawn_question(fast: Scene) -> None:
    fast.world.sightings = 0
    steering = policy(chat=True, recheck_every=timedelta(minutes=10), on_unanswered=OnUnanswered.HOLD)
    started = await fast.start(alert(), steering)
    await fast.mailed(1)
    fast.world.sightings = 2
    await fast.end(started)
    assert {"withdrawn", "decided", "closed"} <= set(told(fast))


@pytest.mark.parametrize("failure", [Unreachable("nobody there"), Busy("later"), Misconfigured("webhook gone")])
async def test_its_outage_changes_nothing(fast: Scene, failure: Exception) -> None:
    fast.world.sightings = 0
    without = await fast.run(alert(), policy(on_unanswered=OnUnanswered.CONTAIN))
    writes, mails = list(fast.world.writes), len(fast.world.mails)
    fast.world.contained = fast.world.disabled = False
    fast.world.writes.clear()
    fast.world.mails.clear()
    fast.world.always["post"] = failure
    started = await fast.start(alert(), policy(chat=True, on_unanswered=OnUnanswered.CONTAIN))
    final = await fast.end(started)
    for key in without:
        assert bare({key: final[key]}) == bare({key: without[key]})
    assert sorted(fast.world.writes) == sorted(writes)
    assert len(fast.world.mails) == mails
    line = f"channel could not be told (asked): {failure}"
    assert line in await fast.handle(started).query("timeline")


async def test_a_silent_channel_holds_up_no_answer_and_no_containment(scene: Scene) -> None:
    scene.world.sightings = 0
    scene.world.gates["post"] = gate = asyncio.Event()
    started = await scene.start(alert(), policy(chat=True))
    await scene.mailed(1)
    await scene.handle(started).execute_update("decide", CONTAIN)
    await scene.until(started, lambda state: state["ticket"] and len(scene.world.writes) == 2)
    assert scene.world.posts == []
    gate.set()
    assert (await scene.end(started))["outcome"] == "contained"


async def test_a_fresh_history_tells_nothing_again(fast: Scene) -> None:
    fast.world.sightings = 0
    steering = policy(
        chat=True,
        recheck_every=timedelta(minutes=10),
        on_unanswered=OnUnanswered.HOLD,
        tiers=(Tier(name="analyst", recipients=("soc@acme.example",), analysts=(ANALYST,), wait=timedelta(days=7)),),
    )
    started = await fast.start(alert(), steering)
    await fast.mailed(1)
    latest = fast.client.get_workflow_handle(started.case_id)
    async with asyncio.timeout(30):
        while (await latest.describe()).run_id == started.run_id:
            await asyncio.sleep(0.02)
    await latest.execute_update("decide", CONTAIN)
    await latest.result()
    assert told(fast).count("asked") == 1
