"""Play the cells: each is a whole case on a dev server; what came of it is held against what the design names."""

from __future__ import annotations

import asyncio
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.worker import Worker

from activities.case import CaseActivities
from activities.pulse import Pulse
from incident.alert import parse_alert
from incident.policy import CasePolicy, GuardrailPolicy, OnUnanswered, Tier
from tests.faults.matrix import UNDELIVERABLE, Cell, expected
from tests.faults.wire import RULE, Front, Wire
from workflows.case import CaseInput
from workflows.suspicious_user_activity import SuspiciousUserActivity

QUEUE = "fault-matrix"
AT_ONCE = 32
SHARE = 50
"""Cells that share their stand-ins and a worker."""

PATIENCE = 60.0
ANALYST = "ana.lopez@acme.example"
_LONG, _SHORT, _WRITE_SHORT = timedelta(seconds=45), timedelta(seconds=8), timedelta(seconds=8)
_TOKEN: Final = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}\.[0-9a-f]{32}")
_HELD_STEPS = ("siem.comment_incident", "notification.notify")
_ENRICHES = ("siem.locate_host", "siem.score_risk", "siem.find_corroboration", "directory.find_person")

State = dict[str, Any]


@dataclass
class Played:
    """What came of a cell: the case's last word, its timeline, and where it is not as the design names it."""

    cell: Cell
    state: State = field(default_factory=dict)
    told: str = ""
    differences: list[str] = field(default_factory=list)


async def play_all(client: Client, folder: Path, cells: Sequence[Cell]) -> list[Played]:
    """Play the cells, many at once, in their order. Each share of them has a world of its own, small to search."""
    room = asyncio.Semaphore(AT_ONCE)
    shares = [cells[start : start + SHARE] for start in range(0, len(cells), SHARE)]
    with _quiet(), ThreadPoolExecutor(64) as executor:
        played = await asyncio.gather(
            *(_play_share(client, folder / str(n), share, executor, room) for n, share in enumerate(shares))
        )
    return [cell for share in played for cell in share]


async def _play_share(
    client: Client, folder: Path, cells: Sequence[Cell], executor: ThreadPoolExecutor, room: asyncio.Semaphore
) -> list[Played]:
    queue = f"{QUEUE}-{folder.name}"
    case = CaseActivities(client, _policy(cells[0]))
    async with (
        Wire(folder) as wire,
        Worker(
            client,
            task_queue=queue,
            workflows=[SuspiciousUserActivity],
            activities=[*wire.steps(), case.find_earlier, case.snapshot_policy],
            activity_executor=executor,
            interceptors=[Pulse()],
        ),
    ):
        return list(await asyncio.gather(*(_play(client, wire, queue, cell, room) for cell in cells)))


@contextmanager
def _quiet() -> Iterator[None]:
    """A thousand steps fail here on purpose; the SDK would write a traceback for each."""
    logger = logging.getLogger("temporalio")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            # A step may end by its own time-out before the server's word that it has to end arrives.
            warnings.filterwarnings("ignore", message="Cannot find activity to cancel")
            yield
    finally:
        logger.setLevel(before)


async def _play(client: Client, wire: Wire, queue: str, cell: Cell, room: asyncio.Semaphore) -> Played:
    played = Played(cell)
    async with room:
        front = await wire.prepare(cell, further=cell.step not in _HELD_STEPS)
        handle: WorkflowHandle[Any, State] = await client.start_workflow(
            "SuspiciousUserActivity",
            CaseInput(alert=parse_alert(_alert(wire, cell), "acme"), policy=_policy(cell)),
            id=cell.case_id,
            task_queue=queue,
            result_type=dict,
        )
        try:
            played.state = await asyncio.wait_for(_ends(wire, front, handle), PATIENCE)
        except (TimeoutError, WorkflowFailureError) as error:
            played.state = await handle.query("status", result_type=dict)
            played.differences.append(f"did not come to its end ({type(error).__name__}): {played.state}")
        played.told = str(await handle.query("timeline", result_type=str))
        played.differences += _wrong(cell, played.state, played.told) + _wrong_in_the_world(wire, front, played.state)
        if played.state["stage"] != "closed":
            await handle.terminate("the matrix has seen enough")
        played.differences += await _wrong_in_the_history(wire, handle)
    return played


