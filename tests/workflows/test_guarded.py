"""What stands before a write: modes, the ledger, two approvers; and how far a write has come."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from incident.policy import Approval, CasePolicy, GuardrailPolicy, Mode, OnUnanswered, Tier
from incident.requests import Reservation
from incident.triage import ActionName
from integrations.errors import Misconfigured, NotInForce, Unreachable
from starter import Started
from tests.workflows.world import ANALYST, LEAD, ON_CALL, TIERS, Scene, alert, policy

CONTAIN = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
NO = {"decision": "false_positive", "analyst": ANALYST, "reason": "the nightly backup"}
FROZEN = Reservation(granted=False, frozen=True, reason="frozen by lead@acme.example: drill")
USED_UP = Reservation(granted=False, reason="100 of 100 automatic containments within the hour are used up")


def guarded(**guardrails: Any) -> CasePolicy:
    return policy(guardrails=GuardrailPolicy(**guardrails))


def states(status: dict[str, Any]) -> dict[str, str]:
    return {action["action"]: action["state"] for action in status["actions"]}


async def decide(scene: Scene, started: Started, answer: dict[str, Any]) -> dict[str, Any]:
    receipt: dict[str, Any] = await scene.handle(started).execute_update("decide", answer)
    return receipt


async def refused(scene: Scene, started: Started, answer: dict[str, Any]) -> str:
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await decide(scene, started, answer)
    assert isinstance(caught.value.cause, ApplicationError)
    return caught.value.cause.message


async def asked(scene: Scene, started: Started) -> dict[str, Any]:
    state = await scene.until(started, lambda status: status["question"])
    question: dict[str, Any] = state["question"]
    return question


async def test_observe_writes_down_and_touches_nothing(scene: Scene) -> None:
    final = await scene.run(alert(), guarded(mode=Mode.OBSERVE, ledger=True))
    assert final["outcome"] == "observed"
    assert states(final) == {"quarantine_host": "observed", "disable_account": "observed"}
    assert scene.world.writes == []
    assert scene.world.mails == []
    assert scene.world.reserved == []
    (ticket,) = scene.world.tickets.values()
    assert "observe mode, nothing was touched" in ticket.description


async def test_observe_holds_for_an_answer_too(scene: Scene) -> None:
    scene.world.sightings = 0
    started = await scene.start(alert(), guarded(mode=Mode.OBSERVE))
    await scene.mailed(1)
    assert "write down, and not do" in scene.world.mails[0].text
    await decide(scene, started, CONTAIN)
    final = await scene.end(started)
    assert final["outcome"] == "observed"
    assert scene.world.writes == []


@pytest.mark.parametrize("mode", [Mode.RECOMMEND, Mode.ASK])
async def test_a_mode_that_asks_does_what_was_answered(scene: Scene, mode: Mode) -> None:
    started = await scene.start(alert(), guarded(mode=mode))
    question = await asked(scene, started)
    assert f"in {mode} mode" in question["why"]
    assert scene.world.writes == []
    await decide(scene, started, CONTAIN)
    final = await scene.end(started)
    assert final["outcome"] == "contained"
    assert final["decision"]["by"] == "analyst"


async def test_each_action_has_its_own_mode(scene: Scene) -> None:
    steering = guarded(modes={ActionName.QUARANTINE_HOST: Mode.ASK})
    started = await scene.start(alert(), steering)
    question = await asked(scene, started)
    assert question["actions"] == ["quarantine_host"]
    assert scene.world.writes == ["disable"]
    await decide(scene, started, NO)
    final = await scene.end(started)
    assert states(final) == {"quarantine_host": "left_alone", "disable_account": "verified"}
    assert final["outcome"] == "partially_contained"


async def test_two_people_of_two_tiers_approve_what_is_protected(scene: Scene) -> None:
    steering = guarded(protected_accounts=("jdoe",), protected_approval=Approval.TWO_TIERS)
    started = await scene.start(alert(), steering)
    await scene.mailed(1)
    assert scene.world.writes == ["quarantine"]
    receipt = await decide(scene, started, CONTAIN)
    assert "another tier" in receipt["waits_for"]
    assert scene.world.writes == ["quarantine"]
    assert "approved" in await refused(scene, started, {**CONTAIN, "reason": "again"})
    await scene.mailed(3)
    assert {mail.recipients for mail in scene.world.mails[1:]} == {(ON_CALL,), (LEAD,)}
    assert all("another tier" in mail.text for mail in scene.world.mails[1:])

    assert "waits_for" not in await decide(scene, started, {**CONTAIN, "analyst": ON_CALL})
    final = await scene.end(started)
    assert final["outcome"] == "contained"
    assert next(a for a in final["actions"] if a["action"] == "disable_account")["approvals"] == [ANALYST, ON_CALL]


async def test_one_word_against_is_enough(scene: Scene) -> None:
    steering = guarded(protected_accounts=("jdoe",), protected_approval=Approval.TWO_TIERS)
    started = await scene.start(alert(), steering)
    await asked(scene, started)
    await decide(scene, started, CONTAIN)
    await decide(scene, started, {**NO, "analyst": LEAD})
    final = await scene.end(started)
    assert states(final) == {"quarantine_host": "verified", "disable_account": "left_alone"}
    assert scene.world.writes == ["quarantine"]


async def test_nothing_is_done_on_one_approval_when_nobody_else_answers(scene: Scene) -> None:
    steering = policy(
        guardrails=GuardrailPolicy(protected_accounts=("jdoe",), protected_approval=Approval.TWO_TIERS),
        tiers=tuple(Tier(**{**dict(tier), "wait": timedelta(seconds=2)}) for tier in TIERS),
        on_unanswered=OnUnanswered.CONTAIN,
    )
    started = await scene.start(alert(), steering)
    await asked(scene, started)
    await decide(scene, started, CONTAIN)
    final = await scene.end(started)
    assert states(final)["disable_account"] == "left_alone"
    assert scene.world.writes == ["quarantine"]


@pytest.mark.parametrize("only", ["one tier", "never"])
async def test_what_nobody_can_approve_is_left_for_hands(scene: Scene, only: str) -> None:
    approval = Approval.NEVER if only == "never" else Approval.TWO_TIERS
    steering = policy(
        guardrails=GuardrailPolicy(protected_accounts=("jdoe",), protected_approval=approval), tiers=TIERS[:1]
    )
    final = await scene.run(alert(), steering)
    assert final["outcome"] == "partially_contained"
    assert states(final) == {"quarantine_host": "verified", "disable_account": "left_alone"}
    assert "protected accounts" in " ".join(scene.world.mails[-1].text.split())
    assert scene.world.writes == ["quarantine"]


async def test_what_nobody_can_approve_and_is_all_there_is(scene: Scene) -> None:
    scene.world.score = 0.01
    final = await scene.run(alert(), guarded(protected_accounts=("jdoe",), protected_approval=Approval.NEVER))
    assert final["outcome"] == "containment_failed"
    assert len(scene.world.tickets) == 1
    assert scene.world.writes == []


async def test_a_limit_that_is_used_up_asks_and_an_approval_passes_it(scene: Scene) -> None:
    scene.world.reservation = USED_UP
    started = await scene.start(alert(), guarded(ledger=True))
    question = await asked(scene, started)
    assert "used up" in question["why"]
    assert question["actions"] == ["quarantine_host", "disable_account"]
    assert scene.world.writes == []
    await decide(scene, started, CONTAIN)
    final = await scene.end(started)
    assert final["outcome"] == "contained"
    assert [(r.automatic, len(r.actions)) for r in scene.world.reserved] == [(True, 2), (False, 2)]
    assert len({r.key for r in scene.world.reserved}) == 2


async def test_a_freeze_holds_approved_writes_too(scene: Scene) -> None:
    scene.world.reservation = FROZEN
    started = await scene.start(alert(), guarded(ledger=True))
    first = await asked(scene, started)
    await decide(scene, started, CONTAIN)
    state = await scene.until(started, lambda s: s["question"] and s["question"]["id"] != first["id"])
    assert "frozen by lead@acme.example" in state["question"]["why"]
    assert scene.world.writes == []
    scene.world.reservation = Reservation(granted=True)
    await decide(scene, started, CONTAIN)
    assert (await scene.end(started))["outcome"] == "contained"


async def test_a_default_does_nothing_while_frozen(fast: Scene) -> None:
    fast.world.reservation = FROZEN
    steering = policy(guardrails=GuardrailPolicy(ledger=True), on_unanswered=OnUnanswered.CONTAIN)
    final = await fast.run(alert(), steering)
    assert final["outcome"] == "unanswered"
    assert fast.world.writes == []


async def test_a_ledger_that_does_not_answer_means_ask(fast: Scene) -> None:
    fast.world.always["reserve"] = RuntimeError("no ledger")
    final = await fast.run(alert(), guarded(ledger=True))
    assert final["outcome"] == "unanswered"
    assert all("does not answer" in action["detail"] for action in final["actions"])
    assert fast.world.writes == []


async def test_a_host_that_is_offline_stays_pending_while_the_rest_goes_on(scene: Scene) -> None:
    scene.world.online = False
    started = await scene.start(alert(), policy(settle_within=timedelta(seconds=1)))
    state = await scene.until(started, lambda s: s["ticket"])
    assert states(state) == {"quarantine_host": "accepted", "disable_account": "verified"}
    pending = next(a for a in state["actions"] if a["action"] == "quarantine_host")
    assert pending["pending_until"]
    (ticket,) = scene.world.tickets.values()
    assert "looked for until" in ticket.description
    scene.world.online = True
    final = await scene.end(started)
    assert final["outcome"] == "contained"
    assert "quarantine host FIN-LT-042: verified" in scene.world.notes[-1]


async def test_a_host_that_stays_offline_has_its_own_deadline(fast: Scene) -> None:
    fast.world.online = False
    final = await fast.run(alert(), policy(settle_within=timedelta(seconds=30)))
    assert final["outcome"] == "partially_contained"
    assert states(final) == {"quarantine_host": "unreachable", "disable_account": "verified"}
    assert "left for hands" in fast.world.notes[-1]
    assert "Left for hands" in fast.world.mails[-1].text


@pytest.mark.parametrize(
    ("fault", "state", "outcome"),
    [
        (None, "verified", "contained"),
        (Misconfigured("dc2: certificate"), "in_force", "contained"),
        (Unreachable("dc2: refused"), "in_force", "contained"),
        (NotInForce("dc2 shows it enabled"), "partial", "partially_contained"),
    ],
)
async def test_another_server_has_its_word(fast: Scene, fault: Any, state: str, outcome: str) -> None:
    fast.world.others = 1
    if fault:
        fast.world.always["confirm_elsewhere"] = fault
    final = await fast.run(alert())
    assert states(final)["disable_account"] == state
    assert final["outcome"] == outcome
    if fault:
        assert str(fault) in next(a["detail"] for a in final["actions"] if a["action"] == "disable_account")


async def test_sign_ins_are_revoked_after_the_account_is_disabled(scene: Scene) -> None:
    final = await scene.run(alert(), policy(revoke_sign_ins=True))
    assert scene.world.sign_ins == ["jdoe@corp.example"]
    account = next(a for a in final["actions"] if a["action"] == "disable_account")
    assert (account["state"], account["sign_ins"]) == ("verified", "revoked")
    assert scene.world.calls.index("revoke_sign_ins") > scene.world.calls.index("read_back_account")


async def test_sign_ins_that_could_not_be_revoked_are_told(fast: Scene) -> None:
    fast.world.always["revoke_sign_ins"] = RuntimeError("Entra is down")
    final = await fast.run(alert(), policy(revoke_sign_ins=True))
    account = next(a for a in final["actions"] if a["action"] == "disable_account")
    assert account["state"] == "verified"
    assert account["sign_ins"].startswith("not revoked")
    assert "not revoked" in next(iter(fast.world.tickets.values())).description
