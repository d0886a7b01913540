"""Holdpoint against the floor: how much of what Temporal can do on this machine a case gets.

Both run on one server with the same worker settings, in turns: A B B A, so that a machine whose speed drifts does not
favour one of them. Each block gives a ratio.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

from temporalio.client import Client

from benchmarks.as_shipped import bench_alert, shipped_policy
from benchmarks.counting import Count, count_of, shape
from benchmarks.floor_workflow import FLOOR, FLOOR_QUEUE, MARK, FloorInput
from benchmarks.instant import WRITES, Row, about
from benchmarks.measure import Used, milliseconds, spread
from benchmarks.stage import BenchWorker, Stage
from cases import start_incident
from incident.policy import CasePolicy

IN_FLIGHT = 20
_WARM = 20


class Subject(Protocol):
    """What is measured."""

    worker: BenchWorker

    async def one(self) -> tuple[str, float, float]:
        """Run one to its end: its name in the marks, when it was started, and how long it took."""

    def wrote(self, name: str) -> float | None:
        """When its first containment write was, or what stands for one."""


class CaseSubject:
    """A case of row 1, from ``cases.start_incident`` to its end."""

    def __init__(self, client: Client, worker: BenchWorker, policy: CasePolicy) -> None:
        self._client = client
        self._policy = policy
        self._numbers = count()
        self.worker = worker

    async def one(self) -> tuple[str, float, float]:
        """Run one case."""
        number = next(self._numbers)
        alert = bench_alert(Row.HIGH_CORROBORATED, number, f"{time.monotonic_ns()}")
        begun = time.monotonic()
        started = await start_incident(self._client, alert, policy=self._policy)
        await self._client.get_workflow_handle(started.case_id, run_id=started.run_id).result()
        return about(alert.destination_ip), begun, time.monotonic() - begun

    def wrote(self, name: str) -> float | None:
        """The earlier of the two writes."""
        return self.worker.marks.refresh().first(name, *WRITES)


class FloorSubject:
    """The barest workflow of the same shape."""

    def __init__(self, client: Client, worker: BenchWorker, form: FloorInput) -> None:
        self._client = client
        self._form = form
        self._numbers = count()
        self.worker = worker

    async def one(self) -> tuple[str, float, float]:
        """Run one."""
        name = f"floor-{next(self._numbers)}"
        begun = time.monotonic()
        await self._client.execute_workflow(
            FLOOR, self._form.model_copy(update={"name": name}), id=name, task_queue=FLOOR_QUEUE
        )
        return name, begun, time.monotonic() - begun

    def wrote(self, name: str) -> float | None:
        """The first activity of the batch that stands for the writes."""
        return self.worker.marks.refresh().first(name, MARK)


@dataclass(frozen=True)
class Round:
    """One subject's turn: how many a second, processor time, and the times of single ones on an idle system."""

    per_second: float
    processor_ms: dict[str, float]
    to_write: list[float]
    to_end: list[float]


async def in_flight(subject: Subject, total: int, at_once: int = IN_FLIGHT) -> float:
    """Run ``total`` with so many at once; returns how many a second there were."""
    turns = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with turns:
            await subject.one()

    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(total):
            group.create_task(one())
    return total / (time.monotonic() - begun)


async def idle(subject: Subject, total: int) -> tuple[list[float], list[float]]:
    """Run one at a time; returns the seconds to the first write and to the end."""
    to_write, to_end = [], []
    for _ in range(total):
        name, begun, took = await subject.one()
        wrote = subject.wrote(name)
        if wrote is not None:
            to_write.append(wrote - begun)
        to_end.append(took)
    return to_write, to_end


async def turn(stage: Stage, subject: Subject, total: int, singly: int) -> Round:
    """One subject's turn."""
    pids = {"server": stage.server.pid, "worker": subject.worker.pid}
    before = Used.now(pids)
    per_second = await in_flight(subject, total)
    used = before.until(Used.now(pids), total)
    to_write, to_end = await idle(subject, singly)
    return Round(per_second, used, to_write, to_end)


