"""A question whose facts have changed is void: what is refused then, what stands, and what asks nothing anew."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from incident.evidence import Group
from incident.policy import Approval, CasePolicy, GuardrailPolicy, OnUnanswered
from integrations.errors import Rejected
from starter import Started
from tests.workflows.world import ANALYST, LEAD, ON_CALL, Scene, alert, policy

CONTAIN = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
FALSE = {"decision": "false_positive", "analyst": ANALYST, "reason": "the nightly backup"}
SOON = timedelta(milliseconds=300)
ASMITH = {"account": "asmith", "dn": "CN=Ann Smith,OU=Staff,DC=corp,DC=example", "guid": None, "mails": (), "upn": None}


def renewing(**changes: Any) -> CasePolicy:
    return policy(**{"renew_questions": True, "recheck_every": SOON, "on_unanswered": OnUnanswered.HOLD, **changes})


async def held(scene: Scene, steering: CasePolicy) -> tuple[Started, dict[str, Any]]:
    scene.world.sightings = 0
    started = await scene.start(alert(), steering)
    await scene.mailed(1)
    state = await scene.until(started, lambda s: s["question"] and s["question"]["asked"])
    return started, state["question"]


async def refused(scene: Scene, started: Started, answer: Any) -> str:
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await scene.handle(started).execute_update("decide", answer)
    assert isinstance(caught.value.cause, ApplicationError)
    return caught.value.cause.message


async def renewed(scene: Scene, started: Started, old: dict[str, Any]) -> dict[str, Any]:
    state = await scene.until(started, lambda s: s["question"] and s["question"]["id"] != old["id"])
    question: dict[str, Any] = state["question"]
    return question


async def looked(scene: Scene, times: int = 2) -> None:
    """Wait until the case has looked again so often."""
    before = scene.world.calls.count("corroboration")
    async with asyncio.timeout(20):
        while scene.world.calls.count("corroboration") < before + times:
            await asyncio.sleep(0.02)


async def test_another_user_voids_the_question(scene: Scene) -> None:
    started, old = await held(scene, renewing())
    scene.world.account = "asmith"
    scene.world.person = scene.world.person.model_copy(update=ASMITH)
    new = await renewed(scene, started, old)
    assert new["id"].endswith("-Q2")
    assert new["digest"] != old["digest"]
    assert (new["tier"], new["due_at"]) == (old["tier"], old["due_at"])
    await scene.mailed(2)
    assert "user: jdoe -> asmith" in scene.world.mails[1].text.replace("\n", " ")
    assert scene.world.mails[1].recipients == ("soc@acme.example",)

    for stale in ({"question": old["id"]}, {"digest": old["digest"]}, {"question": new["id"], "digest": old["digest"]}):
        why = await refused(scene, started, {**CONTAIN, **stale})
        assert "user: jdoe -> asmith" in why
        assert f"{new['id']} stands" in why
    assert "another state" in await refused(scene, started, {**CONTAIN, "digest": "0" * 64})
    state = await scene.handle(started).query("status")
    assert [s["question"] for s in state["superseded"]] == [old["id"]]
    assert state["superseded"][0]["changes"] == ["user: jdoe -> asmith"]
    assert scene.world.writes == []
    await scene.handle(started).execute_update("decide", {**CONTAIN, "question": new["id"], "digest": new["digest"]})
    final = await scene.end(started)
    assert final["decision"]["question"] == new["id"]
    assert next(a["target"] for a in final["actions"] if a["action"] == "disable_account") == "asmith"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"score": None}, None),
        ({"score": 0.01}, "risk: medium -> low"),
        ({"score": 90.0}, "risk: medium -> high"),
        ({"host": "FIN-LT-077"}, "host: FIN-LT-042"),
        ({"account": None}, "user: jdoe -> unknown"),
        ({"agent": "aid-2"}, "endpoint agent: aid-1 -> aid-2"),
        ({"score": 51.0}, None),
        ({"host": "fin-lt-042.corp.example"}, None),
    ],
)
async def test_what_voids_it_and_what_does_not(scene: Scene, change: dict[str, Any], told: str | None) -> None:
    started, old = await held(scene, renewing())
    for name, value in change.items():
        setattr(scene.world, name, value)
    await looked(scene)
    state = await scene.until(started, lambda s: s["question"] and (told is None or s["question"]["id"] != old["id"]))
    assert (state["question"]["id"] == old["id"]) is (told is None)
    if told:
        assert told in "; ".join(state["superseded"][0]["changes"])
    await scene.handle(started).execute_update("decide", FALSE)
    assert (await scene.end(started))["outcome"] == "false_positive"


async def test_an_outage_voids_nothing(scene: Scene) -> None:
    started, old = await held(scene, renewing())
    for step in ("locate", "find_person", "find_device", "risk", "corroboration"):
        scene.world.always[step] = Rejected("down")
    await looked(scene, 3)
    state = await scene.handle(started).query("status")
    assert state["question"]["id"] == old["id"]
    assert state["user"]["value"] == "jdoe"
    assert len(scene.world.mails) == 1
    await scene.handle(started).execute_update("decide", FALSE)
    await scene.end(started)


async def test_what_was_known_of_somebody_else_is_not_known_of_this_one(scene: Scene) -> None:
    started, old = await held(scene, renewing())
    scene.world.always["risk"] = scene.world.always["corroboration"] = Rejected("down")
    scene.world.account = "asmith"
    scene.world.person = scene.world.person.model_copy(update=ASMITH)
    new = await renewed(scene, started, old)
    state = await scene.handle(started).query("status")
    changes = "; ".join(change for void in state["superseded"] for change in void["changes"])
    assert "user: jdoe -> asmith" in changes
    assert "risk: medium -> unknown" in changes
    assert "further alerts or events: no -> unknown" in changes
    assert state["risk"]["known"] is False
    await scene.handle(started).execute_update("decide", {**FALSE, "question": new["id"]})
    await scene.end(started)


async def test_an_answer_without_a_question_counts_as_ever(scene: Scene) -> None:
    started, old = await held(scene, renewing())
    scene.world.score = 90.0
    await renewed(scene, started, old)
    await scene.handle(started).execute_update("decide", CONTAIN)
    assert (await scene.end(started))["outcome"] == "contained"


async def test_an_answer_during_a_look_is_about_what_was_asked(scene: Scene) -> None:
    started, _ = await held(scene, renewing())
    scene.world.account = "asmith"
    scene.world.person = scene.world.person.model_copy(update=ASMITH)
    scene.world.gates["corroboration"] = gate = asyncio.Event()
    await looked(scene, 1)
    await scene.handle(started).execute_update("decide", CONTAIN)
    gate.set()
    final = await scene.end(started)
    assert next(a["target"] for a in final["actions"] if a["action"] == "disable_account") == "jdoe"
    assert final["superseded"] == []


async def test_a_flood_of_alerts_that_changes_nothing_asks_nothing(scene: Scene) -> None:
    scene.world.sightings = 0
    first = alert()
    started = await scene.start(first, renewing(recheck_every=timedelta(days=1)))
    await scene.mailed(1)
    old = (await scene.until(started, lambda s: s["question"]))["question"]
    before = scene.world.calls.count("corroboration")
    for number in range(20):
        await scene.start(alert(id=f"SNX-{number}", destination_ip=first.destination_ip))
    state = await scene.until(
        started, lambda s: len(s["alerts"]) == 21 and scene.world.calls.count("corroboration") > before + 1
    )
    assert state["question"]["id"] == old["id"]
    assert len(scene.world.mails) == 1
    await scene.handle(started).execute_update("decide", FALSE)
    await scene.end(started)


async def test_an_alert_that_joins_while_the_protected_is_asked_about_is_told_to_the_ticket(scene: Scene) -> None:
    first = alert()
    steering = renewing(guardrails=GuardrailPolicy(protected_accounts=("jdoe",)), recheck_every=timedelta(days=1))
    started = await scene.start(first, steering)
    await scene.until(started, lambda s: s["question"] and s["question"]["asked"])
    later = alert(destination_ip=first.destination_ip)
    before = scene.world.calls.count("corroboration")
    await scene.start(later)
    async with asyncio.timeout(20):
        while scene.world.calls.count("corroboration") == before:
            await asyncio.sleep(0.02)
    await scene.handle(started).execute_update("decide", CONTAIN)
    await scene.end(started)
    assert any(f"Joined since: {later.id}" in note for note in scene.world.notes)


async def test_a_row_that_no_longer_holds_withdraws_it_as_ever(scene: Scene) -> None:
    started, _ = await held(scene, renewing())
    scene.world.sightings = 2
    final = await scene.end(started)
    assert (final["outcome"], final["decision"]["by"], final["superseded"]) == ("contained", "table", [])


@pytest.mark.parametrize("answer", [CONTAIN, FALSE])
async def test_the_question_about_what_is_protected_is_void_too(scene: Scene, answer: dict[str, Any]) -> None:
    guardrails = GuardrailPolicy(protected_accounts=("jdoe", "asmith"), protected_approval=Approval.TWO_TIERS)
    started = await scene.start(alert(), renewing(guardrails=guardrails))
    await scene.mailed(1)
    old = (await scene.until(started, lambda s: s["question"] and s["question"]["asked"]))["question"]
    await scene.handle(started).execute_update("decide", CONTAIN)
    await scene.mailed(3)
    scene.world.account = "asmith"
    scene.world.person = scene.world.person.model_copy(update=ASMITH)
    new = await renewed(scene, started, old)
    assert (new["actions"], new["protected"], new["quorum"], new["approvals"]) == (["disable_account"], True, 2, [])
    assert "asmith" in new["why"]
    await scene.mailed(6)
    assert {mail.recipients for mail in scene.world.mails[3:6]} == {("soc@acme.example",), (ON_CALL,), (LEAD,)}
    assert "void" in await refused(scene, started, {**CONTAIN, "analyst": LEAD, "question": old["id"]})
    assert scene.world.writes == ["quarantine"]
    await scene.handle(started).execute_update("decide", answer)
    if answer is CONTAIN:
        await scene.handle(started).execute_update("decide", {**answer, "analyst": LEAD})
    final = await scene.end(started)
    assert scene.world.writes == (["quarantine", "disable"] if answer is CONTAIN else ["quarantine"])
    assert next(a["target"] for a in final["actions"] if a["action"] == "quarantine_host") == "FIN-LT-042"


async def test_a_verdict_of_the_guardrails_voids_it(scene: Scene) -> None:
    started, old = await held(scene, renewing())
    scene.world.person = scene.world.person.model_copy(
        update={"groups": (Group(name="Domain Admins", sid="S-1-5-21-1-2-3-512"),)}
    )
    await renewed(scene, started, old)
    state = await scene.handle(started).query("status")
    assert state["superseded"][0]["changes"] == ["guardrails on disable_account: allow -> ask (protected)"]
    await scene.handle(started).execute_update("decide", FALSE)
    await scene.end(started)


async def test_it_shortens_and_prolongs_no_wait(fast: Scene) -> None:
    fast.world.sightings = 0
    steering = renewing(recheck_every=timedelta(minutes=7), on_unanswered=OnUnanswered.CLOSE)
    started = await fast.start(alert(), steering)
    await fast.mailed(1)
    fast.world.score = 90.0
    final = await fast.end(started)
    assert final["outcome"] == "unanswered"
    assert len(final["superseded"]) == 1
    assert final["decision"]["question"].endswith("-Q2")
    opened, decided = (final["priority_history"][0]["at"], final["decision"]["at"])
    waited = datetime.fromisoformat(decided) - datetime.fromisoformat(opened)
    assert timedelta(hours=1) <= waited < timedelta(hours=1, minutes=1)


async def test_an_old_case_asks_once(scene: Scene) -> None:
    started, old = await held(scene, policy(recheck_every=SOON, on_unanswered=OnUnanswered.HOLD))
    scene.world.score = 90.0
    scene.world.account = "asmith"
    state = await scene.until(started, lambda s: s["risk"]["value"] == "high")
    assert state["question"]["id"] == old["id"]
    assert state["superseded"] == []
    await scene.handle(started).execute_update("decide", FALSE)
    await scene.end(started)
