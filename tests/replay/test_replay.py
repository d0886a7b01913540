"""Saved histories of real runs still replay: a change of the workflow's code does not break the cases that are open.

``python -m tests.replay.record`` records them again; its docstring says when that is right.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner
from temporalio.workflow import NondeterminismError

from tests.replay.changed import AsksLater, WaitsFirst
from tests.replay.record import HISTORIES, PLAYS
from tests.workflows.world import STRICT
from workflows.suspicious_user_activity import SuspiciousUserActivity

SAVED = sorted(HISTORIES.glob("*.json"))
HELD = ("answered", "escalated", "paused", "withdrawn", "renewed", "protected_renewed")


def history(path: Path) -> WorkflowHistory:
    return WorkflowHistory.from_json(path.stem, path.read_text(encoding="utf-8"))


def replayer(workflow: type) -> Replayer:
    return Replayer(
        workflows=[workflow],
        data_converter=pydantic_data_converter,
        workflow_runner=SandboxedWorkflowRunner(restrictions=STRICT),
    )


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
async def test_a_saved_history_replays(path: Path) -> None:
    await replayer(SuspiciousUserActivity).replay_workflow(history(path))


def test_every_play_is_saved() -> None:
    assert {path.stem.removesuffix("_anew") for path in SAVED} == set(PLAYS)


def test_the_histories_are_what_they_are_called() -> None:
    last = {path.stem: json.loads(path.read_text(encoding="utf-8"))["events"][-1]["eventType"] for path in SAVED}
    completed = "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED"
    open_or_continued = {stem: event for stem, event in last.items() if event != completed}
    assert open_or_continued.pop("resumed") == "EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW"
    assert list(open_or_continued) == ["paused"]


@pytest.mark.parametrize("name", PLAYS)
async def test_a_new_first_step_is_caught(name: str) -> None:
    with pytest.raises(NondeterminismError):
        await replayer(WaitsFirst).replay_workflow(history(HISTORIES / f"{name}.json"))


@pytest.mark.parametrize("name", HELD)
async def test_other_timers_at_the_hold_point_are_caught(name: str) -> None:
    with pytest.raises(NondeterminismError):
        await replayer(AsksLater).replay_workflow(history(HISTORIES / f"{name}.json"))
