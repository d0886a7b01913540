"""Whether this machine's worker takes work: Temporal saw it poll a moment ago. For a container's health check.

It looks at the main queue, or at those that ``worker.queues`` names.

It answers for one worker among several, and needs Temporal to answer at all: while Temporal is down no worker is
healthy. It is no reason to restart a worker, which reconnects by itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

from connection import TASK_QUEUE, TemporalUnreachable, connect_temporal
from incident.queues import Integration, queue_of
from serving import queue_names
from settings import SettingsRefused, worker_section

RECENT = timedelta(minutes=2)
"""How long ago the last poll may be. The server answers an idle poll after a minute, and the next one follows."""

_OWN = {queue_of(integration, TASK_QUEUE) for integration in Integration}

KINDS = (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)
"""A worker that polls for one kind only does half of its work."""


async def takes_work(client: Client, task_queue: str = TASK_QUEUE, host: str | None = None) -> bool:
    """Whether a worker of ``host`` (this machine by default) polls for workflows and for steps.

    An integration's own queue has steps only.

    A worker is known by its identity, ``pid@host``, which the SDK makes.

    Raises:
        RPCError: Temporal did not tell.
    """
    name = socket.gethostname() if host is None else host
    for kind in KINDS if task_queue not in _OWN else KINDS[1:]:
        described = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=client.namespace, task_queue=TaskQueue(name=task_queue), task_queue_type=kind
            )
        )
        if not _polls(described.pollers, name, datetime.now(UTC)):
            return False
    return True


def _polls(pollers: Iterable[PollerInfo], host: str, now: datetime) -> bool:
    return any(
        poller.identity.rpartition("@")[2] == host and now - poller.last_access_time.ToDatetime(tzinfo=UTC) <= RECENT
        for poller in pollers
    )


async def _check() -> str | None:
    """What is wrong, or ``None``."""
    try:
        queues = queue_names(worker_section().queues)
        client = await connect_temporal()
        idle = [queue for queue in queues if not await takes_work(client, queue)]
    except (SettingsRefused, TemporalUnreachable, RPCError) as error:
        return str(error)
    return f"no worker of {socket.gethostname()} polls {', '.join(idle)}" if idle else None


def main() -> int:
    """Run the check; returns the exit code: 0 the worker takes work, 1 it does not or Temporal does not tell."""
    # It runs once a minute beside the worker, whose telemetry it must not drown.
    os.environ["OTEL_SDK_DISABLED"] = "true"
    trouble = asyncio.run(_check())
    if trouble:
        sys.stderr.write(f"{trouble}\n")
    return 1 if trouble else 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # As in the starter: the SDK's threads can crash an interpreter that tears itself down.
    os._exit(code)
