from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from healthcheck import takes_work
from workflows.suspicious_user_activity import SuspiciousUserActivity

ROOT = Path(__file__).parents[2]


@activity.defn
async def nothing() -> None:
    """A step, so that the worker polls for steps."""


async def _until_healthy(client: Client, queue: str) -> None:
    async with asyncio.timeout(20):
        while not await takes_work(client, queue):
            await asyncio.sleep(0.05)


async def test_a_worker_of_this_machine_that_polls_for_both_is_healthy(dev_server: WorkflowEnvironment) -> None:
    client, queue = dev_server.client, f"q-{uuid.uuid4()}"
    assert not await takes_work(client, queue)
    async with Worker(client, task_queue=queue, workflows=[SuspiciousUserActivity], activities=[nothing]):
        await _until_healthy(client, queue)
        assert not await takes_work(client, queue, host="another-machine")


async def test_one_that_polls_for_steps_only_is_not(dev_server: WorkflowEnvironment) -> None:
    client, queue, other = dev_server.client, f"q-{uuid.uuid4()}", f"q-{uuid.uuid4()}"
    async with (
        Worker(client, task_queue=queue, activities=[nothing]),
        Worker(client, task_queue=other, workflows=[SuspiciousUserActivity], activities=[nothing]),
    ):
        await _until_healthy(client, other)
        assert not await takes_work(client, queue)


@pytest.mark.parametrize("reachable", [True, False])
async def test_the_process_says_what_is_wrong(dev_server: WorkflowEnvironment, *, reachable: bool) -> None:
    namespace = f"ns-{uuid.uuid4()}"
    there = dev_server.client.service_client.config.target_host
    environment = {
        **os.environ,
        "TEMPORAL_ADDRESS": there if reachable else "127.0.0.1:1",
        "TEMPORAL_NAMESPACE": namespace,
    }
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "healthcheck.py"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 1
    assert (namespace if reachable else "127.0.0.1:1") in ran.stderr
    assert "Traceback" not in ran.stderr
