"""What a team would write instead: a script that does the same in memory. What is lost with it is everything."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.as_shipped import bench_alert, shipped_policy
from benchmarks.floor import CaseSubject, idle, in_flight, measured_shape
from benchmarks.instant import Row, instant_clients
from benchmarks.marks import Marks
from benchmarks.measure import Used, milliseconds
from benchmarks.stage import Stage
from clients import Clients
from incident.alert import Alert
from incident.evidence import Fact
from incident.policy import CasePolicy
from incident.requests import (
    AccountRef,
    DeviceRef,
    FindCorroboration,
    LocateHost,
    ScoreRisk,
    StartingAlert,
    TicketDraft,
)
from incident.triage import ActionName, Corroborated, decide, raise_for_risk


async def contain(clients: Clients, alert: Alert, policy: CasePolicy) -> str:
    """Enrich, decide by the table, write, read back, open the ticket; returns the ticket's number.

    Without Temporal, mail, guardrails or record: a crash anywhere in it forgets the case.
    """
    located = await clients.siem.locate(LocateHost(ip=alert.destination_ip, at=alert.occurred_at))
    host, account = located.host.value, located.account.value
    if host is None or account is None:
        raise LookupError(alert.destination_ip)
    person, device = await asyncio.gather(
        asyncio.to_thread(clients.directory.find_person, account),
        clients.endpoint.find_device(host.name, alert.destination_ip),
    )
    starting = StartingAlert(rule=alert.rule, destination_ip=alert.destination_ip, occurred_at=alert.occurred_at)
    risk, further = await asyncio.gather(
        clients.siem.risk(ScoreRisk(account=account)),
        clients.siem.corroboration(
            FindCorroboration(
                starting_alert=starting, ip=alert.destination_ip, since=alert.occurred_at - policy.lookback
            )
        ),
    )
    level = policy.level(Fact.of(risk, "Securonix", alert.occurred_at))
    priority = raise_for_risk(alert.severity, level)
    verdict = decide(priority, level, Corroborated.YES if further.found else Corroborated.NO)
    if ActionName.QUARANTINE_HOST not in verdict.actions:
        raise LookupError("only row 1 is written here")
    cut = DeviceRef(id=device.id, hostname=device.hostname)
    off = AccountRef(dn=person.dn, guid=person.guid, account=person.account)
    await asyncio.gather(clients.endpoint.quarantine(cut), asyncio.to_thread(clients.directory.disable, off))
    await asyncio.gather(clients.endpoint.read_back(cut), asyncio.to_thread(clients.directory.read_back, off))
    draft = TicketDraft(key=alert.id, title=alert.rule or "", description=alert.id, priority=verdict.priority)
    return (await clients.ticketing.open_ticket(draft)).number


async def _script(total: int, policy: CasePolicy) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="holdpoint-bench-") as folder:
        marks = Marks(Path(folder) / "marks", all_calls=False)
        clients, took = instant_clients(marks), []
        for number in range(-10, total):
            alert = bench_alert(Row.HIGH_CORROBORATED, number + 10, f"plain-{number}")
            begun = time.monotonic()
            await contain(clients, alert, policy)
            took.append(time.monotonic() - begun)
        before = Used.now({"script": os.getpid()})
        for number in range(total):
            await contain(clients, bench_alert(Row.HIGH_CORROBORATED, number + 10_000, f"more-{number}"), policy)
        used = before.until(Used.now({"script": os.getpid()}), total)
        marks.close()
    return {"to_end_ms": milliseconds(took[10:]), "processor_ms": used}


async def run(*, total: int) -> dict[str, Any]:
    """Measure the script and Holdpoint, one case at a time and then in flight for the processor time."""
    policy = shipped_policy()
    async with Stage() as stage:
        worker = await stage.worker("holdpoint")
        await measured_shape(stage, policy, 65_001)
        case = CaseSubject(stage.client, worker, policy)
        await in_flight(case, 20)
        script = await _script(total, policy)
        to_write, to_end = await idle(case, total)
        pids = {"server": stage.server.pid, "worker": worker.pid}
        before = Used.now(pids)
        await in_flight(case, total)
        used = before.until(Used.now(pids), total)
    ours, theirs = milliseconds(to_end), script["to_end_ms"]
    return {
        "script": script,
        "holdpoint": {"to_write_ms": milliseconds(to_write), "to_end_ms": ours, "processor_ms": used},
        "durability_ms": round(ours["p50"] - theirs["p50"], 1),
        "durability_processor_ms": round(sum(used.values()) - script["processor_ms"]["script"], 1),
        "ratio": {"p50_to_end": round(ours["p50"] / theirs["p50"], 1)},
    }
