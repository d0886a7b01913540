"""Each row of the decision table, run as a case."""

from __future__ import annotations

import pytest

from tests.workflows.world import ANALYST, Scene, alert, policy


@pytest.mark.parametrize(
    ("score", "sightings", "severity", "history", "outcome", "writes"),
    [
        (50.0, 1, "medium", ["medium", "high", "critical"], "contained", {"quarantine", "disable"}),
        (90.0, 2, "low", ["low", "medium", "critical"], "contained", {"quarantine", "disable"}),
        (90.0, 1, "critical", ["critical"], "contained", {"quarantine", "disable"}),
        (0.01, 1, "medium", ["medium", "high"], "account_disabled", {"disable"}),
        (0.01, 1, "critical", ["critical"], "account_disabled", {"disable"}),
    ],
)
async def test_rows_that_contain(
    scene: Scene, score: float, sightings: int, severity: str, history: list[str], outcome: str, writes: set[str]
) -> None:
    scene.world.score, scene.world.sightings = score, sightings
    state = await scene.run(alert(severity=severity))
    assert [change["priority"] for change in state["priority_history"]] == history
    assert state["outcome"] == outcome
    assert set(scene.world.writes) == writes
    assert all(action["state"] == "verified" for action in state["actions"])
    assert len(scene.world.tickets) == 1
    assert scene.world.mails == []


@pytest.mark.parametrize(
    ("score", "sightings", "severity", "history"),
    [
        (50.0, 0, "medium", ["medium", "high"]),
        (90.0, 0, "high", ["high"]),
        (90.0, 0, "low", ["low", "medium"]),
        (0.01, 0, "medium", ["medium"]),
        (None, 1, "medium", ["medium"]),
        (None, 0, "low", ["low"]),
    ],
)
async def test_rows_that_hold(
    scene: Scene, score: float | None, sightings: int, severity: str, history: list[str]
) -> None:
    scene.world.score, scene.world.sightings = score, sightings
    started = await scene.start(alert(severity=severity))
    await scene.mailed(1)
    state = await scene.until(started, lambda s: s["stage"] == "awaiting_decision")
    assert [change["priority"] for change in state["priority_history"]] == history
    assert state["question"]["tier"] == "analyst"
    assert scene.world.writes == []
    answer = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
    receipt = await scene.handle(started).execute_update("decide", answer)
    assert receipt["decision"] == "contain"
    final = await scene.end(started)
    assert final["outcome"] == "contained"
    assert final["decision"]["analyst"] == ANALYST
    assert set(scene.world.writes) == {"quarantine", "disable"}
    assert len(scene.world.tickets) == 1


async def test_false_positive_touches_nothing(scene: Scene) -> None:
    scene.world.sightings = 0
    started = await scene.start(alert())
    await scene.mailed(1)
    answer = {"decision": "false_positive", "analyst": ANALYST.upper(), "reason": "backup job"}
    await scene.handle(started).signal("analyst_decision", answer)
    final = await scene.end(started)
    assert final["outcome"] == "false_positive"
    assert scene.world.writes == []
    assert scene.world.tickets == {}
    assert len(scene.world.comments) == 1


async def test_narrowed_contain(scene: Scene) -> None:
    scene.world.sightings = 0
    started = await scene.start(alert(), policy())
    await scene.mailed(1)
    answer = {"decision": "contain", "analyst": ANALYST, "reason": "x", "actions": ["disable_account"]}
    await scene.handle(started).signal("analyst_decision", answer)
    final = await scene.end(started)
    assert final["outcome"] == "account_disabled"
    assert scene.world.writes == ["disable"]
