"""Saved histories of releases still replay: a lease may wait for years, over every change of the workflow's code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.workflow import NondeterminismError

from tests.replay.changed_release import WaitsFirst
from tests.replay.record_release import HISTORIES, OPEN, PLAYS
from tests.replay.test_replay import replayer
from workflows.release_containment import ReleaseContainment

SAVED = sorted(HISTORIES.glob("*.json"))


def events(path: Path) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["events"]
    return told


def history(path: Path) -> WorkflowHistory:
    """A release knows its case by its own workflow id, so it is replayed under that."""
    started = events(path)[0]["workflowExecutionStartedEventAttributes"]
    return WorkflowHistory.from_json(started["workflowId"], path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
async def test_a_saved_history_replays(path: Path) -> None:
    await replayer(ReleaseContainment).replay_workflow(history(path))


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
async def test_a_new_first_step_is_caught(path: Path) -> None:
    with pytest.raises(NondeterminismError):
        await replayer(WaitsFirst).replay_workflow(history(path))


def test_every_play_is_saved_and_is_what_it_is_called() -> None:
    last = {path.stem: events(path)[-1]["eventType"] for path in SAVED}
    assert set(last) == set(PLAYS)
    assert {stem for stem, event in last.items() if event != "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED"} == OPEN
