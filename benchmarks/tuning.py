"""What each setting of the worker brings: the worker as it is, and with one setting changed, in turns."""

from __future__ import annotations

from typing import Any

from benchmarks.as_shipped import shipped_policy
from benchmarks.floor import CaseSubject, Round, idle, in_flight, measured_shape, summed, turn
from benchmarks.measure import spread
from benchmarks.stage import Stage

CHANGES: dict[str, tuple[str, ...]] = {
    "the runbook's file is loaded for each run": ("workflow_runner=reloading",),
    "the SDK's own sandbox": ("workflow_runner=asked",),
    "no sandbox": ("workflow_runner=unsandboxed",),
    "5 pollers each": ("workflow_task_poller_behavior=5", "activity_task_poller_behavior=5"),
    "16 pollers each": ("workflow_task_poller_behavior=16", "activity_task_poller_behavior=16"),
    "8 steps at once": ("max_concurrent_activities=8",),
    "100 steps at once": ("max_concurrent_activities=100",),
    "no eager steps": ("disable_eager_activity_execution=True",),
    "10 eager steps a task": ("max_eager_activity_reservations_per_workflow_task=10",),
    "no cases in memory": ("max_cached_workflows=0",),
}
"""Each change by what it is; its words are arguments of ``benchmarks.process``."""


async def _pair(changed: tuple[str, ...], total: int, singly: int) -> tuple[list[Round], list[Round]]:
    """A B B A: as it is, and changed. Each turn has a server of its own: two workers of one queue would share cases."""
    policy = shipped_policy()
    as_is: list[Round] = []
    other: list[Round] = []
    for knobs, kept in (((), as_is), (changed, other), (changed, other), ((), as_is)):
        async with Stage() as stage:
            worker = await stage.worker("holdpoint", *knobs)
            await measured_shape(stage, policy, 65_001)
            case = CaseSubject(stage.client, worker, policy)
            await in_flight(case, 20)
            await idle(case, 2)
            kept.append(await turn(stage, case, total, singly))
    return as_is, other


async def run(*, total: int, singly: int) -> dict[str, Any]:
    """Measure each change; ``throughput`` below 1 says that the worker as it is does more without the change."""
    told: dict[str, Any] = {}
    for name, changed in CHANGES.items():
        as_is, other = await _pair(changed, total, singly)
        mine, theirs = summed(as_is), summed(other)
        told[name] = {
            "throughput": spread([b.per_second / a.per_second for a, b in zip(as_is, other, strict=True)], 2),
            "p50_to_write": round(theirs["to_write_ms"]["p50"] / mine["to_write_ms"]["p50"], 2),
            "processor": round(sum(theirs["processor_ms"].values()) / sum(mine["processor_ms"].values()), 2),
            "as_it_is": mine,
            "changed": theirs,
        }
    return told
