"""Integrations down, candidates in pairs, guardrails, and answers lost on the way."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from incident.evidence import Group
from incident.policy import GuardrailPolicy, Mode, OnUnanswered
from integrations.errors import Ambiguous, BadAnswer, Busy, Misconfigured, NotFound, Refused, Unreachable
from tests.workflows.world import ANALYST, Scene, alert, policy

CONTAIN = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
SHORT = {"enrich_within": timedelta(seconds=2), "contain_within": timedelta(seconds=2)}


@pytest.mark.parametrize(
    "failure", [Unreachable("down"), Busy("429"), BadAnswer("html"), Misconfigured("401"), Refused("403")]
)
@pytest.mark.parametrize("step", ["locate", "find_person", "risk", "corroboration"])
async def test_an_integration_down_means_unknown_and_ask(scene: Scene, step: str, failure: Exception) -> None:
    scene.world.always[step] = failure
    started = await scene.start(alert(), policy(enrich_within=timedelta(milliseconds=900)))
    await scene.mailed(1)
    state = await scene.until(started, lambda s: s["question"])
    known = {name: state[name]["known"] for name in ("host", "user", "risk", "corroboration")}
    assert not all(known.values())
    assert str(failure) in str(state)
    assert scene.world.writes == []
    await scene.handle(started).execute_update("decide", {**CONTAIN, "decision": "false_positive"})
    assert (await scene.end(started))["outcome"] == "false_positive"


async def test_two_agents_do_the_possible_half(scene: Scene) -> None:
    scene.world.always["find_device"] = Ambiguous("two agents report FIN-LT-042")
    final = await scene.run(alert())
    assert final["outcome"] == "partially_contained"
    assert scene.world.writes == ["disable"]
    states = {a["action"]: (a["state"], a["detail"]) for a in final["actions"]}
    assert states["disable_account"][0] == "verified"
    assert states["quarantine_host"][0] == "failed"
    assert "two agents" in states["quarantine_host"][1]
    assert "Left for hands" in scene.world.mails[-1].text


async def test_an_offline_host_is_told_and_left(fast: Scene) -> None:
    fast.world.online = False
    final = await fast.run(alert(), policy(verify_within=timedelta(minutes=5)))
    assert final["outcome"] == "partially_contained"
    states = {a["action"]: a["state"] for a in final["actions"]}
    assert states == {"quarantine_host": "unreachable", "disable_account": "verified"}


async def test_writes_that_fail_for_good(scene: Scene) -> None:
    scene.world.always["disable"] = Refused("the directory answered 50: the account lacks the right")
    scene.world.always["quarantine"] = Refused("403")
    final = await scene.run(alert(), policy(**SHORT, verify_within=timedelta(seconds=1)))
    assert final["outcome"] == "containment_failed"
    assert len(scene.world.tickets) == 1


async def test_an_answer_lost_after_the_write_is_found_by_the_read_back(scene: Scene) -> None:
    real = scene.world.disable

    def lost(account: object) -> None:
        real(account)
        raise Unreachable("the answer was lost")

    scene.world.disable = lost  # type: ignore[assignment,method-assign]
    scene.world.always["disable"] = Unreachable("down")
    scene.world.disabled = True
    final = await scene.run(alert(), policy(**SHORT))
    states = {a["action"]: a["state"] for a in final["actions"]}
    assert states["disable_account"] == "verified"
    assert final["outcome"] == "contained"


async def test_a_write_repeated_after_a_lost_answer_keeps_the_state_before(scene: Scene) -> None:
    scene.world.failures["disable"] = [Unreachable("the answer was lost")]
    scene.world.disabled = True
    final = await scene.run(alert())
    disabled = next(a for a in final["actions"] if a["action"] == "disable_account")
    assert disabled["before"] == {"userAccountControl": "512"}
    assert disabled["changed"] is True


async def test_ticket_system_down_for_good(fast: Scene) -> None:
    fast.world.always["open_ticket"] = Unreachable("ServiceNow cannot be reached")
    final = await fast.run(alert(), policy(ticket_within=timedelta(minutes=10)))
    assert final["outcome"] == "contained"
    assert final["ticket"]["state"] == "failed"
    assert "ticket could not be opened" in fast.world.mails[-1].text


@pytest.mark.parametrize("approve", [True, False])
async def test_a_protected_account_is_asked_about_alone(scene: Scene, approve: bool) -> None:
    admins = (Group(name="Domain Admins", sid="S-1-5-21-1-2-3-512"),)
    scene.world.person = scene.world.person.model_copy(update={"groups": admins})
    started = await scene.start(alert())
    await scene.mailed(1)
    state = await scene.until(started, lambda s: s["question"])
    assert scene.world.writes == ["quarantine"]
    assert state["question"]["actions"] == ["disable_account"]
    assert "Domain Admins" in state["question"]["why"]
    assert len(scene.world.tickets) == 1
    await scene.handle(started).execute_update(
        "decide", CONTAIN if approve else {**CONTAIN, "decision": "false_positive"}
    )
    final = await scene.end(started)
    assert final["outcome"] == ("contained" if approve else "partially_contained")
    assert scene.world.writes == (["quarantine", "disable"] if approve else ["quarantine"])


async def test_a_default_never_contains_what_is_protected(fast: Scene) -> None:
    guardrails = GuardrailPolicy(protected_accounts=("jd*",))
    final = await fast.run(alert(), policy(guardrails=guardrails, on_unanswered=OnUnanswered.CONTAIN))
    assert fast.world.writes == ["quarantine"]
    assert final["outcome"] == "partially_contained"


async def test_mode_ask_asks_before_every_write(scene: Scene) -> None:
    started = await scene.start(alert(), policy(guardrails=GuardrailPolicy(mode=Mode.ASK)))
    await scene.mailed(1)
    assert scene.world.writes == []
    await scene.handle(started).execute_update("decide", CONTAIN)
    assert (await scene.end(started))["outcome"] == "contained"
    assert len(scene.world.tickets) == 1


async def test_risk_raises_the_priority_before_corroboration_answers(scene: Scene) -> None:
    scene.world.gates["corroboration"] = gate = asyncio.Event()
    started = await scene.start(alert())
    state = await scene.until(started, lambda s: s["priority"] == "high")
    assert state["corroboration"]["known"] is False
    gate.set()
    assert (await scene.end(started))["priority"] == "critical"


async def test_an_alert_naming_the_user_and_another_host(scene: Scene) -> None:
    final = await scene.run(alert(user_account="CORP\\jdoe", destination_host="fin-lt-042.corp.example"))
    assert final["outcome"] == "contained"
    started = await scene.start(alert(destination_host="OTHER-01"))
    state = await scene.until(started, lambda s: s["outcome"])
    assert state["host"]["candidates"] == ["OTHER-01", "FIN-LT-042"]
    assert state["outcome"] == "partially_contained"


async def test_a_bare_alert_from_the_cli_takes_the_workers_settings(scene: Scene) -> None:
    given = alert()
    handle = await scene.client.start_workflow(
        "SuspiciousUserActivity", given.model_dump(mode="json"), id=given.case_id, task_queue=scene.queue
    )
    assert (await handle.result())["outcome"] == "contained"


async def test_nobody_known_and_an_analyst_who_contains_anyway(scene: Scene) -> None:
    scene.world.always["locate"] = NotFound("nothing")
    started = await scene.start(alert())
    await scene.mailed(1)
    await scene.handle(started).execute_update("decide", CONTAIN)
    final = await scene.end(started)
    assert final["outcome"] == "containment_failed"
    assert scene.world.writes == []
    assert len(scene.world.tickets) == 1


async def test_a_protected_account_that_is_all_there_is_to_do(scene: Scene) -> None:
    scene.world.score = 0.01
    steering = policy(guardrails=GuardrailPolicy(protected_accounts=("jdoe",)))
    started = await scene.start(alert(), steering)
    await scene.mailed(1)
    assert scene.world.tickets == {}
    await scene.handle(started).execute_update("decide", {**CONTAIN, "decision": "false_positive"})
    final = await scene.end(started)
    assert final["outcome"] == "false_positive"
    assert scene.world.writes == []
    assert scene.world.tickets == {}
    assert len(scene.world.comments) == 1


async def test_a_ticket_system_that_is_down_keeps_no_question_back(scene: Scene) -> None:
    scene.world.gates["open_ticket"] = gate = asyncio.Event()
    started = await scene.start(alert(), policy(guardrails=GuardrailPolicy(protected_accounts=("jdoe",))))
    await scene.mailed(1)
    await scene.handle(started).execute_update("decide", CONTAIN)
    await scene.until(started, lambda s: all(a["state"] == "verified" for a in s["actions"]))
    assert scene.world.tickets == {}
    gate.set()
    assert (await scene.end(started))["outcome"] == "contained"
    assert len(scene.world.tickets) == 1


async def test_a_mail_server_that_is_down_keeps_no_containment_back(scene: Scene) -> None:
    scene.world.sightings = 0
    first = alert()
    started = await scene.start(first)
    await scene.mailed(1)
    scene.world.gates["send"] = gate = asyncio.Event()
    scene.world.sightings = 1
    await scene.start(alert(destination_ip=first.destination_ip))
    await scene.until(started, lambda s: len(s["actions"]) == 2 and all(a["state"] == "verified" for a in s["actions"]))
    gate.set()
    assert (await scene.end(started))["outcome"] == "contained"


async def test_an_alert_that_joins_a_duplicates_short_run_is_not_lost(scene: Scene) -> None:
    first = alert()
    assert (await scene.run(first))["outcome"] == "contained"
    scene.world.gates["locate"] = gate = asyncio.Event()
    handle = await scene.client.start_workflow(
        "SuspiciousUserActivity",
        {"alert": first.model_dump(mode="json"), "policy": policy().model_dump(mode="json")},
        id=first.case_id,
        task_queue=scene.queue,
        start_signal="alert",
        start_signal_args=[(second := alert(destination_ip=first.destination_ip)).model_dump(mode="json")],
    )
    gate.set()
    final = await handle.result()
    assert final["outcome"] == "contained"
    assert final["alerts"] == [first.id, second.id]


@pytest.mark.parametrize("given", [[], [None], [{}], ["alert"], [{"alert": 7}], [{"alert": {}, "policy": {}}]])
async def test_a_start_that_is_none_fails_at_once_and_leaves_the_host_free(scene: Scene, given: list[object]) -> None:
    real = alert()
    handle = await scene.client.start_workflow(
        "SuspiciousUserActivity", args=given, id=real.case_id, task_queue=scene.queue
    )
    with pytest.raises(WorkflowFailureError) as caught:
        async with asyncio.timeout(20):
            await handle.result()
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == "AlertRefused"
    assert (await scene.run(real))["outcome"] == "contained"
