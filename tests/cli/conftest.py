from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from connection import TASK_QUEUE
from tests.cli.desk import Desk
from tests.workflows.world import World, working


@pytest.fixture
async def desk(dev_server: WorkflowEnvironment, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk; the cases that a test leaves open are ended with it."""
    world = World()
    async with working(dev_server.client, world, TASK_QUEUE):
        yield Desk(dev_server.client, world, tmp_path)
    left = f"TaskQueue = '{TASK_QUEUE}' AND ExecutionStatus = 'Running'"
    async for run in dev_server.client.list_workflows(left):
        with contextlib.suppress(RPCError):  # it may have ended by itself
            await dev_server.client.get_workflow_handle(run.id, run_id=run.run_id).terminate("the test has ended")
