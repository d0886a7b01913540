"""A containment with a lease: near its end somebody decides, and nothing is released or kept for ever without that."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowHandle, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

import cases
from activities.directory import DirectoryActivities
from activities.endpoint import EndpointActivities
from incident.release import Containment
from incident.release_record import ReleaseInput
from incident.requests import AccountRef, DeviceRef, EnableAccount, LiftQuarantine, ReadBack
from starter import CaseRefused, Started, release_case, released, renew_lease
from tests.workflows.world import ANALYST, LEAD, ON_CALL, Scene, World, alert, policy, working

SOON = timedelta(seconds=1)
LONG = timedelta(days=30)
WHY = {"analyst": ANALYST, "reason": "the machine was rebuilt"}


def lease_of(scene: Scene, started: Started) -> WorkflowHandle[Any, Any]:
    return scene.client.get_workflow_handle(f"release-{started.case_id}")


async def until(handle: WorkflowHandle[Any, Any], condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            state: dict[str, Any] = await handle.query("status")
            if condition(state):
                return state
            await asyncio.sleep(0.05)


async def leased(scene: Scene, lease: timedelta = SOON, **changes: Any) -> tuple[Started, WorkflowHandle[Any, Any]]:
    started = await scene.start(alert(), policy(lease=lease, **changes))
    state = await scene.end(started)
    assert state["outcome"] == "contained"
    return started, lease_of(scene, started)


def asked(state: dict[str, Any]) -> Any:
    return state["question"] and state["question"]["asked"]


async def ended(handle: WorkflowHandle[Any, Any]) -> dict[str, Any]:
    async with asyncio.timeout(30):
        told: dict[str, Any] = await handle.result()
    return told


async def test_it_sleeps_and_then_asks_and_release_is_the_answer(scene: Scene) -> None:
    _, handle = await leased(scene)
    state = await until(handle, asked)
    assert state["stage"] == "awaiting_decision"
    assert state["question"].keys() >= {"id", "due_at", "tier", "asked"}
    assert state["question"]["tier"] == "analyst"
    (mail,) = scene.world.mails
    assert mail.subject.startswith("[Holdpoint HP-")
    assert "Decision needed" in mail.subject
    for secret in ("jdoe", "FIN-LT-042", "Large data"):
        assert secret not in mail.subject
    for words in ("jdoe since", "FIN-LT-042 since", "starter.py release", "starter.py renew", "--name decide"):
        assert words in mail.text
    found = await scene.client.get_workflow_handle(handle.id).describe()
    attributes = {pair.key.name: pair.value for pair in found.typed_search_attributes}
    assert attributes["IncidentStage"] == "awaiting_decision"
    assert attributes["DecisionDueAt"] == datetime.fromisoformat(state["question"]["due_at"]).replace(
        microsecond=attributes["DecisionDueAt"].microsecond
    )
    receipt = await handle.execute_update("decide", {"decision": "Release", **WHY, "question": state["question"]["id"]})
    assert (receipt["decision"], receipt["question"]) == ("release", state["question"]["id"])
    told = await ended(handle)
    assert (told["outcome"], told["by"], told["reason"]) == ("released", ANALYST, WHY["reason"])
    assert (scene.world.disabled, scene.world.contained) == (False, False)
    assert "Release by" in scene.world.notes[-1]


async def test_renew_is_another_lease_told_in_the_ticket_and_then_it_asks_again(scene: Scene) -> None:
    started, handle = await leased(scene)
    first = (await until(handle, asked))["question"]["id"]
    receipt = await renew_lease(scene.client, started.case_id, **WHY, question=first)
    assert receipt["decision"] == "renew"
    again = await until(handle, lambda s: asked(s) and s["question"]["id"] != first)
    assert (again["renewals"], again["renewed_by"]) == (1, ANALYST)
    assert scene.world.disabled
    assert any("Renewed until" in note and WHY["reason"] in note for note in scene.world.notes)
    await handle.signal("analyst_decision", {"decision": "release", **WHY})
    assert (await ended(handle))["outcome"] == "released"
    assert scene.world.writes.count("enable") == 1


async def test_a_release_during_the_lease_is_done_at_once(scene: Scene) -> None:
    started, handle = await leased(scene, LONG)
    await until(handle, lambda s: s["stage"] == "leased")
    receipt = await release_case(scene.client, started.case_id, **WHY, task_queue=scene.queue)
    told = await released(scene.client, receipt)
    assert told["outcome"] == "released"
    assert receipt["release_run_id"] == (await handle.describe()).run_id
    assert scene.world.mails == []
    again = await release_case(scene.client, started.case_id, **WHY, task_queue=scene.queue)
    assert again == receipt


async def test_a_release_of_one_half_leaves_the_other_leased(scene: Scene) -> None:
    started, handle = await leased(scene, LONG)
    half = await release_case(scene.client, started.case_id, **WHY, actions=["disable_account"], task_queue=scene.queue)
    told = await released(scene.client, half)
    assert (told["stage"], told["outcome"]) == ("leased", None)
    assert (scene.world.disabled, scene.world.contained) == (False, True)
    rest = await release_case(scene.client, started.case_id, **WHY, task_queue=scene.queue)
    assert (await released(scene.client, rest))["outcome"] == "released"
    assert not scene.world.contained
    assert (await handle.describe()).run_id == rest["release_run_id"]


async def test_a_release_while_the_question_stands_answers_it(scene: Scene) -> None:
    started, handle = await leased(scene)
    await until(handle, asked)
    receipt = await release_case(scene.client, started.case_id, **WHY, task_queue=scene.queue)
    assert (await released(scene.client, receipt))["outcome"] == "released"
    assert (await ended(handle))["question"] is None


async def test_nobody_answers_and_nothing_is_released_or_forgotten(fast: Scene) -> None:
    """Each tier's wait passes at once here; the asking goes on over several histories, and no state grows with it."""
    _, handle = await leased(fast, LONG)
    first = (await handle.describe()).run_id
    await fast.mailed(40)
    for _ in range(200):
        if (await handle.describe()).run_id != first:
            break
        await fast.mailed(len(fast.world.mails) + 5)
    assert (await handle.describe()).run_id != first
    recipients = [mail.recipients[0] for mail in fast.world.mails]
    assert recipients[:6] == ["soc@acme.example"] * 2 + [ON_CALL] * 2 + [LEAD] * 2
    assert set(recipients[6:]) == {LEAD}
    assert (fast.world.disabled, fast.world.contained) == (True, True)
    assert sum("Nobody has answered whether" in note for note in fast.world.notes) >= 1
    async with asyncio.timeout(30):
        while True:
            try:
                await handle.execute_update("decide", {"decision": "release", **WHY, "analyst": LEAD})
            except (WorkflowUpdateFailedError, RPCError):  # its history has just begun anew
                await asyncio.sleep(0.05)
            else:
                break
    told = await ended(handle)
    assert (told["outcome"], told["by"]) == ("released", LEAD)
    assert (fast.world.disabled, fast.world.contained) == (False, False)


