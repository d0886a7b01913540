"""Play the cells: each is a whole case on a dev server; what came of it is held against what the design names."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import tomllib
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.service import RPCError
from temporalio.worker import Worker

from activities.case import CaseActivities
from activities.pulse import Pulse
from cases import release_case, released
from incident.alert import parse_alert
from incident.policy import CasePolicy, GuardrailPolicy, OnUnanswered, Tier
from incident.polling import PollInput
from lab.servers import ROOT
from polling import taking
from settings import Settings
from tests.faults.matrix import (
    ATTACH,
    ELECTORATE,
    ELSEWHERE,
    POLL,
    POST,
    RELEASES,
    REVOKE,
    UNDELIVERABLE,
    Cell,
    expected,
)
from tests.faults.wire import RULE, Front, Wire
from tests.faults.world import wrong_in_the_world
from workflows.case import CaseInput
from workflows.poll_incidents import IncidentPoller
from workflows.release_containment import ReleaseContainment
from workflows.suspicious_user_activity import SuspiciousUserActivity

QUEUE = "fault-matrix"
AT_ONCE = 32
SHARE = 50
"""Cells that share their stand-ins and a worker."""

PATIENCE = 90.0
ANALYST = "ana.lopez@acme.example"
_LONG, _SHORT, _WRITE_SHORT = timedelta(seconds=45), timedelta(seconds=8), timedelta(seconds=8)
_TOKEN: Final = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}\.[0-9a-f]{32}")
_HELD_STEPS = ("siem.comment_incident", "notification.notify", ELECTORATE)
_READS = (
    *("siem.locate_host", "siem.score_risk", "siem.find_corroboration", "directory.find_person"),
    *("endpoint.find_device", "siem.comment_incident", ATTACH),
)
_WRITES = (
    *("directory.disable_account", "directory.enable_account"),
    *("endpoint.quarantine_host", "endpoint.lift_quarantine"),
)
_CONFIRMS = (
    *("directory.confirm_disabled", "directory.confirm_enabled", ELSEWHERE),
    *("endpoint.confirm_quarantined", "endpoint.confirm_lifted"),
)
"""The steps by the budget that they share."""

State = dict[str, Any]


@dataclass
class Played:
    """What came of a cell: the case's last word, its timeline, and where it is not as the design names it."""

    cell: Cell
    state: State = field(default_factory=dict)
    told: str = ""
    release: State = field(default_factory=dict)
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
    case = CaseActivities(client, policy(cells[0]))
    async with (
        Wire(folder) as wire,
        Worker(
            client,
            task_queue=queue,
            workflows=[SuspiciousUserActivity, ReleaseContainment, IncidentPoller],
            activities=[*wire.steps(), case.find_earlier, case.snapshot_policy, case.containment_of],
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
        handle: WorkflowHandle[Any, State] = client.get_workflow_handle(cell.case_id, result_type=dict)
        if cell.step != POLL:
            given = CaseInput(alert=parse_alert(_alert(wire, cell), "acme"), policy=policy(cell))
            await client.start_workflow("SuspiciousUserActivity", given, id=cell.case_id, task_queue=queue)
        elif not await _polled(client, wire, front, queue, played):
            return played
        try:
            played.state = await asyncio.wait_for(_ends(wire, front, handle), PATIENCE)
            if cell.step in RELEASES:
                await asyncio.wait_for(_undone(client, wire, queue, played), PATIENCE)
        except (TimeoutError, WorkflowFailureError) as error:
            played.state = await _asked(handle, "status")
            played.differences.append(f"did not come to its end ({type(error).__name__}): {played.state}")
        played.told = str(await _asked(handle, "timeline"))
        played.differences += _wrong(cell, played.state, played.told) + wrong_in_the_world(wire, front, played.state)
        if played.state["stage"] != "closed":
            await handle.terminate("the matrix has seen enough")
        played.differences += await _wrong_in_the_history(wire, handle)
    return played


async def _polled(client: Client, wire: Wire, front: Front, queue: str, played: Played) -> bool:
    """A run of the poller that meets the cell's incident; tells whether there is a case of it now."""
    cell = front.cell
    assert front.siem is not None
    front.take = taking(client, _settings(cell), front.client, task_queue=queue)
    given = PollInput(
        since=wire.began - timedelta(minutes=1),
        overlap=timedelta(minutes=1),
        within=_SHORT if cell.lasting else _LONG,
    )
    handle = await client.start_workflow("IncidentPoller", given, id=f"poll-{cell.case_id}", task_queue=queue)
    try:
        await handle.result()
    except WorkflowFailureError:
        failed = True
    else:
        failed = False
    if failed is not (expected(cell).stage is None):
        played.differences.append(f"the poller's run {'failed' if failed else 'did not fail'}")
    if failed:
        with contextlib.suppress(RPCError):
            await client.get_workflow_handle(cell.case_id).describe()
            played.differences.append("a run that read nothing has started a case")
    played.differences += await _wrong_in_the_history(wire, handle)
    return not failed


def _settings(cell: Cell) -> Settings:
    """Settings by which the poller makes cases that are steered as the cell's."""
    example = _example()
    steered = SimpleNamespace(bridge=example.bridge, securonix=example.securonix, case_policy=lambda: policy(cell))
    return cast(Settings, steered)


@cache
def _example() -> Settings:
    tree = tomllib.loads((ROOT / "holdpoint.example.toml").read_text(encoding="utf-8"))
    for section in (tree["securonix"], tree["directory"], tree["ticketing"]["servicenow"]):
        section["password"] = "x"
    tree["endpoint"]["crowdstrike"]["client_secret"] = "x"
    tree["securonix"]["tenant"] = "acme"
    tree["record"]["attach"] = False
    return Settings(**tree)


async def _undone(client: Client, wire: Wire, queue: str, played: Played) -> None:
    """The case is released by who may."""
    cell, wanted = played.cell, expected(played.cell)
    why = "it was the nightly backup"
    receipt = await release_case(client, cell.case_id, analyst=ANALYST, reason=why, task_queue=queue)
    played.release = told = await released(client, receipt)
    left = [undo["action"] for undo in told["actions"] if undo["state"] != "verified"]
    if (told["outcome"], left) != (wanted.released, [wanted.left] if wanted.left else []):
        played.differences.append(f"its release is {told['outcome']} and leaves {left}")
    handle = client.get_workflow_handle(f"release-{cell.case_id}", run_id=receipt["release_run_id"])
    played.differences += await _wrong_in_the_history(wire, handle)


async def _ends(wire: Wire, front: Front, handle: WorkflowHandle[Any, State]) -> State:
    """Answer what has to be answered; returns the case's last word."""
    cell, box = front.cell, front.mailbox or wire.mailbox
    if expected(cell).stage != "closed" or cell.answered or (cell.step == "notification.notify" and not cell.lasting):
        await box.wait_for(lambda mail: mail.recipients[0] in cell.tiers, PATIENCE)
        if expected(cell).stage != "closed":
            held: State = await _asked(handle, "status")
            return held
        decision = "contain" if cell.step == "ticketing.add_note" else "false_positive"
        answer = {"decision": decision, "analyst": ANALYST, "reason": "looked into it"}
        await handle.signal("analyst_decision", answer)
    return await handle.result()


async def _asked(handle: WorkflowHandle[Any, State], query: str) -> Any:
    """The answer of a query. A worker with hundreds of cases at hand may take longer than a call waits."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(RPCError):
                return await handle.query(query)


def _alert(wire: Wire, cell: Cell) -> State:
    return {
        "id": f"FM-{cell.number}",
        "rule": RULE,
        "occurred_at": wire.began.isoformat(),
        "severity": "medium",
        "destination_ip": cell.ip,
        "siem_incident_id": cell.incident_id,
    }


def policy(cell: Cell) -> CasePolicy:
    """Long budgets, and a short one for a step that fails for good."""
    containing = cell.step in _WRITES
    short = cell.step if cell.lasting and (containing or not cell.recovers) else ""
    mail = cell.step == "notification.notify"
    wait = timedelta(hours=1) if not mail else timedelta(seconds=3 if cell.lasting else 20)
    if cell.fault == UNDELIVERABLE:
        wait = timedelta(seconds=4)
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
        enrich_within=_SHORT if short in _READS else _LONG,
        contain_within=_WRITE_SHORT if short in (*_WRITES, REVOKE) else _LONG,
        verify_within=_WRITE_SHORT if short in (*_WRITES, *_CONFIRMS) else _LONG,
        ticket_within=_SHORT if short.startswith("ticketing.") or short == "siem.comment_incident" else _LONG,
        revoke_sign_ins=cell.step == REVOKE,
        attach_record=cell.step == ATTACH,
        ask_directory=cell.step == ELECTORATE,
        chat=cell.step == POST,
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


async def _wrong_in_the_history(wire: Wire, handle: WorkflowHandle[Any, State]) -> list[str]:
    history = await handle.fetch_history()
    raw = b"\n".join(event.SerializeToString() for event in history.events)
    wrong = [f"a secret stands in the history: {secret!r}" for secret in wire.secrets if secret in raw]
    if set(_TOKEN.findall(raw)) & wire.tokens:
        wrong.append("a token stands in the history")
    crashes = [EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED]
    if not handle.id.startswith("poll-"):
        # A poller's run that could read nothing fails by design: the next one begins where it did.
        crashes.append(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED)
    for event in history.events:
        cause = event.workflow_task_failed_event_attributes.cause
        # The server begins a task anew when something arrived meanwhile, and calls that a failed one.
        if (
            event.event_type in crashes
            and cause != WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND
        ):
            wrong.append(f"the workflow crashed: {event}")
    return wrong
