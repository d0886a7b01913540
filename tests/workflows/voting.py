"""What the tests of answers share: two answers, a case that waits for one, and how it takes it."""

from __future__ import annotations

from typing import Any

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from incident.policy import CasePolicy
from starter import Started
from tests.workflows.world import ANALYST, Scene, alert

CONTAIN = {"decision": "contain", "analyst": ANALYST, "reason": "seen it"}
FALSE = {"decision": "false_positive", "analyst": ANALYST, "reason": "the nightly backup"}


async def held(scene: Scene, steering: CasePolicy) -> Started:
    """A case whose question is put."""
    scene.world.sightings = 0
    started = await scene.start(alert(), steering)
    await scene.mailed(1)
    await scene.until(started, lambda s: s["question"] and s["question"]["asked"])
    return started


async def decide(scene: Scene, started: Started, answer: Any) -> dict[str, Any]:
    """The receipt of an answer that is taken."""
    receipt: dict[str, Any] = await scene.handle(started).execute_update("decide", answer)
    return receipt


async def refused(scene: Scene, started: Started, answer: Any) -> str:
    """Why an answer is not taken."""
    with pytest.raises(WorkflowUpdateFailedError) as caught:
        await decide(scene, started, answer)
    assert isinstance(caught.value.cause, ApplicationError)
    return caught.value.cause.message
