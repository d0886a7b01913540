"""Alerts by the thousand: none may be lost, and the one that matters may not wait behind the rest.

They are handed over as the bridge does it, once their request is read: by ``bridge.delivery``.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from temporalio.client import Client

from benchmarks.as_shipped import bench_alert, shipped_policy
from benchmarks.counting import count_of
from benchmarks.instant import WRITES, Row, about
from benchmarks.marks import Read
from benchmarks.measure import Used, milliseconds, percentile, resident_mb
from benchmarks.stage import BenchWorker, Stage
from bridge.answers import Taken
from bridge.delivery import Delivery
from cases import CaseRefused, case_status
from connection import TASK_QUEUE
from incident.alert import Alert
from incident.triage import Priority

AT_ONCE = 64
"""Requests at one time."""

_PATIENT = 20.0

_QUIET = 16.0
"""Longer than a workflow task may take before it is given out again."""

_DRAINED_WITHIN = 300.0
_ASKED_WITHIN = 60.0
_CALLS = ("locate", "find_person", "find_device", "risk", "corroboration", "find_electorate", "comment", "open_ticket")
_CRITICAL = 60_000
_IDLE = 10


@dataclass
class _Sent:
    """What became of the alerts that were handed over."""

    taken: list[Alert] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    halfway: asyncio.Event = field(default_factory=asyncio.Event)
    """Half of them are in, or the last ones are on their way."""


@dataclass(frozen=True)
class Storming:
    """How alerts are handed over: how many in one request, and for how many seconds at most."""

    seconds: float
    batch: int = 200


def _bridge(client: Client) -> Delivery:
    return Delivery(client, shipped_policy(), task_queue=TASK_QUEUE, within=_PATIENT)


async def _send(delivery: Delivery, alerts: Sequence[Alert], how: Storming, sent: _Sent) -> None:
    """Hand them over while there is time; what Temporal does not take is tried no second time."""
    begun = time.monotonic()
    batches = iter([alerts[place : place + how.batch] for place in range(0, len(alerts), how.batch)])

    async def sender() -> None:
        for some in batches:
            if time.monotonic() - begun > how.seconds:
                return
            if some[-1] is alerts[-1] or len(sent.taken) * 2 >= len(alerts):
                sent.halfway.set()
            at = time.monotonic()
            for index, outcome in (await delivery.deliver(dict(enumerate(some)))).items():
                if isinstance(outcome, Taken):
                    sent.taken.append(some[index])
                else:
                    sent.refused[outcome.fault[:80]] += 1
            sent.took.append(time.monotonic() - at)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(sender())
    sent.halfway.set()
    sent.seconds = time.monotonic() - begun


async def _critical(client: Client, worker: BenchWorker, delivery: Delivery, number: int) -> float:
    """Seconds from handing over a critical alert to the first containment write."""
    alert = bench_alert(Row.HIGH_CORROBORATED, number, f"critical-{number}", Priority.CRITICAL)
    begun = time.monotonic()
    await delivery.deliver({0: alert})
    wrote = await worker.marks.until_first(about(alert.destination_ip), *WRITES, within=_DRAINED_WITHIN)
    await client.get_workflow_handle(alert.case_id).result()
    return wrote - begun


async def _drained(marks: Read) -> float:
    """Wait until nobody has called a vendor for a while, or for long enough; returns when the last call was."""
    last, begun, since = -1, time.monotonic(), time.monotonic()
    while time.monotonic() - since < _QUIET and time.monotonic() - begun < _DRAINED_WITHIN:
        marks.refresh()
        now = sum(marks.count(kind) for kind in list(marks.times))
        if now != last:
            last, since = now, time.monotonic()
        await asyncio.sleep(0.25)
    return since


async def _kept(client: Client, taken: Sequence[Alert]) -> tuple[int, dict[str, int]]:
    """How many of the alerts are in the record of their case, or counted by it; and why others could not be told."""
    cases: dict[str, set[str]] = {}
    for alert in taken:
        cases.setdefault(alert.case_id, set()).add(alert.id)
    kept, why = 0, Counter[str]()
    for case_id, ids in cases.items():
        try:
            status = await case_status(client, case_id)
        except CaseRefused as error:
            why[str(error)[:120]] += len(ids)
            continue
        known = len(ids & set(status["alerts"]))
        kept += max(known, min(len(ids), int(status.get("alerts_total") or 0)))
    return kept, dict(why)


def _calls(marks: Read) -> dict[str, int]:
    return {kind: marks.count(kind) for kind in _CALLS if marks.count(kind)}


async def _storm(stage: Stage, alerts: list[Alert], how: Storming) -> dict[str, Any]:
    delivery = _bridge(stage.client)
    worker = await stage.worker("holdpoint-calls")
    idle = [await _critical(stage.client, worker, delivery, _CRITICAL + 1 + n) for n in range(_IDLE)]
    marks = worker.marks.refresh()
    mails, calls = marks.count("mail"), Counter(_calls(marks))
    pids = {"server": stage.server.pid, "worker": worker.pid}
    before, begun = Used.now(pids), time.monotonic()

    async def in_the_middle() -> float:
        await sent.halfway.wait()
        return await _critical(stage.client, worker, delivery, _CRITICAL)

    sent = _Sent()
    critical = asyncio.create_task(in_the_middle())
    await _send(delivery, alerts, how, sent)
    under_load = await critical
    drained = await _drained(marks)
    kept, why_not = await _kept(stage.client, sent.taken)
    one = stage.client.get_workflow_handle(alerts[0].case_id)
    return {
        "offered": len(alerts),
        "taken": len(sent.taken),
        "refused": dict(sent.refused),
        "seconds": round(sent.seconds, 1),
        "taken_per_second": round(len(sent.taken) / sent.seconds, 1),
        "take_ms": milliseconds(sent.took),
        "drained_after_s": round(drained - begun, 1),
        "cases_opened": len({alert.case_id for alert in sent.taken}),
        "questions_sent": marks.count("mail") - mails,
        "vendor_calls": dict(Counter(_calls(marks)) - calls),
        "kept": kept,
        "lost": len(sent.taken) - kept - sum(why_not.values()),
        "not_told": why_not,
        "critical_ms": {"idle_p50": round(percentile(idle, 0.5) * 1e3, 1), "in_the_storm": round(under_load * 1e3, 1)},
        "ratio": {"critical": round(under_load / percentile(idle, 0.5), 2)},
        "processor_ms_per_alert": before.until(Used.now(pids), max(len(sent.taken), 1)),
        "worker_mb": resident_mb(worker.pid),
        "one_case": (await count_of(one)).told(),
    }


async def _worker_down(flood: int, how: Storming) -> dict[str, Any]:
    """Alerts for one host while no worker runs: when one starts, does the case ask, and how soon?"""
    made = [bench_alert(Row.MEDIUM_ALONE, 0, f"down-{n}", Priority.LOW) for n in range(flood)]
    async with Stage() as stage:
        sent = _Sent()
        await _send(_bridge(stage.client), made, how, sent)
        begun = time.monotonic()
        worker = await stage.worker("holdpoint-calls")
        asked: float | None = None
        while asked is None and time.monotonic() - begun < _ASKED_WITHIN:
            await asyncio.sleep(0.1)
            mails = worker.marks.refresh().times["mail"]
            asked = min((times[0] for times in mails.values()), default=None)
        kept = 0
        why_not: dict[str, int] = {}
        while kept < len(sent.taken) and time.monotonic() - begun < _ASKED_WITHIN:
            kept, why_not = await _kept(stage.client, sent.taken)
        read = time.monotonic() - begun
        deadlocks = worker.logged().count("TMPRL1101")
    return {
        "taken": len(sent.taken),
        "refused": dict(sent.refused),
        "asked_after_s": round(asked - begun, 1) if asked else None,
        "kept": kept,
        "kept_after_s": round(read, 1),
        "not_told": why_not,
        "deadlocks": deadlocks,
    }


async def run(*, alerts: int, hosts: int, flood: int, how: Storming) -> dict[str, Any]:
    """``alerts`` for ``hosts`` hosts, ``flood`` for one, and as many for one while no worker runs."""
    told: dict[str, Any] = {"worker_down": await _worker_down(flood, how)}
    for name, count, over in (("many_hosts", alerts, hosts), ("one_host", flood, 1)):
        made = [bench_alert(Row.MEDIUM_ALONE, n % over, f"storm-{n}", Priority.LOW) for n in range(count)]
        async with Stage() as stage:
            told[name] = {"hosts": over, **await _storm(stage, made, how)}
    return told
