"""What a case of each row of the table leaves in Temporal: events, bytes, workflow tasks, billable actions."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.as_shipped import bench_alert, shipped_policy, shipped_settings
from benchmarks.counting import count_of
from benchmarks.instant import Row
from benchmarks.stage import Stage
from cases import case_status, decide_case, start_incident

_WITHIN = 60.0


async def asked(stage: Stage, case_id: str) -> dict[str, Any]:
    """Wait until the case has asked and its mail is out; returns its status. Raises TimeoutError."""
    async with asyncio.timeout(_WITHIN):
        while True:
            status = await case_status(stage.client, case_id)
            if status["question"] and status["question"]["asked"]:
                return status
            await asyncio.sleep(0.02)


async def run() -> dict[str, Any]:
    """Run a case of each row; one that asks is answered at once by the first tier's first analyst."""
    policy = shipped_policy()
    analyst = shipped_settings().tiers[0].analysts[0]
    told: dict[str, Any] = {}
    async with Stage() as stage:
        await stage.worker("holdpoint")
        for row in Row:
            started = await start_incident(stage.client, bench_alert(row, 1, f"row-{row.value}"), policy=policy)
            handle = stage.client.get_workflow_handle(started.case_id, run_id=started.run_id)
            holds = row not in (Row.HIGH_CORROBORATED, Row.MEDIUM_CORROBORATED, Row.LOW_CORROBORATED)
            if holds:
                await asked(stage, started.case_id)
                answer = {"decision": "contain", "analyst": analyst, "reason": "a benchmark"}
                await decide_case(stage.client, started.case_id, answer)
            async with asyncio.timeout(_WITHIN):
                ended = await handle.result()
            told[row.name.lower()] = {"outcome": ended["outcome"], "asked": holds, **(await count_of(handle)).told()}
    return told
