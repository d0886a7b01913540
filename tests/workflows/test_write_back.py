"""What the SIEM's own incidents hear of their case, and that a SIEM that is down keeps no case open."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from integrations.errors import Refused, Unreachable
from tests.workflows.world import ANALYST, Scene, alert, policy

CONTAIN = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}


async def commented(scene: Scene, count: int) -> list[str]:
    async with asyncio.timeout(20):
        while len(scene.world.comments) < count:
            await asyncio.sleep(0.02)
    return scene.world.comments


async def test_it_is_off_unless_the_settings_want_it(scene: Scene) -> None:
    await scene.run(alert())
    assert scene.world.comments == []


async def test_the_case_at_the_start_and_the_outcome_at_the_end(scene: Scene) -> None:
    scene.world.sightings = 0
    started = await scene.start(alert(), policy(comment_incident=True))
    (first,) = await commented(scene, 1)
    state = await scene.until(started, lambda state: state["question"])
    assert first.startswith(f"Holdpoint case {started.case_id} ({state['reference']}) [hp-")
    await scene.mailed(1)
    await scene.handle(started).execute_update("decide", CONTAIN)
    await scene.end(started)
    last = (await commented(scene, 2))[1]
    assert last.startswith(
        f"Holdpoint case {started.case_id} ({state['reference']}) closed: contained. Decision: contain"
    )
    assert ANALYST in last
    assert "disable account jdoe: verified" in last


async def test_an_alert_without_an_incident_has_nobody_to_tell(scene: Scene) -> None:
    await scene.run(alert(siem_incident_id=None), policy(comment_incident=True))
    assert scene.world.comments == []
    assert "comment" not in scene.world.calls


async def test_each_incident_that_joins_is_told_once(scene: Scene) -> None:
    scene.world.sightings = 0
    first = alert(siem_incident_id="1")
    started = await scene.start(first, policy(comment_incident=True))
    await scene.mailed(1)
    same = alert(siem_incident_id="1", destination_ip=first.destination_ip)
    other = alert(siem_incident_id="2", destination_ip=first.destination_ip)
    for joining in (same, other, first):
        assert (await scene.start(joining)).joined
    await scene.handle(started).execute_update("decide", CONTAIN)
    assert (await scene.end(started))["outcome"] == "contained"
    told = await commented(scene, 4)
    assert sorted("closed" in text for text in told) == [False, False, True, True]


async def test_a_false_positive_is_told_once(scene: Scene) -> None:
    scene.world.sightings = 0
    started = await scene.start(alert(), policy(comment_incident=True))
    await scene.mailed(1)
    await scene.handle(started).execute_update("decide", {**CONTAIN, "decision": "false_positive"})
    await scene.end(started)
    first, second = sorted(await commented(scene, 2))
    assert first.startswith("Holdpoint case sua-")
    assert second.startswith("Holdpoint: false positive")
    assert "closed" not in first


async def test_a_repeated_delivery_says_nothing(scene: Scene) -> None:
    given = alert()
    await scene.run(given, policy(comment_incident=True))
    await commented(scene, 2)
    assert (await scene.run(given, policy(comment_incident=True)))["outcome"] == "duplicate"
    assert len(scene.world.comments) == 2


async def test_a_siem_that_is_down_hears_of_it_afterwards(scene: Scene) -> None:
    scene.world.always["comment"] = Unreachable("nobody there")
    final = await scene.run(alert(), policy(comment_incident=True))
    assert final["outcome"] == "contained"
    assert scene.world.comments == []
    del scene.world.always["comment"]
    assert len(await commented(scene, 2)) == 2


async def test_one_that_refuses_changes_nothing(scene: Scene) -> None:
    scene.world.always["comment"] = Refused("no right to comment")
    given = alert()
    started = await scene.start(given, policy(comment_incident=True))
    assert (await scene.end(started))["outcome"] == "contained"
    assert given.siem_incident_id
    digest = hashlib.sha256(given.siem_incident_id.encode()).hexdigest()[:12]
    runs = [run async for run in scene.client.list_workflows("WorkflowType = 'IncidentComment'") if digest in run.id]
    assert runs


@pytest.mark.parametrize("incident", ["x" * 256, "../../etc", "7' OR 1=1"])
async def test_a_hostile_incident_id_names_no_workflow(scene: Scene, incident: str) -> None:
    final = await scene.run(alert(siem_incident_id=incident), policy(comment_incident=True))
    assert final["outcome"] == "contained"
    await commented(scene, 2)
