from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.workflows.world import Scene, World, working


@pytest.fixture
async def scene(dev_server: WorkflowEnvironment) -> AsyncIterator[Scene]:
    """A world and a worker on the wall clock."""
    world, queue = World(), f"q-{uuid.uuid4()}"
    async with working(dev_server.client, world, queue):
        yield Scene(dev_server.client, world, queue)


@pytest.fixture
async def fast(skipping_server: WorkflowEnvironment) -> AsyncIterator[Scene]:
    """A world and a worker where timers fire at once."""
    world, queue = World(), f"q-{uuid.uuid4()}"
    async with working(skipping_server.client, world, queue):
        yield Scene(skipping_server.client, world, queue)
