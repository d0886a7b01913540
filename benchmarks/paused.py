"""Many cases that wait for people at once: the worker's memory, answering one, a restart, and how late timers fire."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.api.enums.v1 import EventType

from benchmarks.as_shipped import bench_alert, shipped_policy, shipped_settings
from benchmarks.instant import WRITES, Row, about, address
from benchmarks.measure import Used, milliseconds, resident_mb
from benchmarks.resumed import resume, waiting_case
from benchmarks.stage import BenchWorker, Stage, answering
from cases import NoWorker, decide_case, start_incident
from incident.policy import CasePolicy

AT_ONCE = 32
OUTAGE = 10.0
"""Seconds between the end of worker and server and their new start."""

_LOOK = "locate"
_SAMPLE = 60
_ANSWERS = 15
_WITHIN = 60.0
_LONG = timedelta(hours=8)
"""Nobody's turn ends while it is measured."""


@dataclass
class _Held:
    """The paused cases and what they run on."""

    stage: Stage
    worker: BenchWorker
    policy: CasePolicy
    cases: list[str]
    """The names of their hosts in the marks."""

    since: float = 0.0
    """When all of them were there."""

    def looks(self, name: str) -> list[float]:
        """When this case looked, its first look included."""
        return self.worker.marks.times[_LOOK].get(name, [])


