"""What a case costs in Temporal, row by row: whoever makes it dearer has to say so here.

The worlds differ from row to row in risk and corroboration alone, and the settings are those that are shipped. Counts
only: how long anything takes is for ``benchmarks``. Workflow tasks depend on what comes in together, so they have room.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from temporalio.api.enums.v1 import EventType

from benchmarks.as_shipped import shipped_policy, shipped_settings
from benchmarks.counting import Count, count_of, counted, shape
from integrations.errors import Rejected
from tests.workflows.world import Scene, alert


@dataclass(frozen=True)
class Budget:
    """The most that a case of one row may leave behind."""

    events: int
    bytes: int
    activities: int
    upserts: int
    actions: int


CONTAINS = Budget(events=100, bytes=32_000, activities=13, upserts=5, actions=21)
DISABLES = Budget(events=88, bytes=28_000, activities=11, upserts=4, actions=18)
ASKS = Budget(events=136, bytes=42_000, activities=17, upserts=8, actions=31)

ROWS = [
    pytest.param(90.0, 2, CONTAINS, id="high, corroborated"),
    pytest.param(50.0, 2, CONTAINS, id="medium, corroborated"),
    pytest.param(0.01, 2, DISABLES, id="low, corroborated"),
    pytest.param(90.0, 0, ASKS, id="high, alone"),
    pytest.param(50.0, 0, ASKS, id="medium, alone"),
    pytest.param(90.0, None, ASKS, id="high, the search fails"),
    pytest.param(0.01, 0, ASKS, id="low, alone"),
    pytest.param(None, 2, ASKS, id="risk unknown"),
]


async def _run(scene: Scene, budget: Budget) -> Count:
    started = await scene.start(alert(), shipped_policy())
    if budget is ASKS:
        await scene.mailed(1)
        await scene.until(started, lambda state: state["question"] and state["question"]["asked"])
        answer = {"decision": "contain", "analyst": shipped_settings().tiers[0].analysts[0], "reason": "seen it"}
        await scene.handle(started).execute_update("decide", answer)
    assert (await scene.end(started))["outcome"] in {"contained", "account_disabled"}
    return await count_of(scene.handle(started))


@pytest.mark.parametrize(("score", "sightings", "budget"), ROWS)
async def test_a_case_of_each_row_keeps_to_its_budget(
    scene: Scene, score: float | None, sightings: int | None, budget: Budget
) -> None:
    scene.world.score, scene.world.sightings = score, sightings or 0
    if sightings is None:
        scene.world.always["corroboration"] = Rejected("the search was refused")
    count = await _run(scene, budget)
    over = {name: (getattr(count, name), most) for name, most in vars(budget).items() if getattr(count, name) > most}
    assert over == {}, "more than the budget: what came to be, and what may"


async def test_the_budget_is_close_to_what_a_case_costs(scene: Scene) -> None:
    scene.world.score, scene.world.sightings = 90.0, 2
    count = await _run(scene, CONTAINS)
    assert count.activities == CONTAINS.activities
    assert count.actions >= CONTAINS.actions - 3
    assert count.bytes >= CONTAINS.bytes * 0.75


async def test_the_floor_takes_its_shape_from_a_case(scene: Scene) -> None:
    scene.world.score, scene.world.sightings = 90.0, 2
    started = await scene.start(alert(), shipped_policy())
    await scene.end(started)
    events = [event async for event in scene.handle(started).fetch_history_events()]
    form = shape(events, "floor")
    assert sum(form.batches) == counted(events, 0).activities
    assert form.batches[form.writes] == 2, "both writes run side by side"
    scheduled = [e for e in events if e.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED]
    before = sum(form.batches[: form.writes])
    names = {e.activity_task_scheduled_event_attributes.activity_type.name for e in scheduled[before : before + 2]}
    assert names == {"endpoint.quarantine_host", "directory.disable_account"}
