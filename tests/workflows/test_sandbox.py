"""The sandbox that a worker's cases run in: as strict as the SDK's, without its detour."""

from __future__ import annotations

import time
import uuid

import pytest
from temporalio import workflow
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import RestrictedWorkflowAccessError

from connection import connect_temporal
from sandbox import LOADED_ONCE, CaseSandbox


@workflow.defn
class LooksAtTheClock:
    @workflow.run
    async def run(self, which: str) -> float:
        """A clock of its own is what no workflow may have."""
        return time.time() if which == "own" else workflow.time()


async def test_what_the_sdks_sandbox_refuses_it_refuses(dev_server: WorkflowEnvironment) -> None:
    queue = f"sandbox-{uuid.uuid4()}"
    async with Worker(
        dev_server.client,
        task_queue=queue,
        workflows=[LooksAtTheClock],
        workflow_runner=CaseSandbox(restrictions=LOADED_ONCE),
        workflow_failure_exception_types=[RestrictedWorkflowAccessError],
    ):
        assert await dev_server.client.execute_workflow(LooksAtTheClock.run, "its", id=f"{queue}-1", task_queue=queue)
        with pytest.raises(WorkflowFailureError) as failed:
            await dev_server.client.execute_workflow(LooksAtTheClock.run, "own", id=f"{queue}-2", task_queue=queue)
    assert isinstance(failed.value.cause, ApplicationError)
    assert "time.time" in failed.value.cause.message


async def test_nothing_that_holdpoint_writes_minds_its_context(
    dev_server: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the shortcut rests on: with a codec, or a store outside, the SDK's own runner is needed."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", dev_server.client.service_client.config.target_host)
    converter = (await connect_temporal()).data_converter
    assert (converter.payload_codec, converter.external_storage) == (None, None)