async def test_years_of_renewals(fast: Scene) -> None:
    started, handle = await leased(fast, LONG)
    runs: set[str | None] = set()
    while len(runs) < 3:
        runs.add((await handle.describe()).run_id)
        try:
            await renew_lease(fast.client, started.case_id, **WHY)
        except CaseRefused:
            await asyncio.sleep(0.02)
    state = await until(handle, asked)
    assert state["renewals"] > 10
    assert len(str(state)) < 20_000
    async with asyncio.timeout(30):
        while (await handle.describe()).close_time is None:
            try:
                await handle.execute_update("decide", {"decision": "release", **WHY})
            except (WorkflowUpdateFailedError, RPCError):
                await asyncio.sleep(0.05)
    assert not fast.world.disabled


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "malformed"),
        ({"decision": "keep", **WHY}, "must be one of release, renew"),
        ({"decision": "release", "analyst": ANALYST}, "reason: is missing"),
        ({"decision": "release", **WHY, "analyst": "mallory@acme.example"}, "not named as an analyst"),
        ({"decision": "release", **WHY, "question": "HP-0-L9"}, "was withdrawn or answered"),
    ],
)
async def test_what_does_not_count_changes_nothing(scene: Scene, answer: Any, why: str) -> None:
    _, handle = await leased(scene)
    await until(handle, asked)
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await handle.execute_update("decide", answer)
    assert isinstance(caught.value.cause, ApplicationError)
    assert why in caught.value.cause.message
    await handle.signal("analyst_decision", answer)
    await handle.signal("analyst_decision")
    await handle.signal("analyst-decision", answer)
    await handle.signal("contained", {"case_id": "x"})
    told = await handle.query("timeline")
    assert why in told
    assert "'analyst-decision'" in told
    assert scene.world.disabled
    await handle.terminate()


async def test_renewing_what_is_not_asked_or_not_there_is_refused(scene: Scene) -> None:
    with pytest.raises(CaseRefused, match="no lease runs"):
        await renew_lease(scene.client, "sua-acme-192.0.2.77", **WHY)
    started, handle = await leased(scene, LONG)
    with pytest.raises(CaseRefused, match="no question stands"):
        await renew_lease(scene.client, started.case_id, **WHY)
    await handle.terminate()


