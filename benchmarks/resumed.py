"""Cases that wait for people, started where they go on after a long wait: thousands of them in minutes.

A case whose history has become long begins it anew, and hands its record on. One real case is brought there on a server
that thinks little to be long; what it handed on is what the others are started with, each about a host of its own.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy

from benchmarks.as_shipped import bench_alert
from benchmarks.instant import Row, about, address
from benchmarks.stage import Stage
from cases import start_incident
from connection import TASK_QUEUE
from handing_over import WORKFLOW
from incident.policy import CasePolicy
from incident.record import key_of
from workflows import search_attributes

_SOON = timedelta(seconds=1)
_SHORT = ("--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=20")
_WITHIN = 60.0
_SEED = 65_003


@dataclass(frozen=True)
class Waiting:
    """What a case that waits handed on, as JSON, with its key."""

    given: str
    key: str

    def of(self, number: int) -> dict[str, Any]:
        """The same about the host of that number."""
        seed, ip = address(Row.MEDIUM_ALONE, _SEED), address(Row.MEDIUM_ALONE, number)
        told = self.given.replace(seed, ip).replace(about(seed), about(ip))
        made: dict[str, Any] = json.loads(told.replace(self.key, key_of(ip, "benchmark")))
        return made


async def waiting_case(policy: CasePolicy) -> Waiting:
    """Bring one case to where it begins its history anew; returns what it handed on. Raises TimeoutError."""
    async with Stage(*_SHORT) as stage:
        await stage.worker("holdpoint")
        alert = bench_alert(Row.MEDIUM_ALONE, _SEED, "waits")
        quick = policy.model_copy(update={"recheck_every": _SOON})
        started = await start_incident(stage.client, alert, policy=quick)
        case = stage.client.get_workflow_handle(started.case_id)
        async with asyncio.timeout(_WITHIN):
            while (await case.describe()).run_id == started.run_id:  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.1)
        first = await anext(case.fetch_history_events())
    payload = first.workflow_execution_started_event_attributes.input.payloads[0]
    given = json.loads(payload.data)
    given["policy"] = policy.model_dump(mode="json")
    return Waiting(json.dumps(given), given["resumed"]["key"])


async def resume(client: Client, waiting: Waiting, number: int) -> None:
    """Start the waiting case of that number's host."""
    given = waiting.of(number)
    await client.start_workflow(
        WORKFLOW,
        given,
        id=given["resumed"]["case_id"],
        task_queue=TASK_QUEUE,
        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        search_attributes=search_attributes.at_start(given["alert"]["id"], given["alert"]["severity"]),
    )
