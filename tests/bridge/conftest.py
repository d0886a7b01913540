from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from temporalio.testing import WorkflowEnvironment

from tests.bridge.house import OIDC, Desk, serving
from tests.workflows.world import Scene, World, working


@pytest.fixture
async def scene(dev_server: WorkflowEnvironment) -> AsyncIterator[Scene]:
    """A world and a worker on the wall clock."""
    world, queue = World(), f"q-{uuid.uuid4()}"
    world.sightings = 0
    async with working(dev_server.client, world, queue):
        yield Scene(dev_server.client, world, queue)


@pytest.fixture
async def desk(dev_server: WorkflowEnvironment) -> AsyncIterator[Desk]:
    """A desk where people can sign in."""
    async with serving(dev_server.client, **OIDC) as served:
        yield served
