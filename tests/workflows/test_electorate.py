"""Who may answer, by the directory: when the question is put, and again when it is answered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from cases import decide_case
from incident.policy import Approval, CasePolicy, GuardrailPolicy, OnUnanswered, Tier
from integrations.errors import Unreachable
from starter import CaseRefused, release_case, released
from tests.workflows.voting import CONTAIN, FALSE, decide, held, refused
from tests.workflows.world import ANALYST, LEAD, ON_CALL, TIERS, Scene, alert, policy

MEMBER = "mem@acme.example"
REPORTS = "those whom the person under suspicion manages do not decide"
GROUPED = (
    Tier(
        name="analyst",
        recipients=("soc@acme.example",),
        analysts=(),
        analysts_group="SOC-Analysts",
        wait=timedelta(minutes=30),
    ),
    *TIERS[1:],
)


def asking(**changes: Any) -> CasePolicy:
    return policy(**{"ask_directory": True, "on_unanswered": OnUnanswered.HOLD, **changes})


@contextmanager
def slow(scene: Scene) -> Iterator[threading.Event]:
    """The directory answers when the gate is set."""
    gate = scene.world.directory_gate = threading.Event()
    try:
        yield gate
    finally:
        gate.set()


async def asked_again(scene: Scene, times: int) -> None:
    async with asyncio.timeout(20):
        while len(scene.world.electorates) < times:
            await asyncio.sleep(0.02)


async def test_whom_the_directory_recuses_is_neither_asked_nor_heard(scene: Scene) -> None:
    scene.world.recused = {ON_CALL: REPORTS, "soc@acme.example": REPORTS}
    started = await held(scene, asking())
    assert [mail.recipients for mail in scene.world.mails] == [(LEAD,)]
    assert REPORTS in await refused(scene, started, {**CONTAIN, "analyst": ON_CALL.upper()})
    told = await scene.handle(started).query("timeline")
    assert f"{ON_CALL} ({REPORTS})" in told
    request = scene.world.electorates[0]
    assert request.suspect is not None
    assert (request.suspect.account, request.members_too) == ("jdoe", True)
    assert set(request.addresses) == {ANALYST, ON_CALL, LEAD, "soc@acme.example"}
    await decide(scene, started, {**CONTAIN, "analyst": LEAD})
    assert (await scene.end(started))["outcome"] == "contained"


@pytest.mark.parametrize("way", ["update", "signal"])
async def test_it_is_asked_again_when_somebody_answers(scene: Scene, way: str) -> None:
    started = await held(scene, asking())
    scene.world.recused = {ANALYST: REPORTS}
    if way == "update":
        assert REPORTS in await refused(scene, started, CONTAIN)
    else:
        await scene.handle(started).signal("analyst_decision", CONTAIN)
    state = await scene.until(started, lambda s: s["dissent"])
    assert REPORTS in state["dissent"][0]["why"]
    assert state["stage"] == "awaiting_decision"
    assert scene.world.electorates[-1].addresses == (ANALYST,)
    assert scene.world.electorates[-1].members_too is False
    # Nobody else has to wait for it, and whoever was recused is refused at once.
    assert REPORTS in await refused(scene, started, {**CONTAIN, "reason": "again"})
    await decide(scene, started, {**FALSE, "analyst": LEAD})
    assert (await scene.end(started))["outcome"] == "false_positive"


async def test_a_directory_that_is_down_leaves_what_is_known(scene: Scene) -> None:
    scene.world.recused = {ON_CALL: REPORTS}
    started = await held(scene, asking())
    scene.world.always["find_electorate"] = Unreachable("no directory server answers")
    scene.world.recused = {}
    assert REPORTS in await refused(scene, started, {**CONTAIN, "analyst": ON_CALL})
    await decide(scene, started, CONTAIN)
    told = await scene.handle(started).query("timeline")
    assert "who may answer stays as known at" in told
    assert "no directory server answers" in told
    await scene.end(started)


async def test_a_directory_that_never_answered_leaves_the_configured(scene: Scene) -> None:
    scene.world.always["find_electorate"] = Unreachable("no directory server answers")
    scene.world.sightings = 0
    steering = asking(tiers=(*TIERS[:2], Tier(**{**dict(GROUPED[0]), "name": "lead"})))
    started = await scene.start(alert(), steering)
    async with asyncio.timeout(40):
        while not scene.world.mails:
            await asyncio.sleep(0.05)
    why = await refused(scene, started, {**CONTAIN, "analyst": MEMBER})
    assert "not named as an analyst in any tier, and the group of lead could not be read" in why
    await decide(scene, started, CONTAIN)
    assert "stays as configured" in await scene.handle(started).query("timeline")
    await scene.end(started)


async def test_a_refusal_of_before_is_not_the_answer_of_now(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.world.always["find_electorate"] = Unreachable("no directory server answers")
    scene.world.sightings = 0
    started = await scene.start(alert(), asking(tiers=GROUPED))
    async with asyncio.timeout(40):
        while not scene.world.mails:
            await asyncio.sleep(0.05)
    answer = {**FALSE, "analyst": MEMBER}
    for _ in range(2):
        with pytest.raises(CaseRefused, match="could not be read"):
            await decide_case(scene.client, started.case_id, answer)
    assert len((await scene.handle(started).query("status"))["dissent"]) == 1
    del scene.world.always["find_electorate"]
    scene.world.groups = {"SOC-Analysts": (MEMBER,)}
    with pytest.raises(CaseRefused, match="could not be read"):
        await decide_case(scene.client, started.case_id, answer)
    monkeypatch.setattr("cases._OLD_REFUSAL", timedelta(0))
    assert (await decide_case(scene.client, started.case_id, answer))["analyst"] == MEMBER
    assert (await scene.end(started))["outcome"] == "false_positive"


async def test_a_group_is_a_tier(scene: Scene) -> None:
    scene.world.groups = {"SOC-Analysts": (MEMBER,)}
    started = await held(scene, asking(tiers=GROUPED))
    assert scene.world.mails[0].recipients == ("soc@acme.example",)
    assert "not named" in await refused(scene, started, CONTAIN)
    # Somebody who came to the group after the question was put.
    scene.world.groups = {"SOC-Analysts": (MEMBER, ANALYST)}
    await decide(scene, started, {**CONTAIN, "reason": "in the group now"})
    assert (await scene.end(started))["decision"]["analyst"] == ANALYST


async def test_a_group_may_release_what_no_person_decided(scene: Scene) -> None:
    scene.world.groups = {"SOC-Analysts": (MEMBER, "boss@acme.example", ON_CALL)}
    scene.world.recused = {ON_CALL: REPORTS}
    started = await scene.start(alert(), asking(tiers=GROUPED))
    final = await scene.end(started)
    assert (final["outcome"], final["decision"]["by"]) == ("contained", "table")
    for nobody, why in ((ANALYST, "not named"), ("boss@acme.example", "do not decide"), (ON_CALL, REPORTS)):
        with pytest.raises(CaseRefused, match=why):
            await release_case(scene.client, started.case_id, analyst=nobody, reason="over", task_queue=scene.queue)
    receipt = await release_case(scene.client, started.case_id, analyst=MEMBER, reason="over", task_queue=scene.queue)
    await released(scene.client, receipt)
    assert set(scene.world.writes[2:]) == {"enable", "lift"}


async def test_a_group_that_is_not_there_still_gets_its_mail(scene: Scene) -> None:
    started = await held(scene, asking(tiers=GROUPED))
    assert scene.world.mails[0].recipients == ("soc@acme.example",)
    await decide(scene, started, {**FALSE, "analyst": LEAD})
    await scene.end(started)


async def test_others_wait_while_an_answer_is_weighed_and_the_first_wins(scene: Scene) -> None:
    started = await held(scene, asking())
    with slow(scene) as gate:
        first = asyncio.create_task(decide(scene, started, CONTAIN))
        await asked_again(scene, 2)
        assert "of ana@acme.example is being weighed" in await refused(scene, started, {**FALSE, "analyst": LEAD})
        await scene.handle(started).signal("analyst_decision", {**FALSE, "analyst": LEAD})
        state = await scene.handle(started).query("status")
        assert (state["stage"], state["dissent"]) == ("awaiting_decision", [])
        gate.set()
        assert (await first)["decision"] == "contain"
    final = await scene.end(started)
    assert (final["outcome"], final["decision"]["analyst"]) == ("contained", ANALYST)
    assert [d["analyst"] for d in final["dissent"]] == [LEAD]
    assert "contain by ana@acme.example" in final["dissent"][0]["why"]


async def test_a_stranger_holds_nothing_up(scene: Scene) -> None:
    scene.world.groups = {"SOC-Analysts": (MEMBER,)}
    started = await held(scene, asking(tiers=GROUPED))
    with slow(scene) as gate:
        await scene.handle(started).signal("analyst_decision", {**CONTAIN, "analyst": "mallory@acme.example"})
        await asked_again(scene, 2)
        answering = asyncio.create_task(decide(scene, started, {**FALSE, "analyst": MEMBER}))
        await asked_again(scene, 3)
        gate.set()
        await answering
    assert (await scene.end(started))["outcome"] == "false_positive"


async def test_the_next_in_line_is_heard_when_the_first_is_refused(scene: Scene) -> None:
    started = await held(scene, asking())
    with slow(scene) as gate:
        await scene.handle(started).signal("analyst_decision", CONTAIN)
        await asked_again(scene, 2)
        await scene.handle(started).signal("analyst_decision", {**FALSE, "analyst": LEAD})
        await scene.until(started, lambda s: s["question"])
        scene.world.recused = {ANALYST: REPORTS}
        gate.set()
    final = await scene.end(started)
    assert (final["outcome"], final["decision"]["analyst"]) == ("false_positive", LEAD)
    assert scene.world.writes == []


async def test_an_answer_in_time_is_weighed_past_the_deadline(scene: Scene) -> None:
    tiers = (Tier(name="analyst", recipients=("soc@acme.example",), analysts=(ANALYST,), wait=timedelta(seconds=2)),)
    started = await held(scene, asking(tiers=tiers, on_unanswered=OnUnanswered.CONTAIN))
    with slow(scene) as gate:
        answering = asyncio.create_task(decide(scene, started, FALSE))
        await asked_again(scene, 2)
        await asyncio.sleep(2.5)
        gate.set()
        await answering
    final = await scene.end(started)
    assert (final["outcome"], final["decision"]["by"]) == ("false_positive", "analyst")


@pytest.mark.parametrize("answer", [FALSE, CONTAIN])
async def test_a_look_does_not_overtake_an_answer(scene: Scene, answer: dict[str, Any]) -> None:
    steering = asking(renew_questions=True, recheck_every=timedelta(milliseconds=300))
    started = await held(scene, steering)
    with slow(scene) as gate:
        answering = asyncio.create_task(decide(scene, started, answer))
        await asked_again(scene, 2)
        scene.world.sightings = 3
        scene.world.account = "asmith"
        other = {"account": "asmith", "guid": None, "dn": "CN=Ann Smith,DC=corp,DC=example"}
        scene.world.person = scene.world.person.model_copy(update=other)
        before = scene.world.calls.count("corroboration")
        async with asyncio.timeout(20):
            while scene.world.calls.count("corroboration") == before:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        gate.set()
        await answering
    final = await scene.end(started)
    assert final["decision"]["analyst"] == ANALYST
    assert final["superseded"] == []
    assert {a["target"] for a in final["actions"]} == ({"FIN-LT-042", "jdoe"} if answer is CONTAIN else set())


async def test_one_person_under_two_addresses_is_not_two_approvers(scene: Scene) -> None:
    scene.world.accounts = {ANALYST: "guid-1", ON_CALL: "guid-1"}
    guardrails = GuardrailPolicy(protected_accounts=("jdoe",), protected_approval=Approval.TWO_TIERS)
    started = await scene.start(alert(), asking(guardrails=guardrails))
    await scene.until(started, lambda s: s["question"] and s["question"]["asked"])
    assert "waits_for" in await decide(scene, started, CONTAIN)
    assert "approved" in await refused(scene, started, {**CONTAIN, "analyst": ON_CALL})
    assert scene.world.writes == ["quarantine"]
    assert "waits_for" not in await decide(scene, started, {**CONTAIN, "analyst": LEAD})
    assert (await scene.end(started))["outcome"] == "contained"


async def test_a_case_that_is_cancelled_while_an_answer_is_weighed(scene: Scene) -> None:
    started = await held(scene, asking())
    with slow(scene) as gate:
        answering = asyncio.create_task(refused(scene, started, CONTAIN))
        await asked_again(scene, 2)
        await scene.handle(started).cancel()
        await asyncio.sleep(0.3)
        gate.set()
        assert "no question stands" in await answering
    assert scene.world.writes == []


async def test_an_unknown_suspect_recuses_nobody_and_asks_nobody(scene: Scene) -> None:
    scene.world.account = None
    started = await held(scene, asking())
    await decide(scene, started, FALSE)
    assert scene.world.electorates == []
    await scene.end(started)


async def test_an_old_case_asks_no_directory(scene: Scene) -> None:
    started = await held(scene, policy())
    await decide(scene, started, FALSE)
    assert "find_electorate" not in scene.world.calls
    await scene.end(started)