async def test_a_later_run_of_the_case_joins_the_lease_that_runs(scene: Scene) -> None:
    scene.world.score = 0.01
    given, steering = alert(), policy(lease=LONG)
    first = await scene.start(given, steering)
    await scene.end(first)
    handle = lease_of(scene, first)
    scene.world.score = 90.0  # now the host too; the account is disabled already, by the first run
    second = await scene.start(given.model_copy(update={"id": "SNX-2"}), steering)
    await scene.end(second)
    state = await until(handle, lambda s: s["run_id"] == second.run_id)
    assert state["stage"] == "leased"
    told = await released(scene.client, await release_case(scene.client, given.case_id, **WHY, task_queue=scene.queue))
    assert told["outcome"] == "released"
    assert {undo["action"]: undo["state"] for undo in told["actions"]} == {
        "disable_account": "verified",
        "quarantine_host": "verified",
    }


async def test_a_case_without_anything_of_ours_has_no_lease(scene: Scene) -> None:
    scene.world.score, scene.world.disabled = 0.01, True
    started = await scene.start(alert(), policy(lease=SOON))
    await scene.end(started)
    with pytest.raises(RPCError, match="not found"):
        await lease_of(scene, started).describe()


async def test_a_lease_outlives_the_history_of_its_case(scene: Scene) -> None:
    """What the case handed over is all that is needed; here there never was a case of that id."""
    started = await scene.start(alert(), policy())
    case_id = f"{started.case_id}-gone"
    status = {**await scene.end(started), "case_id": case_id}
    known = Containment.of(status, policy(), run_id=started.run_id, key="hp-0123456789", open=False)
    given = ReleaseInput(case_id=case_id, run_id=started.run_id, containment=known, lease=LONG)
    await scene.client.start_workflow("ReleaseContainment", given, id=f"release-{case_id}", task_queue=scene.queue)
    told = await released(scene.client, await release_case(scene.client, case_id, **WHY, task_queue=scene.queue))
    assert told["outcome"] == "released"
    assert not scene.world.disabled
    with pytest.raises(CaseRefused, match="Temporal keeps its history no longer"):
        await release_case(scene.client, case_id, **WHY, task_queue=scene.queue)


async def test_without_a_worker_it_is_said(dev_server: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "_LOOKS_UP", timedelta(seconds=1))
    with pytest.raises(CaseRefused, match="no worker answered"):
        await release_case(dev_server.client, "sua-acme-192.0.2.78", **WHY, task_queue="nobody-here")
    await dev_server.client.get_workflow_handle("release-sua-acme-192.0.2.78").terminate()


async def test_a_worker_that_dies_in_the_middle_changes_nothing_twice(dev_server: WorkflowEnvironment) -> None:
    world, queue = World(), f"q-{uuid.uuid4()}"
    scene = Scene(dev_server.client, world, queue)
    async with working(dev_server.client, world, queue):
        started = await scene.start(alert(), policy())
        await scene.end(started)
        world.gates["lift"] = asyncio.Event()
        receipt = await release_case(scene.client, started.case_id, **WHY, task_queue=queue)
        async with asyncio.timeout(20):
            while world.disabled or "lift" not in world.calls:
                await asyncio.sleep(0.02)
    del world.gates["lift"]
    async with working(dev_server.client, world, queue):
        told = await asyncio.wait_for(released(scene.client, receipt), 60)
    assert told["outcome"] == "released"
    assert sorted(world.writes[2:]) == ["enable", "lift"]


async def test_a_retry_that_finds_it_done_says_so() -> None:
    class Undone:
        enable = World().enable
        lift = World().lift

        def read_back(self, account: Any) -> ReadBack:
            return ReadBack(in_force=True)

    env = ActivityEnvironment()
    env.info = replace(env.info, attempt=2)
    account = AccountRef(dn="CN=x", guid=None, account="x")
    enable = EnableAccount(account=account, before={"userAccountControl": "512"})
    written = env.run(DirectoryActivities(Undone(), "AD").enable_account, enable)  # type: ignore[arg-type]
    assert (written.changed, "earlier attempt" in written.detail) == (True, True)
    lift = LiftQuarantine(device=DeviceRef(id="a", hostname="x"), before={"status": "normal"})
    endpoint = EndpointActivities(Undone(), "EDR")  # type: ignore[arg-type]
    written = await env.run(endpoint.lift_quarantine, lift)
    assert (written.changed, "earlier attempt" in written.detail) == (True, True)
    for status in ({}, {"status": "contained"}, {"status": "whatever"}):
        with pytest.raises(ApplicationError, match="left as it is"):
            await env.run(endpoint.lift_quarantine, lift.model_copy(update={"before": status}))
