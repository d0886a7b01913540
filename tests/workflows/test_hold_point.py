"""The hold point: who may answer, what counts, and what happens when nobody does."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from incident.policy import OnUnanswered, Tier
from integrations.errors import Rejected
from starter import Started
from tests.workflows.world import ANALYST, LEAD, ON_CALL, Scene, alert, policy

CONTAIN = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}


async def held(scene: Scene, **changes: Any) -> Started:
    scene.world.sightings = 0
    started = await scene.start(alert(), policy(**changes))
    await scene.mailed(1)
    return started


async def refused(scene: Scene, started: Started, answer: Any) -> str:
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await scene.handle(started).execute_update("decide", answer)
    assert isinstance(caught.value.cause, ApplicationError)
    return caught.value.cause.message


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "malformed"),
        ("contain", "malformed"),
        ([], "malformed"),
        ({"decision": "contain", "analyst": ANALYST}, "reason: is missing"),
        ({"decision": "maybe", "analyst": ANALYST, "reason": "x"}, "must be one of contain, false_positive"),
        ({**CONTAIN, "actions": ["burn"]}, "must be among quarantine_host, disable_account"),
        ({**CONTAIN, "actions": []}, "names none"),
        ({**CONTAIN, "decision": "false_positive", "actions": ["disable_account"]}, "goes with contain only"),
        ({**CONTAIN, "analyst": "mallory@acme.example"}, "not named as an analyst"),
        ({**CONTAIN, "question": "HP-00000000-Q9"}, "was withdrawn or answered"),
    ],
)
async def test_what_does_not_count_is_refused_and_recorded(scene: Scene, answer: Any, why: str) -> None:
    started = await held(scene)
    assert why in await refused(scene, started, answer)
    await scene.handle(started).signal("analyst_decision", answer)
    state = await scene.until(started, lambda s: s["dissent"])
    assert why in state["dissent"][0]["why"]
    assert state["stage"] == "awaiting_decision"
    assert scene.world.writes == []
    await scene.handle(started).execute_update("decide", {**CONTAIN, "decision": "false_positive"})
    assert (await scene.end(started))["outcome"] == "false_positive"


async def test_signals_of_every_shape_never_fail_the_task(scene: Scene) -> None:
    started = await held(scene)
    handle = scene.handle(started)
    await handle.signal("analyst_decision")
    await handle.signal("analyst-decision", CONTAIN)
    await handle.signal("alert")
    await handle.signal("alert", {"id": "x"})
    await handle.signal("alert", 7)
    state = await scene.until(started, lambda s: s["dissent"])
    assert "malformed" in state["dissent"][0]["why"]
    told = await handle.query("timeline")
    assert "analyst-decision" in told
    assert told.count("was no alert") == 3
    await handle.signal("analyst_decision", args=[CONTAIN, "and more"])
    assert (await scene.end(started))["outcome"] == "contained"


async def test_first_answer_wins_and_a_later_one_is_dissent(scene: Scene) -> None:
    started = await held(scene)
    handle = scene.handle(started)
    scene.world.gates["comment"] = gate = asyncio.Event()
    await handle.execute_update("decide", {**CONTAIN, "decision": "false_positive"})
    await handle.signal("analyst_decision", {**CONTAIN, "analyst": LEAD})
    assert "false_positive by ana@acme.example" in await refused(scene, started, {**CONTAIN, "analyst": LEAD})
    gate.set()
    final = await scene.end(started)
    assert final["outcome"] == "false_positive"
    assert [(d["analyst"], d["decision"]) for d in final["dissent"]] == [(LEAD, "contain")]
    assert scene.world.writes == []


async def test_same_update_id_gives_the_same_receipt(scene: Scene) -> None:
    started = await held(scene)
    first = await scene.handle(started).execute_update("decide", CONTAIN, id="once")
    again = await scene.handle(started).execute_update("decide", CONTAIN, id="once")
    assert first == again
    await scene.end(started)


async def test_suspect_and_reporting_line_neither_answer_nor_get_mail(scene: Scene) -> None:
    tiers = (
        Tier(
            name="managers", recipients=("boss@acme.example",), analysts=("boss@acme.example",), wait=timedelta(hours=1)
        ),
        Tier(
            name="mixed",
            recipients=("JOHN.DOE@acme.example", "soc@acme.example"),
            analysts=("john.doe@acme.example", "jdoe@elsewhere.example", ANALYST),
            wait=timedelta(hours=1),
        ),
    )
    started = await held(scene, tiers=tiers)
    state = await scene.until(started, lambda s: s["question"])
    assert state["question"]["tier"] == "mixed"
    assert [mail.recipients for mail in scene.world.mails] == [("soc@acme.example",)]
    for who in ("boss@acme.example", "john.doe@acme.example", "jdoe@elsewhere.example"):
        assert "do not decide" in await refused(scene, started, {**CONTAIN, "analyst": who})
    await scene.handle(started).execute_update("decide", CONTAIN)
    await scene.end(started)


@pytest.mark.parametrize(
    ("default", "outcome", "writes"),
    [
        (OnUnanswered.CLOSE, "unanswered", set()),
        (OnUnanswered.DISABLE_ACCOUNT, "account_disabled", {"disable"}),
        (OnUnanswered.CONTAIN, "contained", {"disable", "quarantine"}),
    ],
)
async def test_nobody_answers(fast: Scene, default: OnUnanswered, outcome: str, writes: set[str]) -> None:
    fast.world.sightings = 0
    final = await fast.run(alert(), policy(on_unanswered=default))
    assert final["outcome"] == outcome
    assert final["decision"]["by"] == "default"
    assert set(fast.world.writes) == writes
    assert [change["priority"] for change in final["priority_history"]] == ["medium", "high", "critical"]
    asked = [(mail.recipients[0], "Reminder" in mail.subject) for mail in fast.world.mails]
    assert [who for who, _ in asked] == ["soc@acme.example"] * 2 + [ON_CALL] * 2 + [LEAD] * 2
    assert [reminder for _, reminder in asked] == [False, True] * 3


async def test_hold_keeps_asking_and_opens_one_ticket(fast: Scene) -> None:
    fast.world.sightings = 0
    started = await fast.start(alert(), policy(on_unanswered=OnUnanswered.HOLD))
    await fast.mailed(10)
    state = await fast.until(started, lambda s: s["ticket"])
    assert state["stage"] == "awaiting_decision"
    assert state["question"]["tier"] == "soc-lead"
    await fast.handle(started).execute_update("decide", CONTAIN)
    final = await fast.end(started)
    assert final["outcome"] == "contained"
    assert len(fast.world.tickets) == 1
    assert any("verified" in note for note in fast.world.notes)


async def test_new_corroboration_withdraws_the_question(fast: Scene) -> None:
    fast.world.sightings = 0
    steering = policy(recheck_every=timedelta(minutes=10), on_unanswered=OnUnanswered.HOLD)
    started = await fast.start(alert(), steering)
    await fast.mailed(1)
    fast.world.sightings = 2
    final = await fast.end(started)
    assert final["outcome"] == "contained"
    assert final["decision"]["by"] == "table"
    assert final["priority"] == "critical"
    assert any("withdrawn" in mail.text.lower() for mail in fast.world.mails)


async def test_a_joining_alert_makes_the_case_look_at_once(scene: Scene) -> None:
    scene.world.sightings = 0
    first = alert()
    started = await scene.start(first)
    await scene.mailed(1)
    again = await scene.start(first)
    assert again.joined
    assert again.run_id == started.run_id
    scene.world.sightings = 1
    second = alert(destination_ip=first.destination_ip, severity="high")
    assert (await scene.start(second)).joined
    final = await scene.end(started)
    assert final["alerts"] == [first.id, second.id]
    assert final["outcome"] == "contained"
    assert len(scene.world.tickets) == 1


async def test_redelivery_after_the_end_is_a_duplicate(scene: Scene) -> None:
    given = alert()
    assert (await scene.run(given))["outcome"] == "contained"
    scene.world.writes.clear()
    scene.world.tickets.clear()
    final = await scene.run(given)
    assert final["outcome"] == "duplicate"
    assert scene.world.writes == []
    assert scene.world.tickets == {}
    another = await scene.run(alert(destination_ip=given.destination_ip))
    assert another["outcome"] == "contained"


async def test_unknown_then_known_is_looked_at_again(fast: Scene) -> None:
    fast.world.score = None
    started = await fast.start(alert(), policy(recheck_every=timedelta(minutes=5), on_unanswered=OnUnanswered.HOLD))
    await fast.mailed(1)
    fast.world.score = 80.0
    final = await fast.end(started)
    assert final["outcome"] == "contained"
    assert [c["priority"] for c in final["priority_history"]][:2] == ["medium", "high"]


async def test_mail_that_fails_for_good_is_told_in_the_case(fast: Scene) -> None:
    fast.world.sightings = 0
    fast.world.always["send"] = Rejected("SMTP answered 550 to everybody")
    final = await fast.run(alert(), policy(on_unanswered=OnUnanswered.CLOSE))
    assert final["outcome"] == "unanswered"
    started = await fast.start(alert(), policy(on_unanswered=OnUnanswered.HOLD))
    state = await fast.until(started, lambda s: s["question"] and s["question"]["asked"])
    assert "550" in state["question"]["asked"][0]["failed"]
    await fast.handle(started).terminate()


async def test_a_case_that_waits_for_weeks_begins_its_history_anew(fast: Scene) -> None:
    fast.world.sightings = 0
    steering = policy(
        recheck_every=timedelta(minutes=10),
        on_unanswered=OnUnanswered.HOLD,
        tiers=(Tier(name="analyst", recipients=("soc@acme.example",), analysts=(ANALYST,), wait=timedelta(days=7)),),
    )
    started = await fast.start(alert(), steering)
    await fast.mailed(1)
    first = await fast.until(started, lambda s: s["question"])
    latest = fast.client.get_workflow_handle(started.case_id)
    async with asyncio.timeout(30):
        while (await latest.describe()).run_id == started.run_id:
            await asyncio.sleep(0.02)
        state = await latest.query("status")
    assert state["question"]["id"] == first["question"]["id"]
    assert state["question"]["due_at"] == first["question"]["due_at"]
    assert state["priority_history"] == first["priority_history"]
    assert len([mail for mail in fast.world.mails if "Reminder" not in mail.subject]) == 1
    await latest.execute_update("decide", CONTAIN)
    final = await fast.end(started)
    assert final["outcome"] == "contained"
    assert len(fast.world.tickets) == 1


@pytest.mark.parametrize("alerts", range(1, 9))
async def test_alerts_that_join_at_the_moment_of_the_answer_keep_no_case_open(scene: Scene, alerts: int) -> None:
    started = await held(scene)
    state = await scene.until(started, lambda state: state["question"] and state["question"]["asked"])
    address = state["host"]["detail"]["ip"]
    for _ in range(alerts):
        assert (await scene.start(alert(destination_ip=address))).joined
    await scene.handle(started).execute_update("decide", CONTAIN)
    assert (await scene.end(started))["outcome"] == "contained"
