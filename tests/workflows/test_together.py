"""Once, and together: what joins a case, what gets a case of its own, and what a joined alert does to the wait."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError

from cases import Started, start_incidents
from incident.alert import Alert
from incident.policy import OnUnanswered, Tier
from tests.workflows.world import ANALYST, NOW, ON_CALL, Scene, alert, policy

FALSE = {"decision": "false_positive", "analyst": ANALYST, "reason": "a backup"}
CONTAIN = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
APART: dict[str, Any] = {"fold_alerts": True, "tell_apart": True, "looks_apart": timedelta(seconds=30)}
LATER = (NOW + timedelta(hours=9)).isoformat()


async def held(scene: Scene, steering: dict[str, Any] | None = None, **given: Any) -> tuple[Started, Alert]:
    scene.world.sightings = 0
    first = alert(**given)
    started = await scene.start(first, policy(**(APART if steering is None else steering)))
    await scene.mailed(1)
    return started, first


def another(first: Alert, **changes: Any) -> Alert:
    return alert(destination_ip=first.destination_ip, **changes)


async def together(scene: Scene, alerts: list[Alert], **steering: Any) -> list[Started]:
    told = await start_incidents(scene.client, alerts, policy=policy(**{**APART, **steering}), task_queue=scene.queue)
    assert all(isinstance(one, Started) for one in told)
    return [one for one in told if isinstance(one, Started)]


async def next_run(scene: Scene, started: Started) -> Started:
    """The run of the same case id that came after this one."""
    async with asyncio.timeout(30):
        while True:
            found = await scene.client.get_workflow_handle(started.case_id).describe()
            if found.run_id != started.run_id:
                return Started(case_id=started.case_id, run_id=found.run_id, joined=False)
            await asyncio.sleep(0.05)


async def test_a_batch_that_comes_again_after_the_end_asks_nobody(scene: Scene) -> None:
    scene.world.sightings = 0
    first = alert()
    batch = [first, *(another(first) for _ in range(9))]
    started = await together(scene, batch)
    assert [one.joined for one in started] == [False] + [True] * 9
    await scene.until(started[0], lambda s: s["alerts_total"] == 10 and s["question"] and s["question"]["asked"])
    await scene.handle(started[0]).execute_update("decide", FALSE)
    assert (await scene.end(started[0]))["outcome"] == "false_positive"
    for again in (batch, list(reversed(batch)), batch[4:5]):
        late = await together(scene, again)
        assert (await scene.end(late[0]))["outcome"] == "duplicate"
    assert len(scene.world.mails) == 1
    fresh = another(first)
    late = await together(scene, [*batch, fresh])
    state = await scene.until(late[0], lambda s: s["question"] and s["question"]["asked"])
    assert fresh.id in state["alerts"]
    assert fresh.id in await scene.handle(late[0]).query("timeline")
    await scene.handle(late[0]).execute_update("decide", FALSE)
    assert (await scene.end(late[0]))["outcome"] == "false_positive"
    assert len(scene.world.mails) == 2


@pytest.mark.parametrize("named", [{"user_account": "asmith"}, {"destination_host": "HR-LT-007"}], ids=["user", "host"])
async def test_another_persons_alert_gets_a_case_of_its_own(scene: Scene, named: dict[str, Any]) -> None:
    started, first = await held(scene)
    others = [another(first, severity="critical", occurred_at=LATER, **named) for _ in range(3)]
    for other in [*others, *others]:
        assert (await scene.start(other, policy(**APART))).run_id == started.run_id
    state = await scene.until(started, lambda s: s["others_total"] == 3)
    assert state["alerts"] == [first.id]
    assert state["priority"] == "high"
    assert [one["id"] for one in state["others"]] == [other.id for other in others]
    await scene.mailed(2)
    assert others[0].id in scene.world.mails[1].text
    await scene.handle(started).execute_update("decide", FALSE)
    final = await scene.end(started)
    assert (final["outcome"], final["alerts"]) == ("false_positive", [first.id])
    own = await next_run(scene, started)
    state = await scene.until(own, lambda s: s["alerts_total"] == 3)
    assert state["alerts"] == [other.id for other in others]
    await scene.handle(own).terminate()


async def test_later_the_address_may_be_another_machines(scene: Scene) -> None:
    started, first = await held(scene)
    same = another(first, occurred_at=(NOW + timedelta(hours=3)).isoformat())
    await scene.start(same, policy(**APART))
    await scene.until(started, lambda s: s["alerts"] == [first.id, same.id])
    scene.world.host, scene.world.account = "HR-LT-007", "asmith"
    late = another(first, severity="high", occurred_at=LATER)
    await scene.start(late, policy(**{**APART, "looks_apart": timedelta(0)}))
    await scene.handle(started).execute_update("decide", FALSE)
    final = await scene.end(started)
    assert final["alerts"] == [first.id, same.id]
    assert [one["id"] for one in final["others"]] == [late.id]
    own = await next_run(scene, started)
    state = await scene.until(own, lambda s: s["host"]["known"])
    assert (state["alerts"], state["host"]["value"]) == ([late.id], "HR-LT-007")
    await scene.handle(own).terminate()


async def test_the_siem_tells_whose_the_address_is_by_now(scene: Scene) -> None:
    started, first = await held(scene, {**APART, "looks_apart": timedelta(0)})
    scene.world.host = "HR-LT-007"
    late = another(first, severity="critical", occurred_at=LATER)
    await scene.start(late, policy(**APART))
    state = await scene.until(started, lambda s: s["others_total"])
    assert (state["alerts"], state["priority"], state["stage"]) == ([first.id], "high", "awaiting_decision")
    assert state["host"]["value"] == "FIN-LT-042"
    await scene.handle(started).terminate()


async def test_before_the_facts_are_known_a_name_waits_for_them(scene: Scene) -> None:
    scene.world.sightings = 0
    scene.world.gates["locate"] = asyncio.Event()
    first = alert()
    ours, theirs = another(first, user_account="ACME\\jdoe"), another(first, user_account="asmith")
    started = await scene.start(first, policy(**APART))
    for one in (theirs, ours, another(first, destination_host="fin-lt-042")):
        await scene.start(one, policy(**APART))
    assert (await scene.until(started, lambda s: s["stage"] == "enriching"))["alerts"] == [first.id]
    scene.world.gates.pop("locate").set()
    state = await scene.until(started, lambda s: s["alerts_total"] == 3)
    assert [one["id"] for one in state["others"]] == [theirs.id]
    assert ours.id in state["alerts"]
    await scene.handle(started).terminate()


async def test_a_case_of_before_takes_all_of_them(scene: Scene) -> None:
    started, first = await held(scene, {})
    other = another(first, user_account="asmith", occurred_at=LATER)
    await scene.start(other)
    state = await scene.until(started, lambda s: len(s["alerts"]) == 2)
    assert state["others"] == []
    await scene.handle(started).terminate()


async def test_a_case_that_an_operator_cancels_leaves_nobody_behind(scene: Scene) -> None:
    started, first = await held(scene)
    other = another(first, user_account="asmith")
    await scene.start(other, policy(**APART))
    await scene.until(started, lambda s: s["others_total"] == 1)
    await scene.handle(started).cancel()
    with pytest.raises(WorkflowFailureError):
        await scene.end(started)
    own = await next_run(scene, started)
    assert (await scene.until(own, lambda s: True))["alerts"] == [other.id]
    await scene.handle(own).terminate()


def due(state: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(state["question"]["due_at"])


async def test_an_alert_that_raises_the_priority_shortens_the_wait(scene: Scene) -> None:
    started, first = await held(scene, {"hurry": True})
    before = due(await scene.until(started, lambda s: s["question"]))
    await scene.start(another(first, severity="low"))
    await scene.start(another(first, severity="medium"))
    state = await scene.until(started, lambda s: len(s["alerts"]) == 3)
    assert due(state) == before
    await scene.start(another(first, severity="critical"))
    state = await scene.until(started, lambda s: s["priority"] == "critical")
    assert timedelta(minutes=14) < before - due(state) <= timedelta(minutes=15)
    assert "because of it" in await scene.handle(started).query("timeline")
    assert len(scene.world.mails) == 1
    await scene.handle(started).terminate()


async def test_a_shortened_wait_ends_sooner_and_writes_no_more_mails(fast: Scene) -> None:
    fast.world.sightings = 0
    first = alert()
    waits = (
        Tier(name="analyst", recipients=("soc@acme.example",), analysts=(ANALYST,), wait=timedelta(days=2)),
        Tier(name="on-call", recipients=(ON_CALL,), analysts=(ON_CALL,), wait=timedelta(minutes=20)),
    )
    fast.world.gates["send"] = asyncio.Event()
    steering = policy(hurry=True, tiers=waits, on_unanswered=OnUnanswered.CLOSE)
    started = await fast.start(first, steering)
    state = await fast.until(started, lambda s: s["question"])
    before = due(state)
    await fast.start(another(first, severity="critical"), steering)
    fast.world.gates.pop("send").set()
    final = await fast.end(started)
    assert final["outcome"] == "unanswered"
    assert [mail.recipients[0] for mail in fast.world.mails] == ["soc@acme.example"] * 2 + [ON_CALL] * 2
    escalated = next(change for change in final["priority_history"][::-1])
    assert datetime.fromisoformat(escalated["at"]) < before


async def test_a_flood_over_histories_loses_none(fast: Scene) -> None:
    fast.world.sightings = 0
    first = alert()
    steering = {
        **APART,
        "recheck_every": timedelta(minutes=10),
        "on_unanswered": OnUnanswered.HOLD,
        "tiers": (Tier(name="a", recipients=("soc@acme.example",), analysts=(ANALYST,), wait=timedelta(days=60)),),
    }
    started = await together(fast, [first], **steering)
    await fast.mailed(1)
    latest = fast.client.get_workflow_handle(started[0].case_id)
    sent, runs = [first], {started[0].run_id}
    for _ in range(40):
        some = [another(first) for _ in range(30)]
        runs |= {one.run_id for one in await together(fast, some, **steering)}
        sent += some
        await asyncio.sleep(0.05)
    async with asyncio.timeout(40):
        while (state := await latest.query("status"))["alerts_total"] < len(sent) or len(runs) < 2:
            runs.add((await latest.describe()).run_id)
            await asyncio.sleep(0.1)
    assert state["alerts_total"] == len(sent)
    assert state["joined_alerts"]["count"] == len(sent) - 1
    assert len([mail for mail in fast.world.mails if "Reminder" not in mail.subject]) == 1
    # What an earlier history was told is known in this one.
    await together(fast, sent, **steering)
    assert (await latest.query("status"))["alerts_total"] == len(sent)
    await latest.execute_update("decide", FALSE)
    final = await fast.end(started[0])
    assert (final["outcome"], final["alerts_total"]) == ("false_positive", len(sent))
    described = await fast.handle(started[0]).describe()
    assert described.status is WorkflowExecutionStatus.CONTINUED_AS_NEW