async def _start_all(held: _Held, total: int) -> dict[str, Any]:
    """Start them and wait until each has asked."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with turns:
            alert = bench_alert(Row.MEDIUM_ALONE, number, f"paused-{number}")
            await start_incident(held.stage.client, alert, policy=held.policy)
            await held.worker.marks.until_first(held.cases[number], _LOOK, within=_WITHIN, look_every=0.25)

    pids = {"server": held.stage.server.pid, "worker": held.worker.pid}
    before, begun = Used.now(pids), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(total):
            group.create_task(one(number))
    while held.worker.marks.refresh().count("mail") < total:  # noqa: ASYNC110 - another process tells it
        await asyncio.sleep(0.1)
    took = time.monotonic() - begun
    return {
        "seconds": round(took, 1),
        "per_second": round(total / took, 2),
        "processor_ms": before.until(Used.now(pids), total),
    }


async def _resume_all(held: _Held, total: int) -> dict[str, Any]:
    """Start them where they go on, evenly over the time between two looks: then their looks are spread over it too."""
    waiting = await waiting_case(held.policy)
    turns = asyncio.Semaphore(AT_ONCE)
    pids = {"server": held.stage.server.pid, "worker": held.worker.pid}
    before, begun = Used.now(pids), time.monotonic()

    async def one(number: int) -> None:
        await asyncio.sleep(begun + held.policy.recheck_every.total_seconds() * number / total - time.monotonic())
        async with turns:
            await resume(held.stage.client, waiting, number)

    async with asyncio.TaskGroup() as group:
        for number in range(total):
            group.create_task(one(number))
    took = time.monotonic() - begun
    return {
        "seconds": round(took, 1),
        "per_second": round(total / took, 2),
        "processor_ms": before.until(Used.now(pids), total),
        "resumed": True,
    }


async def _answer_some(held: _Held, numbers: list[int]) -> dict[str, Any]:
    """Answer some one by one: how long until the receipt, and until the first containment write."""
    analyst = held.policy.tiers[0].analysts[0]
    receipts, writes, late, unwritten = [], [], 0, 0
    for number in numbers:
        answer = {"decision": "contain", "analyst": analyst, "reason": "a benchmark"}
        begun = time.monotonic()
        try:
            await decide_case(held.stage.client, f"sua-bench-{address(Row.MEDIUM_ALONE, number)}", answer)
        except NoWorker:
            late += 1
            continue
        receipts.append(time.monotonic() - begun)
        try:
            wrote = await held.worker.marks.until_first(held.cases[number], *WRITES, within=_WITHIN)
        except TimeoutError:
            unwritten += 1
            continue
        writes.append(wrote - begun)
    return {
        "receipt_ms": milliseconds(receipts),
        "write_ms": milliseconds(writes),
        "without_receipt": late,
        "without_write": unwritten,
    }


async def _lateness(held: _Held, names: list[str]) -> dict[str, Any]:
    """From a sample of histories: how long after its due time a timer fired, and until a step began after that."""
    fired, begun = [], []
    for name in names:
        ip = name.replace("-", ".")
        due: dict[int, float] = {}
        at: float | None = None
        async for event in held.stage.client.get_workflow_handle(f"sua-bench-{ip}").fetch_history_events():
            now = event.event_time.ToNanoseconds() / 1e9
            if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED:
                wait = event.timer_started_event_attributes.start_to_fire_timeout.ToNanoseconds() / 1e9
                due[event.event_id] = now + wait
            elif event.event_type == EventType.EVENT_TYPE_TIMER_FIRED:
                at = due[event.timer_fired_event_attributes.started_event_id]
                fired.append(now - at)
            elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED and at is not None:
                begun.append(now - at)
                at = None
    return {"fired_late_ms": milliseconds(fired), "looked_late_ms": milliseconds(begun)}


async def _restart(held: _Held, every: timedelta) -> dict[str, Any]:
    """Kill worker and server, start them again, and wait until every case has looked again."""
    waiting = [name for name in held.cases if not held.worker.marks.refresh().first(name, *WRITES)]
    ended = time.monotonic()
    await held.worker.kill()
    await held.stage.server.kill()
    await asyncio.sleep(OUTAGE)
    held.worker.marks.refresh()
    due = {name: max(held.looks(name), default=held.since) + every.total_seconds() for name in waiting}
    seen = {name: len(held.looks(name)) for name in waiting}
    begun = time.monotonic()
    await held.stage.server.start()
    await answering(held.stage)
    served = time.monotonic() - begun
    await held.worker.start()
    ready = time.monotonic() - begun
    overdue = [name for name in waiting if due[name] <= begun]
    late: dict[str, float] = {}
    # Who was called late looks more seldom: the last ones may come much later.
    until = begun + every.total_seconds() * 1.5 + 60
    while len(late) < len(waiting) and time.monotonic() < until:
        held.worker.marks.refresh()
        for name in waiting:
            if name not in late and len(held.looks(name)) > seen[name]:
                late[name] = held.looks(name)[seen[name]]
        await asyncio.sleep(0.2)
    return {
        "down_seconds": round(begun - ended, 1),
        "server_answers_after_s": round(served, 1),
        "worker_ready_after_s": round(ready, 1),
        "overdue": len(overdue),
        "overdue_served_after_s": round(max((late[name] - begun for name in overdue if name in late), default=0.0), 1),
        "all_looked_again_after_s": round(max(late.values()) - begun, 1),
        "not_looked_again": len(waiting) - len(late),
        "look_after_due_ms": milliseconds([max(0.0, late[name] - max(due[name], begun)) for name in late]),
    }


async def run(*, total: int, every: timedelta, watch: float, resumed: bool = False) -> dict[str, Any]:
    """``total`` cases that look again every so often, watched for ``watch`` seconds before the restart.

    ``resumed`` starts them where they go on after a long wait, instead of from their alerts.
    """
    policy = shipped_policy(recheck_every=every)
    policy = policy.model_copy(
        update={"tiers": tuple(tier.model_copy(update={"wait": _LONG}) for tier in policy.tiers)}
    )
    async with Stage() as stage:
        worker = await stage.worker("holdpoint-calls")
        names = [about(address(Row.MEDIUM_ALONE, number)) for number in range(total)]
        held = _Held(stage, worker, policy, names)
        memory = {"worker_idle_mb": resident_mb(worker.pid), "server_idle_mb": resident_mb(stage.server.pid)}
        started = await (_resume_all if resumed else _start_all)(held, total)
        held.since = time.monotonic()
        memory |= {"worker_paused_mb": resident_mb(worker.pid), "server_paused_mb": resident_mb(stage.server.pid)}
        pids = {"server": stage.server.pid, "worker": worker.pid}
        before, looked = Used.now(pids), worker.marks.refresh().count(_LOOK)
        # Not shorter than a look takes to come round, where they do not come evenly.
        watch = watch if resumed else max(watch, every.total_seconds())
        await asyncio.sleep(watch)
        looks = worker.marks.refresh().count(_LOOK) - looked
        watched = {
            "looks": looks,
            "looks_per_second": round(looks / watch, 2),
            "looks_due_per_second": round(total / every.total_seconds(), 2),
        }
        watched["processor_ms_per_look"] = before.until(Used.now(pids), max(looks, 1))  # type: ignore[assignment]
        memory |= {"worker_watched_mb": resident_mb(worker.pid), "server_watched_mb": resident_mb(stage.server.pid)}
        chosen = random.Random(7).sample(range(total), min(_ANSWERS, total))  # noqa: S311
        answered = await _answer_some(held, chosen)
        sample = random.Random(8).sample(names, min(_SAMPLE, total))  # noqa: S311
        lateness = await _lateness(held, sample)
        restart = await _restart(held, every)
        memory |= {"worker_after_restart_mb": resident_mb(worker.pid)}
        disk = stage.disk_mb
    return {
        "cases": total,
        "tiers": len(shipped_settings().tiers),
        "looks_every_s": every.total_seconds(),
        "as_much_as": f"{round(total * 600 / every.total_seconds())} cases that look every 10 minutes",
        "started": started,
        "watched": watched,
        "memory": memory,
        "disk_mb": disk,
        "answering": answered,
        "timers": lateness,
        "restart": restart,
    }