async def _ends(wire: Wire, front: Front, handle: WorkflowHandle[Any, State]) -> State:
    """Answer what has to be answered; returns the case's last word."""
    cell, box = front.cell, front.mailbox or wire.mailbox
    asked = cell.step in ("siem.comment_incident", "ticketing.add_note")
    if expected(cell).stage != "closed" or asked or (cell.step == "notification.notify" and not cell.lasting):
        await box.wait_for(lambda mail: mail.recipients[0] in cell.tiers, PATIENCE)
        if expected(cell).stage != "closed":
            held: State = await handle.query("status", result_type=dict)
            return held
        decision = "contain" if cell.step == "ticketing.add_note" else "false_positive"
        answer = {"decision": decision, "analyst": ANALYST, "reason": "looked into it"}
        await handle.signal("analyst_decision", answer)
    return await handle.result()


def _alert(wire: Wire, cell: Cell) -> State:
    return {
        "id": f"FM-{cell.number}",
        "rule": RULE,
        "occurred_at": wire.began.isoformat(),
        "severity": "medium",
        "destination_ip": cell.ip,
        "siem_incident_id": cell.incident_id,
    }


def _policy(cell: Cell) -> CasePolicy:
    """Long budgets, and a short one for a step that fails for good."""
    containing = cell.step in ("directory.disable_account", "endpoint.quarantine_host")
    short = cell.step if cell.lasting and (containing or not cell.recovers) else ""
    mail = cell.step == "notification.notify"
    wait = timedelta(hours=1) if not mail else timedelta(seconds=3 if cell.lasting else 20)
    if cell.fault == UNDELIVERABLE:
        wait = timedelta(seconds=4)
    reads = (*_ENRICHES, "endpoint.find_device", "siem.comment_incident")
    writes = ("directory.disable_account", "endpoint.quarantine_host")
    confirms = ("directory.confirm_disabled", "endpoint.confirm_quarantined")
    tiers = [
        Tier(name=n, recipients=(a,), analysts=(ANALYST,), wait=wait) for n, a in zip("ab", cell.tiers, strict=True)
    ]
    protected = (cell.host,) if cell.step == "ticketing.add_note" else ()
    return CasePolicy(
        medium_at=30,
        high_at=70,
        lookback=timedelta(days=7),
        recheck_every=timedelta(hours=1),
        on_unanswered=OnUnanswered.CLOSE if mail else OnUnanswered.HOLD,
        enrich_within=_SHORT if short in reads else _LONG,
        contain_within=_WRITE_SHORT if short in writes else _LONG,
        verify_within=_WRITE_SHORT if short in (*writes, *confirms) else _LONG,
        ticket_within=_SHORT if short.startswith("ticketing.") or short == "siem.comment_incident" else _LONG,
        tiers=tuple(tiers),
        guardrails=GuardrailPolicy(max_per_hour=10**6, protected_hosts=protected),
    )


