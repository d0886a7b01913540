"""After the answer: who hears of it, who disagrees, and who has only looked."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError

from incident.policy import CasePolicy, OnUnanswered, Tier
from integrations.errors import Unreachable
from tests.workflows.voting import CONTAIN, FALSE, decide, held, refused
from tests.workflows.world import ANALYST, LEAD, ON_CALL, TIERS, Scene, alert, policy

QUICK = tuple(
    Tier(**{**dict(tier), "wait": timedelta(seconds=wait)}) for tier, wait in zip(TIERS, (1, 60, 60), strict=True)
)


def telling(**changes: Any) -> CasePolicy:
    return policy(**{"tell_answered": True, "on_unanswered": OnUnanswered.HOLD, **changes})


def text(mail: Any) -> str:
    return " ".join(mail.text.split())


async def test_whoever_was_asked_before_hears_who_answered(scene: Scene) -> None:
    started = await held(scene, telling(tiers=QUICK))
    await scene.until(started, lambda s: s["question"]["tier"] == "on-call")
    await scene.mailed(3)
    await decide(scene, started, {**FALSE, "analyst": ON_CALL})
    await scene.end(started)
    told = [mail for mail in scene.world.mails if "is answered" in mail.text]
    assert [mail.recipients for mail in told] == [("soc@acme.example",)]
    assert f"{ON_CALL} answered false_positive at 20" in text(told[0])
    assert "the nightly backup" in text(told[0])


async def test_nobody_is_told_of_an_answer_that_their_own_tier_gave(scene: Scene) -> None:
    started = await held(scene, telling())
    await decide(scene, started, FALSE)
    await scene.end(started)
    assert len(scene.world.mails) == 1


async def test_an_answer_before_ones_turn_is_told_to_those_whose_turn_it_was(scene: Scene) -> None:
    started = await held(scene, telling())
    await decide(scene, started, {**FALSE, "analyst": LEAD})
    await scene.end(started)
    assert [mail.recipients for mail in scene.world.mails] == [("soc@acme.example",)] * 2


@pytest.mark.parametrize("way", ["update", "signal"])
async def test_dissent_is_kept_and_told_to_the_lead_once_an_analyst(scene: Scene, way: str) -> None:
    started = await held(scene, telling())
    scene.world.gates["quarantine"] = gate = asyncio.Event()
    await decide(scene, started, CONTAIN)
    await scene.until(started, lambda s: s["stage"] == "containing")
    for reason in ("it is the backup", "once more"):
        answer = {**FALSE, "analyst": ON_CALL, "reason": reason}
        if way == "update":
            why = await refused(scene, started, answer)
            assert "no question stands: contain by ana@acme.example at 20" in why
            assert "kept as dissent" in why
            assert ("last tier is told" in why) is (reason == "it is the backup")
        else:
            await scene.handle(started).signal("analyst_decision", answer)
    await scene.until(started, lambda s: len(s["dissent"]) == 2)
    await scene.mailed(2)
    gate.set()
    final = await scene.end(started)
    assert final["outcome"] == "contained"
    assert [(d["analyst"], d["told"]) for d in final["dissent"]] == [(ON_CALL, True), (ON_CALL, False)]
    mail = scene.world.mails[1]
    assert mail.recipients == (LEAD,)
    assert "contain was decided by ana@acme.example at 20" in text(mail)
    assert "oncall@acme.example disagrees and says false_positive: it is the backup" in text(mail)
    assert len(scene.world.mails) == 2


async def test_two_answers_at_once_after_the_worker_was_away(scene: Scene) -> None:
    started = await held(scene, telling())
    handle = scene.handle(started)
    await asyncio.gather(
        handle.signal("analyst_decision", FALSE),
        handle.signal("analyst_decision", {**CONTAIN, "analyst": ON_CALL}),
    )
    final = await scene.end(started)
    winner = final["decision"]["analyst"]
    assert [d["analyst"] for d in final["dissent"]] == [ON_CALL if winner == ANALYST else ANALYST]
    assert [mail.recipients for mail in scene.world.mails if "disagrees" in mail.text] == [(LEAD,)]


@pytest.mark.parametrize(
    "answer",
    [
        {**CONTAIN, "analyst": ON_CALL},
        {**FALSE, "analyst": "mallory@acme.example"},
        {**FALSE, "analyst": "boss@acme.example"},
    ],
)
async def test_who_agrees_or_has_no_say_is_no_dissenter(scene: Scene, answer: dict[str, Any]) -> None:
    started = await held(scene, telling())
    scene.world.gates["quarantine"] = gate = asyncio.Event()
    await decide(scene, started, CONTAIN)
    await scene.until(started, lambda s: s["stage"] == "containing")
    assert "dissent" not in await refused(scene, started, answer)
    await scene.handle(started).signal("analyst_decision", answer)
    await scene.until(started, lambda s: s["dissent"])
    gate.set()
    final = await scene.end(started)
    assert [d["told"] for d in final["dissent"]] == [False]
    assert len(scene.world.mails) == 1


async def test_dissent_at_the_very_end_is_told_before_the_case_is_gone(scene: Scene) -> None:
    started = await held(scene, telling())
    scene.world.gates["comment"] = gate = asyncio.Event()
    scene.world.gates["send"] = sending = asyncio.Event()
    await decide(scene, started, FALSE)
    await scene.handle(started).signal("analyst_decision", {**CONTAIN, "analyst": ON_CALL})
    await scene.until(started, lambda s: s["dissent"])
    gate.set()
    sending.set()
    await scene.end(started)
    assert [mail.recipients for mail in scene.world.mails if "disagrees" in mail.text] == [(LEAD,)]


async def test_to_look_is_not_to_answer(scene: Scene) -> None:
    started = await held(scene, telling())
    handle = scene.handle(started)
    question = (await handle.query("status"))["question"]["id"]
    for _ in range(3):
        await handle.signal("seen", {"question": question, "analyst": ANALYST})
    await handle.signal("seen", {"question": question, "analyst": LEAD.upper()})
    await handle.signal("seen", {"question": question, "analyst": "mallory@acme.example"})
    await handle.signal("seen", {"question": "HP-00000000-Q9", "analyst": ON_CALL})
    shapes: tuple[Any, ...] = (None, 7, [], {}, "x", {"question": 7, "analyst": []})
    for shape in shapes:
        await handle.signal("seen", shape)
    await handle.signal("seen")
    await handle.signal("seen", args=[{"question": question, "analyst": ON_CALL}, 2])
    state = await scene.until(started, lambda s: len(s["question"]["seen"]) == 3)
    assert [seen["analyst"] for seen in state["question"]["seen"]] == [ANALYST, LEAD, ON_CALL]
    assert state["stage"] == "awaiting_decision"
    assert (await handle.query("timeline")).count("has opened") == 3
    await decide(scene, started, FALSE)
    await scene.end(started)


async def test_a_mail_server_that_is_down_keeps_no_case_open_for_hours(fast: Scene) -> None:
    day = tuple(Tier(**{**dict(tier), "wait": timedelta(days=1)}) for tier in TIERS)
    started = await held(fast, telling(tiers=day))
    fast.world.always["send"] = Unreachable("the relay is down")
    await decide(fast, started, {**FALSE, "analyst": LEAD})
    final = await fast.end(started)
    closed = (await fast.handle(started).describe()).close_time
    assert closed is not None
    assert closed - datetime.fromisoformat(final["decision"]["at"]) < timedelta(minutes=15)


async def test_an_old_case_tells_nobody(scene: Scene) -> None:
    started = await held(scene, policy(on_unanswered=OnUnanswered.HOLD))
    scene.world.gates["comment"] = gate = asyncio.Event()
    await decide(scene, started, {**FALSE, "analyst": LEAD})
    assert "dissent" not in await refused(scene, started, CONTAIN)
    await scene.handle(started).signal("analyst_decision", CONTAIN)
    gate.set()
    await scene.end(started)
    assert len(scene.world.mails) == 1


async def test_all_of_it_in_one_case_that_begins_its_history_anew(fast: Scene) -> None:
    steering = policy(
        tell_answered=True,
        renew_questions=True,
        ask_directory=True,
        recheck_every=timedelta(minutes=10),
        on_unanswered=OnUnanswered.HOLD,
        tiers=(Tier(**{**dict(TIERS[0]), "wait": timedelta(days=7)}), *TIERS[1:]),
    )
    fast.world.sightings = 0
    started = await fast.start(alert(), steering)
    await fast.mailed(1)
    fast.world.score = 90.0
    latest = fast.client.get_workflow_handle(started.case_id)
    async with asyncio.timeout(30):
        while (await latest.describe()).run_id == started.run_id:
            await asyncio.sleep(0.02)
        state = await latest.query("status")
    assert state["question"]["id"].endswith("-Q2")
    assert [s["changes"] for s in state["superseded"]] == [["risk: medium -> high"]]
    await latest.signal("seen", {"question": state["question"]["id"], "analyst": ANALYST})
    with pytest.raises(WorkflowUpdateFailedError):
        await latest.execute_update("decide", {**CONTAIN, "question": state["superseded"][0]["question"]})
    await latest.execute_update("decide", {**CONTAIN, "question": state["question"]["id"]})
    final = await fast.end(started)
    assert final["outcome"] == "contained"
