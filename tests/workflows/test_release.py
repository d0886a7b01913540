"""Undoing what a case contained: exactly that, once, told, and only on the word of somebody who may decide."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import pytest
from temporalio.client import WithStartWorkflowOperation, WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.common import WorkflowIDConflictPolicy

from incident.evidence import Group
from incident.policy import OnUnanswered
from incident.release import Containment
from incident.release_record import ReleaseInput
from integrations.errors import Ambiguous, NotFound, Refused, Unreachable
from starter import CaseRefused, Started, release_case, released
from tests.workflows.world import ANALYST, LEAD, Scene, alert, policy

CONTAIN = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
ADMINS = (Group(name="Domain Admins", sid="S-1-5-21-1-2-3-512"),)


async def asked(scene: Scene, case_id: str, **changes: Any) -> dict[str, Any]:
    given = {"analyst": ANALYST, "reason": "he had a ticket for it", "task_queue": scene.queue, **changes}
    return await release_case(scene.client, case_id, **given)


async def release(scene: Scene, case_id: str, **changes: Any) -> dict[str, Any]:
    async with asyncio.timeout(30):
        return await released(scene.client, await asked(scene, case_id, **changes))


async def contained(scene: Scene, **changes: Any) -> Started:
    started = await scene.start(alert(), policy(**changes))
    await scene.end(started)
    return started


async def held(scene: Scene, answer: dict[str, Any] | None = None, **changes: Any) -> Started:
    scene.world.sightings = 0
    started = await scene.start(alert(), policy(**changes))
    if answer:
        await scene.until(started, lambda s: s["question"])
        await scene.handle(started).execute_update("decide", answer)
    await scene.end(started)
    return started


def states(told: dict[str, Any]) -> dict[str, str]:
    return {undo["action"]: undo["state"] for undo in told["actions"]}


BOTH = {"quarantine_host": "verified", "disable_account": "verified"}


async def _critical(scene: Scene) -> tuple[Started, dict[str, str]]:
    return await contained(scene), BOTH


async def _low(scene: Scene) -> tuple[Started, dict[str, str]]:
    scene.world.score = 0.01
    return await contained(scene), {"disable_account": "verified"}


async def _narrowed(scene: Scene) -> tuple[Started, dict[str, str]]:
    return await held(scene, {**CONTAIN, "actions": ["quarantine_host"]}), {"quarantine_host": "verified"}


async def _unknown_risk(scene: Scene) -> tuple[Started, dict[str, str]]:
    scene.world.score = None
    return await held(scene, CONTAIN), BOTH


async def _protected(scene: Scene) -> tuple[Started, dict[str, str]]:
    scene.world.person = scene.world.person.model_copy(update={"groups": ADMINS})
    started = await scene.start(alert(), policy())
    await scene.until(started, lambda s: s["question"])
    await scene.handle(started).execute_update("decide", CONTAIN)
    await scene.end(started)
    return started, BOTH


@pytest.mark.parametrize("row", [_critical, _low, _narrowed, _unknown_risk, _protected], ids=lambda row: row.__name__)
async def test_undo_after_each_row(scene: Scene, row: Any) -> None:
    started, wanted = await row(scene)
    world = scene.world
    assert (world.contained, world.disabled) == ("quarantine_host" in wanted, "disable_account" in wanted)
    told = await release(scene, started.case_id)
    assert (told["outcome"], states(told)) == ("released", wanted)
    assert (told["by"], told["reason"], told["run_id"]) == (ANALYST, "he had a ticket for it", started.run_id)
    assert (world.contained, world.disabled) == (False, False)
    assert len([write for write in world.writes if write in ("enable", "lift")]) == len(wanted)
    (note,) = [note for note in world.notes if "Release by" in note]
    assert ANALYST in note
    assert "he had a ticket for it" in note
    assert note.count("verified") == len(wanted)


async def test_undo_after_the_declared_default(fast: Scene) -> None:
    started = await held(fast, on_unanswered=OnUnanswered.DISABLE_ACCOUNT)
    assert fast.world.writes == ["disable"]
    told = await release(fast, started.case_id)
    assert (told["outcome"], states(told)) == ("released", {"disable_account": "verified"})
    assert fast.world.writes == ["disable", "enable"]


async def test_a_case_that_touched_nothing_has_nothing_to_release(scene: Scene) -> None:
    started = await held(scene, {**CONTAIN, "decision": "false_positive"})
    told = await release(scene, started.case_id)
    assert (told["outcome"], told["actions"]) == ("nothing_to_release", [])
    assert scene.world.writes == []


async def test_twice_gives_the_same_receipt_and_no_second_write(scene: Scene) -> None:
    started = await contained(scene)
    first = await asked(scene, started.case_id)
    done = await released(scene.client, first)
    scene.world.disabled = True  # somebody disables the account again, which is none of our business
    again = await asked(scene, started.case_id, analyst=LEAD, reason="me too")
    assert again == first
    assert await released(scene.client, again) == done
    notes, third = list(scene.world.notes), await asked(scene, started.case_id)
    assert third == first
    assert scene.world.writes.count("enable") == scene.world.writes.count("lift") == 1
    assert scene.world.notes == notes
    assert scene.world.disabled


async def test_two_at_once_write_once(scene: Scene) -> None:
    started = await contained(scene)
    scene.world.gates["lift"] = gate = asyncio.Event()
    one, other = await asyncio.gather(
        asked(scene, started.case_id), asked(scene, started.case_id, analyst=LEAD, reason="me too")
    )
    assert one == other
    gate.set()
    assert (await released(scene.client, one))["outcome"] == "released"
    assert sorted(scene.world.writes[2:]) == ["enable", "lift"]


async def test_narrowed_first_and_then_the_rest(scene: Scene) -> None:
    started = await contained(scene)
    told = await release(scene, started.case_id, actions=["Disable_Account"])
    assert (told["outcome"], states(told)) == ("released", {"disable_account": "verified"})
    assert scene.world.contained
    told = await release(scene, started.case_id)
    assert (told["outcome"], states(told)) == ("released", BOTH)
    assert scene.world.writes[2:] == ["enable", "lift"]


async def test_what_was_so_before_the_case_is_left_alone(scene: Scene) -> None:
    scene.world.disabled = True
    started = await contained(scene)
    told = await release(scene, started.case_id)
    by_action = {undo["action"]: undo for undo in told["actions"]}
    assert (told["outcome"], by_action["quarantine_host"]["state"]) == ("released", "verified")
    assert (by_action["disable_account"]["state"], by_action["disable_account"]["why"]) == ("left_alone", "not_ours")
    assert "it was so before this case" in by_action["disable_account"]["detail"]
    assert scene.world.disabled


async def test_what_somebody_else_has_undone_is_left_alone(scene: Scene) -> None:
    started = await contained(scene)
    scene.world.disabled = False
    told = await release(scene, started.case_id)
    by_action = {undo["action"]: undo for undo in told["actions"]}
    assert (by_action["disable_account"]["state"], by_action["disable_account"]["why"]) == ("left_alone", "undone")
    assert "somebody else has undone it already" in by_action["disable_account"]["detail"]
    assert told["outcome"] == "released"
    assert "enable" not in scene.world.writes


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"before": None}, "the state before is not known: nothing is changed"),
        ({"before": {}}, "the state before is not known: nothing is changed"),
        ({"before": {"userAccountControl": "what"}}, "the state before is not known: nothing is changed"),
        ({"before": {"userAccountControl": "0"}}, "the state before is not known: nothing is changed"),
        ({"account": None}, "the state before is not known: nothing is changed"),
        ({"changed": False, "state": "failed"}, "the state before is not known: nothing is changed"),
        ({"changed": False}, "whose change it was is not known: nothing is changed"),
        ({"before": {"userAccountControl": "514"}}, "it was so before this case"),
        ({"before": {"userAccountControl": "66050"}}, "it was so before this case"),
    ],
)
async def test_without_the_state_before_nothing_is_changed_and_it_is_said(
    scene: Scene, change: dict[str, Any], why: str
) -> None:
    scene.world.score = 0.01
    started = await contained(scene)
    status = await scene.handle(started).query("status")
    status["actions"] = [{**action, **change} for action in status["actions"]]
    known = Containment.of(status, policy(), run_id=started.run_id, key="hp-0123456789", open=False)
    await scene.client.start_workflow(
        "ReleaseContainment",
        ReleaseInput(case_id=started.case_id, containment=known),
        id=f"release-{started.case_id}",
        task_queue=scene.queue,
    )
    told = await release(scene, started.case_id)
    assert (told["outcome"], states(told)) == ("nothing_to_release", {"disable_account": "left_alone"})
    assert told["actions"][0]["detail"] == why
    assert why in scene.world.notes[-1]
    assert scene.world.writes == ["disable"]


async def test_an_account_that_is_gone_or_another_is_left_alone(scene: Scene) -> None:
    started = await contained(scene)
    scene.world.always["enable"] = NotFound("jdoe is gone or is another object now")
    scene.world.always["lift"] = Ambiguous("agent aid-1 is another host now; not touched")
    told = await release(scene, started.case_id)
    assert {undo["state"] for undo in told["actions"]} == {"left_alone"}
    assert {undo["why"] for undo in told["actions"]} == {"gone"}
    assert told["outcome"] == "nothing_to_release"
    assert "is gone or is another object now" in scene.world.notes[-1]
    assert len(scene.world.mails) == 1, "what needs hands is told to the tier"


async def test_a_write_that_fails_for_a_while_converges(scene: Scene) -> None:
    started = await contained(scene)
    scene.world.failures["enable"] = [Unreachable("no answer"), Unreachable("no answer")]
    scene.world.failures["read_back_account"] = [Unreachable("no answer")]
    told = await release(scene, started.case_id)
    assert (told["outcome"], states(told)) == ("released", BOTH)


async def test_a_write_that_fails_for_good_is_told_and_can_be_asked_for_again(scene: Scene) -> None:
    started = await contained(scene, verify_within=timedelta(seconds=2))
    scene.world.always["enable"] = Refused("the account lacks the right")
    first = await asked(scene, started.case_id)
    told = await released(scene.client, first)
    assert told["outcome"] == "partially_released"
    assert states(told) == {"quarantine_host": "verified", "disable_account": "failed"}
    assert "lacks the right" in scene.world.notes[-1]
    (mail,) = scene.world.mails
    assert "lacks the right" in mail.text
    assert "FIN-LT-042" not in mail.subject
    del scene.world.always["enable"]
    second = await asked(scene, started.case_id)
    assert second != first
    told = await released(scene.client, second)
    assert (told["outcome"], states(told)) == ("released", BOTH)
    assert scene.world.writes.count("lift") == 1


async def test_a_lost_answer_is_found_by_the_read_back(scene: Scene) -> None:
    """The write had its effect, and its answer was lost until the budget was over."""
    scene.world.score = 0.01
    started = await contained(scene)
    scene.world.always["enable"] = Refused("a proxy said no, after the fact")
    scene.world.disabled = False
    told = await release(scene, started.case_id)
    assert (told["outcome"], states(told)) == ("released", {"disable_account": "verified"})


async def test_a_pending_quarantine_of_an_offline_host_is_withdrawn(scene: Scene) -> None:
    scene.world.online = False
    started = await contained(scene, verify_within=timedelta(seconds=2))
    scene.world.online = True
    told = await release(scene, started.case_id)
    assert (told["outcome"], states(told)) == ("released", BOTH)
    assert not scene.world.contained


async def test_a_host_that_stays_offline_is_told(scene: Scene) -> None:
    started = await contained(scene, verify_within=timedelta(seconds=2))
    scene.world.online = False
    told = await release(scene, started.case_id)
    assert states(told) == {"quarantine_host": "unreachable", "disable_account": "verified"}
    assert told["outcome"] == "partially_released"
    assert len(scene.world.mails) == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"analyst": "mallory@acme.example"}, "not named as an analyst"),
        ({"analyst": "john.doe@acme.example"}, "not named as an analyst"),
        ({"actions": ["burn"]}, "must be among"),
        ({"analyst": " "}, "analyst: is missing"),
        ({"reason": "\n\t"}, "reason: is missing"),
    ],
)
async def test_who_and_what_does_not_count_is_refused(scene: Scene, changes: dict[str, Any], why: str) -> None:
    started = await contained(scene)
    with pytest.raises((CaseRefused, ValueError), match=why):
        await asked(scene, started.case_id, **changes)
    assert sorted(scene.world.writes) == ["disable", "quarantine"]


async def test_the_suspect_and_their_reporting_line_do_not_release(scene: Scene) -> None:
    tiers = policy().tiers
    suspects = ("JOHN.DOE@acme.example", "boss@acme.example", "jdoe@corp.example")
    tiers = (tiers[0].model_copy(update={"analysts": (ANALYST, *suspects)}), *tiers[1:])
    started = await contained(scene, tiers=tiers)
    for suspect in suspects:
        with pytest.raises(CaseRefused, match="the suspect and their reporting line do not decide"):
            await asked(scene, started.case_id, analyst=suspect)
    assert scene.world.disabled
    handle = scene.client.get_workflow_handle(f"release-{started.case_id}")
    assert (await handle.result())["outcome"] == "refused"
    assert (await release(scene, started.case_id))["outcome"] == "released"


async def test_a_case_that_is_not_there_is_refused_in_words(scene: Scene) -> None:
    with pytest.raises(CaseRefused, match=r"there is no case sua-acme-192\.0\.2\.9"):
        await asked(scene, "sua-acme-192.0.2.9")
    started = await contained(scene)
    with pytest.raises(CaseRefused, match="there is no run"):
        await asked(scene, started.case_id, run_id=str(uuid.uuid4()))
    await release(scene, started.case_id)
    with pytest.raises(CaseRefused, match="is no case"):
        await asked(scene, f"release-{started.case_id}")


async def test_a_case_that_is_still_containing_is_asked_again_later(scene: Scene) -> None:
    scene.world.gates["quarantine"] = gate = asyncio.Event()
    started = await scene.start(alert(), policy())
    await scene.until(started, lambda s: s["stage"] == "containing" and scene.world.disabled)
    told = await release(scene, started.case_id)
    assert told["outcome"] == "nothing_to_release"
    assert {undo["detail"] for undo in told["actions"]} == {"being carried out: try again"}
    gate.set()
    assert (await scene.end(started))["outcome"] == "contained"
    assert (await release(scene, started.case_id))["outcome"] == "released"


async def test_the_half_that_is_done_is_released_while_the_case_asks_about_the_other(scene: Scene) -> None:
    scene.world.person = scene.world.person.model_copy(update={"groups": ADMINS})
    started = await scene.start(alert(), policy())
    await scene.until(started, lambda s: s["question"] and s["ticket"])
    told = await release(scene, started.case_id)
    assert (told["outcome"], states(told)["quarantine_host"]) == ("released", "verified")
    assert not scene.world.contained
    await scene.handle(started).execute_update("decide", {**CONTAIN, "decision": "false_positive"})
    await scene.end(started)


async def test_a_later_run_that_is_at_work_keeps_what_stands(scene: Scene) -> None:
    scene.world.score, given = 0.01, alert()
    first = await scene.start(given, policy())
    await scene.end(first)
    scene.world.gates["corroboration"] = gate = asyncio.Event()
    second = await scene.start(given.model_copy(update={"id": "SNX-2"}), policy())
    await scene.until(second, lambda s: s["stage"] == "triaging")
    told = await release(scene, given.case_id)
    assert told["run_id"] == first.run_id
    assert {undo["why"] for undo in told["actions"]} == {"wanted"}
    assert second.run_id in told["actions"][0]["detail"]
    gate.set()
    await scene.end(second)
    told = await release(scene, given.case_id)
    assert (told["run_id"], told["outcome"]) == (first.run_id, "released")


async def test_a_ticket_that_takes_no_note_is_replaced_by_a_mail(scene: Scene) -> None:
    started = await contained(scene, ticket_within=timedelta(seconds=1))
    scene.world.always["add_note"] = Refused("no right to annotate")
    told = await release(scene, started.case_id)
    assert told["outcome"] == "released"
    (mail,) = scene.world.mails
    assert "he had a ticket for it" in mail.text
    assert mail.recipients == ("soc@acme.example",)


async def test_ended_sign_ins_are_said_to_stay_ended(scene: Scene) -> None:
    started = await contained(scene, revoke_sign_ins=True)
    await release(scene, started.case_id)
    assert "sign-ins that were ended stay ended" in scene.world.notes[-1]


async def test_hostile_text_stays_text(scene: Scene) -> None:
    scene.world.host = "x\x1b[31m<script>`{{7*7}}`"
    started = await contained(scene)
    reason = "fine\x1b[2J\r\nBcc: eve@evil.example <b>&`x`\u202e"
    told = await release(scene, started.case_id, reason=reason)
    assert "\x1b" not in told["reason"]
    assert "\n" not in told["reason"]
    assert "\u202e" not in told["reason"]
    assert "\x1b" not in scene.world.notes[-1]
    handle = scene.client.get_workflow_handle(f"release-{started.case_id}")
    assert "\x1b" not in await handle.query("timeline")
    details = await handle.query("__temporal_workflow_metadata")
    assert "<script>" not in details.current_details


async def test_the_ui_shows_who_released_what_and_why(scene: Scene) -> None:
    started = await contained(scene)
    await release(scene, started.case_id)
    run = await scene.client.get_workflow_handle(f"release-{started.case_id}").describe()
    told = {pair.key.name: pair.value for pair in run.typed_search_attributes}
    assert told["IncidentOutcome"] == "released"
    assert told["IncidentStage"] == "closed"
    assert (told["AffectedUser"], told["AffectedHost"]) == ("jdoe", "FIN-LT-042")
    assert await run.static_summary() == f"Release of {started.case_id}"


@pytest.mark.parametrize(
    ("workflow_id", "given"),
    [("elsewhere", None), ("release-x", {"case_id": "y"}), ("release-x", 7), ("release-x", {"lease": "soon"})],
)
async def test_an_input_that_is_none_fails_once(scene: Scene, workflow_id: str, given: Any) -> None:
    unique = f"{workflow_id}-{uuid.uuid4()}"
    with pytest.raises(WorkflowFailureError):
        await scene.client.execute_workflow("ReleaseContainment", given, id=unique, task_queue=scene.queue)


async def test_nobody_asks(fast: Scene) -> None:
    started = await contained(fast)
    told = await fast.client.execute_workflow(
        "ReleaseContainment", id=f"release-{started.case_id}", task_queue=fast.queue
    )
    assert told["outcome"] == "nothing_to_release"
    assert fast.world.disabled


async def test_a_malformed_request_is_refused_before_it_is_kept(scene: Scene) -> None:
    started = await contained(scene)
    start: Any = WithStartWorkflowOperation(
        "ReleaseContainment",
        id=f"release-{started.case_id}",
        task_queue=scene.queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )
    with pytest.raises(WorkflowUpdateFailedError):
        await scene.client.execute_update_with_start_workflow("release", "all of it", start_workflow_operation=start)
    await scene.client.get_workflow_handle(f"release-{started.case_id}").terminate()
    assert scene.world.disabled