def _wrong(cell: Cell, state: State, timeline: str) -> list[str]:
    """Where the case's own word is not what the design names."""
    wanted = expected(cell)
    failed = [action["action"] for action in state["actions"] if action["state"] != "verified"]
    told = {
        "stage": (state["stage"], wanted.stage),
        "outcome": (state["outcome"], wanted.outcome),
        "ticket": ((state["ticket"] or {}).get("state"), wanted.ticket),
        "actions that are not verified": (failed, [wanted.failed] if wanted.failed else []),
    }
    wrong = [f"{what} is {seen}, not {right}" for what, (seen, right) in told.items() if seen != right]
    if wanted.unknown:
        fact = state[wanted.unknown]
        if fact["known"] or not fact["reason"]:
            wrong.append(f"{wanted.unknown} is {fact}, and has to be unknown with a reason")
        elif fact["reason"] not in str((state["question"] or {}).get("why")):
            wrong.append(f"the question does not say why it is unknown, {fact['reason']!r}: {state['question']}")
    if wanted.told and wanted.told not in timeline:
        wrong.append(f"the timeline does not say {wanted.told!r}:\n{timeline}")
    if cell.recovers and "could not be" in timeline:
        wrong.append(f"it did not recover:\n{timeline}")
    unchanged = {"disable_account": {"userAccountControl": "512"}, "quarantine_host": {"status": "normal"}}
    for action in state["actions"]:
        if action["state"] == "verified" and action["before"] not in (unchanged[action["action"]], None):
            wrong.append(f"before {action['action']} it was {action['before']}")
        if action["state"] == "verified" and action["before"] is None and cell.recovers:
            wrong.append(f"the state before {action['action']} is lost")
    return wrong


def _wrong_in_the_world(wire: Wire, front: Front, state: State) -> list[str]:
    """Where the stand-ins do not hold just what the design names, each effect once."""
    cell, wanted = front.cell, expected(front.cell)
    key = "hp-" + str(state["reference"]).removeprefix("HP-").lower()
    dn = wire.tree.named(cell.account).dn.casefold()
    device = wire.falcon.device(cell.host)
    rows = [row for row in wire.tickets.rows() if row["correlation_id"].startswith(key)]
    box = front.mailbox or wire.mailbox
    mails = [mail for mail in box.messages if set(mail.recipients) & set(cell.tiers)]
    subjects = [str(mail.message["Subject"]) for mail in mails]
    ids = [str(mail.message["Message-ID"]) for mail in mails]
    counts = {
        "changes of the account": (wire.tree.changes[dn], int(wanted.disabled)),
        "account is disabled": (bool(wire.directory.uac(cell.account) & 2), wanted.disabled),
        "quarantines": (sum(found == device.device_id for found, _ in wire.falcon.actions), int(wanted.quarantined)),
        "host is touched": (device.status != "normal", wanted.quarantined),
        "tickets": (len(rows), int(wanted.ticket == "open")),
        "notes": (sum(len(wire.tickets.notes(row["sys_id"])) for row in rows), wanted.notes),
        "comments": (len(wire.siem.incidents[cell.incident_id].comments), wanted.comments),
        "mails about what is left": (sum("Case update" in subject for subject in subjects), int(wanted.tier_told)),
    }
    if not (cell.integration == "notification" and cell.fault == "connection lost after DATA"):
        counts["mails that came again"] = (len(ids) - len(set(ids)), 0)
    wrong = [f"{what}: {seen}, not {right}" for what, (seen, right) in counts.items() if seen != right]
    facts = [state[fact]["known"] for fact in ("user", "risk", "corroboration")]
    if not all(facts) and state["actions"] and not (state["decision"] or {}).get("analyst"):
        wrong.append(f"acted on an unknown fact: {state['actions']}")
    return wrong


async def _wrong_in_the_history(wire: Wire, handle: WorkflowHandle[Any, State]) -> list[str]:
    history = await handle.fetch_history()
    raw = b"\n".join(event.SerializeToString() for event in history.events)
    wrong = [f"a secret stands in the history: {secret!r}" for secret in wire.secrets if secret in raw]
    if set(_TOKEN.findall(raw)) & wire.tokens:
        wrong.append("a token stands in the history")
    crashes = (EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED)
    for event in history.events:
        cause = event.workflow_task_failed_event_attributes.cause
        # The server begins a task anew when something arrived meanwhile, and calls that a failed one.
        if (
            event.event_type in crashes
            and cause != WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
        ):
            wrong.append(f"the workflow crashed: {event}")
    return wrong