async def blocks(
    stage: Stage, case: Subject, floor: Subject, *, rounds: int, total: int, singly: int
) -> list[tuple[list[Round], list[Round]]]:
    """A B B A, ``rounds`` times."""
    made = []
    for _ in range(rounds):
        ours: list[Round] = []
        bare: list[Round] = []
        for subject, kept in ((case, ours), (floor, bare), (floor, bare), (case, ours)):
            kept.append(await turn(stage, subject, total, singly))
        made.append((ours, bare))
    return made


def ratios(made: list[tuple[list[Round], list[Round]]]) -> dict[str, Any]:
    """Ours by the floor's, block by block."""

    def p50(rounds: list[Round], which: str) -> float:
        times: list[float] = [t for r in rounds for t in getattr(r, which)]
        return statistics.median(times)

    def processor(rounds: list[Round]) -> float:
        return sum(sum(r.processor_ms.values()) for r in rounds)

    return {
        "throughput": spread(
            [sum(r.per_second for r in ours) / sum(r.per_second for r in bare) for ours, bare in made]
        ),
        "p50_to_write": spread([p50(ours, "to_write") / p50(bare, "to_write") for ours, bare in made]),
        "processor": spread([processor(ours) / processor(bare) for ours, bare in made]),
        "p50_to_end": spread([p50(ours, "to_end") / p50(bare, "to_end") for ours, bare in made]),
    }


def summed(rounds: list[Round]) -> dict[str, Any]:
    """One subject's figures over all its turns."""
    return {
        "per_second": spread([r.per_second for r in rounds], 2),
        "to_write_ms": milliseconds([t for r in rounds for t in r.to_write]),
        "to_end_ms": milliseconds([t for r in rounds for t in r.to_end]),
        "processor_ms": {
            name: round(statistics.median([r.processor_ms[name] for r in rounds]), 1) for name in rounds[0].processor_ms
        },
    }


async def measured_shape(stage: Stage, policy: CasePolicy, number: int) -> tuple[FloorInput, Count]:
    """Run one case of row 1 and take its shape from its history."""
    alert = bench_alert(Row.HIGH_CORROBORATED, number, f"shape-{number}")
    started = await start_incident(stage.client, alert, policy=policy)
    handle = stage.client.get_workflow_handle(started.case_id, run_id=started.run_id)
    await handle.result()
    events = [event async for event in handle.fetch_history_events()]
    return shape(events, "shape"), await count_of(handle)


async def run(*, rounds: int, total: int, singly: int, policy: CasePolicy | None = None) -> dict[str, Any]:
    """Measure; ``total`` cases a turn with 20 in flight and ``singly`` one at a time."""
    policy = policy or shipped_policy()
    async with Stage() as stage:
        case_worker = await stage.worker("holdpoint")
        floor_worker = await stage.worker("floor")
        # The first one of a worker starts the ledger as well.
        await measured_shape(stage, policy, 65_001)
        form, count = await measured_shape(stage, policy, 65_002)
        case = CaseSubject(stage.client, case_worker, policy)
        floor = FloorSubject(stage.client, floor_worker, form)
        await in_flight(case, _WARM)
        await in_flight(floor, _WARM)
        made = await blocks(stage, case, floor, rounds=rounds, total=total, singly=singly)
        bare = await count_of(stage.client.get_workflow_handle("floor-0"))
    return {
        "in_flight": IN_FLIGHT,
        "batches": form.batches,
        "write_in_batch": form.writes + 1,
        "history": {"case": count.told(), "floor": bare.told()},
        "ratio": ratios(made),
        "case": summed([r for ours, _ in made for r in ours]),
        "floor": summed([r for _, bare_rounds in made for r in bare_rounds]),
    }
