"""Undoing over real protocols: the directory's one bit and Falcon's status go back to what they were."""

from __future__ import annotations

import asyncio
from typing import Any

from lab.environment import ANALYST
from lab.scenarios import Scenario, named
from starter import case_status, decide_case, release_case, released
from tests.end_to_end.test_wire import PATIENCE, Lab, lab

__all__ = ["lab"]

WHY = {"analyst": ANALYST, "reason": "The transfer was the new backup; he is cleared."}


async def undone(lab: Lab, scenario: Scenario) -> dict[str, Any]:
    receipt = await release_case(lab.client, scenario.case_id, **WHY)
    return await asyncio.wait_for(released(lab.client, receipt), PATIENCE)


async def test_the_bit_and_the_status_are_as_they_were(lab: Lab) -> None:
    scenario, world = named("medium-corroborated"), lab.environment
    world.directory.put(scenario.account, "userAccountControl", 66048)  # the password does not expire: a bit to keep
    state = await lab.closed(await lab.start(scenario))
    assert state["outcome"] == "contained"
    assert world.directory.uac(scenario.account) == 66050
    assert world.falcon.device(scenario.host).status == "contained"
    world.directory.put(scenario.account, "userAccountControl", 66050 | 0x80000)  # somebody else's change stays

    writes = (world.directory.count("modify"), len(world.falcon.actions))
    told = await undone(lab, scenario)
    assert told["outcome"] == "released"
    assert {undo["state"] for undo in told["actions"]} == {"verified"}
    assert world.directory.uac(scenario.account) == 66048 | 0x80000
    assert world.falcon.device(scenario.host).status == "normal"
    assert await undone(lab, scenario) == told
    assert (world.directory.count("modify"), len(world.falcon.actions)) == (writes[0] + 1, writes[1] + 1)
    (ticket,) = [row for row in world.tickets.rows() if row["number"] == state["ticket"]["number"]]
    (note,) = [note for note in world.tickets.notes(ticket["sys_id"]) if WHY["reason"] in note]
    assert note.count("verified") == len(told["actions"])


async def test_a_pending_quarantine_of_an_offline_host_is_withdrawn_before_it_lands(lab: Lab) -> None:
    scenario, world = named("medium-unanswered"), lab.environment
    await lab.start(scenario)
    state = await lab.paused(scenario)
    device = world.falcon.device(scenario.host)
    device.online = False
    answer = {"decision": "contain", **WHY, "actions": ["quarantine_host"], "question": state["question"]["id"]}
    await decide_case(lab.client, scenario.case_id, answer)
    async with asyncio.timeout(PATIENCE):
        while [a["state"] for a in (await case_status(lab.client, scenario.case_id))["actions"]] != ["accepted"]:
            await asyncio.sleep(0.05)
    await lab.client.get_workflow_handle(scenario.case_id).terminate("somebody ends the case while the host is offline")
    assert device.status == "containment_pending"
    receipt = await release_case(lab.client, scenario.case_id, **WHY)
    async with asyncio.timeout(PATIENCE):
        while device.status != "lift_containment_pending":
            await asyncio.sleep(0.05)
    world.falcon.come_online(scenario.host)
    told = await asyncio.wait_for(released(lab.client, receipt), PATIENCE)
    assert (told["outcome"], told["actions"][0]["state"], device.status) == ("released", "verified", "normal")
    assert [action for _, action in world.falcon.actions[-2:]] == ["contain", "lift_containment"]
