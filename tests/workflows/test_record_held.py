"""The records of real cases against Temporal's own histories: what is true agrees, and what is altered does not."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from temporalio.service import RPCError

from incident.policy import OnUnanswered
from incident.sealing import examine, seal
from integrations.errors import Rejected, Unreachable
from record_history import against_history
from starter import Started
from tests.replay.record import CONTAIN, PLAYS
from tests.workflows.world import ANALYST, Scene, alert, policy

KEY = "a key of the tests, long enough"
SETTLED = sorted(set(PLAYS) - {"resumed"})


async def exported(scene: Scene, started: Started) -> dict[str, Any]:
    """The record as of now, sealed, as it is read from a file."""
    told = await scene.client.get_workflow_handle(started.case_id).query("record")
    made: dict[str, Any] = json.loads(json.dumps(seal(told, KEY)))
    return made


async def agrees(scene: Scene, sealed: dict[str, Any]) -> None:
    assert examine(sealed, KEY).valid
    held = await against_history(scene.client, sealed)
    assert (held.findings, held.unchecked) == ((), ())
    assert held.vouched


@pytest.mark.parametrize("play", SETTLED)
async def test_the_record_of_a_case_agrees_with_its_history(scene: Scene, play: str) -> None:
    started = await PLAYS[play](scene, alert())
    await agrees(scene, await exported(scene, started))


async def test_the_record_of_a_case_whose_history_was_begun_anew(fast: Scene) -> None:
    fast.world.sightings = 0
    steering = policy(on_unanswered=OnUnanswered.HOLD, recheck_every=timedelta(minutes=10))
    started = await fast.start(alert(), steering)
    latest = fast.client.get_workflow_handle(started.case_id)
    async with asyncio.timeout(60):
        while (await latest.describe()).run_id == started.run_id:
            await asyncio.sleep(0.1)
        while True:
            try:
                await latest.execute_update("decide", CONTAIN)
                break
            except RPCError:  # its history has just begun anew
                await asyncio.sleep(0.05)
        await latest.result()
    sealed = await exported(fast, started)
    await agrees(fast, sealed)
    sealed["alerts"].append("SNX-FORGED")
    assert "alerts" in [found.where for found in (await against_history(fast.client, sealed)).findings]


async def test_writes_that_failed_and_facts_that_are_missing_are_no_forgery(scene: Scene) -> None:
    scene.world.always["quarantine"] = Rejected("no such host")
    scene.world.always["read_back_host"] = Unreachable("Falcon cannot be reached")
    scene.world.always["open_ticket"] = Rejected("no room")
    within = timedelta(seconds=1)
    steering = policy(contain_within=within, verify_within=within, ticket_within=within)
    started = await scene.start(alert(), steering)
    await scene.end(started)
    await agrees(scene, await exported(scene, started))


async def test_an_answer_while_the_case_waits_is_in_the_older_record_no_more_than_it_was(scene: Scene) -> None:
    scene.world.sightings = 0
    started = await scene.start(alert())
    await scene.until(started, lambda state: state["question"] and state["question"]["asked"])
    early = await exported(scene, started)
    await scene.handle(started).signal("analyst_decision", {"analyst": 7})
    await scene.handle(started).signal("analyst_decision", {**CONTAIN, "analyst": "mallory@acme.example"})
    await scene.handle(started).execute_update("decide", {**CONTAIN, "analyst": ANALYST.upper()})
    await scene.end(started)
    late = await exported(scene, started)
    for sealed in (early, late):
        await agrees(scene, sealed)
    assert [entry["source"] for entry in late["events"]].count("answer") == 2


Forge = Callable[[dict[str, Any]], Any]


FORGERIES: dict[str, tuple[Forge, str]] = {
    "who decided": (lambda r: r["decision"].update(analyst="lead@acme.example"), "decision"),
    "why": (lambda r: r["decision"].update(reason="the chief wanted it"), "decision"),
    "the state before": (lambda r: r["actions"][1]["before"].update(userAccountControl="514"), "actions"),
    "an action": (lambda r: r["actions"].pop(), "actions"),
    "a state": (lambda r: r["actions"][0].update(state="failed"), "actions"),
    "the outcome": (lambda r: r.update(outcome="false_positive"), "outcome"),
    "the priority": (lambda r: r["priority_history"].pop(), "priority_history"),
    "the user": (lambda r: r["user"].update(value="asmith"), "user"),
    "the ticket": (lambda r: r["ticket"].update(number="INC0002"), "ticket"),
    "the alert": (lambda r: r["alert"].update(bytes_transferred=1), "alert"),
    "the dissent": (lambda r: r["dissent"].clear(), "dissent"),
}


async def test_whoever_has_the_key_and_seals_another_story_is_found_in_each_part(scene: Scene) -> None:
    contained = await exported(scene, await PLAYS["contained"](scene, alert()))
    answered = await exported(scene, await PLAYS["answered"](scene, alert()))
    for name, (forge, where) in FORGERIES.items():
        forged = copy.deepcopy(answered if name in ("who decided", "why", "the dissent") else contained)
        forge(forged)
        bare = {key: value for key, value in forged.items() if key not in ("seals", "key_id", "digest", "mac")}
        sealed = seal({**bare, "events": [{k: v for k, v in e.items() if k != "mac"} for e in bare["events"]]}, KEY)
        assert examine(sealed, KEY).valid, name
        found = [one.where for one in (await against_history(scene.client, sealed)).findings]
        assert where in found, (name, found)


async def test_the_attached_record_stays_vouched_for(scene: Scene) -> None:
    started = await scene.start(alert(), policy(attach_record=True))
    await scene.end(started)
    (content,) = [content for name, content in scene.world.attached.items() if name.endswith(".json")]
    attached = json.loads(content)
    held = await against_history(scene.client, attached)
    assert (held.findings, held.unchecked) == ((), ())
    assert "the record that was attached" in held.vouched
    whole = await exported(scene, started)
    assert whole["record"]["entries"] > attached["record"]["entries"]
    await agrees(scene, whole)


async def test_an_earlier_case_of_the_same_host_is_found_by_its_key(scene: Scene) -> None:
    given = alert()
    first = await exported(scene, await PLAYS["contained"](scene, given))
    later = alert(destination_ip=given.destination_ip)
    await PLAYS["contained"](scene, later)
    async with asyncio.timeout(20):
        while (held := await against_history(scene.client, first)).unchecked:  # the list of runs is a little behind
            await asyncio.sleep(0.2)
    assert held.findings == ()
    assert first["alert"]["id"] == given.id


async def test_a_case_that_temporal_does_not_keep(scene: Scene) -> None:
    sealed = await exported(scene, await PLAYS["contained"](scene, alert()))
    for changes in ({"case_id": "sua-acme-192.0.2.1"}, {"case_key": "hp-0"}, {"case_id": "x'y"}, {"case_key": None}):
        held = await against_history(scene.client, {**sealed, **changes})
        assert "it keeps no case" in held.unchecked[0]
    other = await against_history(scene.client, sealed, case_id="sua-acme-192.0.2.1")
    assert [found.where for found in other.findings] == ["case_id"]
