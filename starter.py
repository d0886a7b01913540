"""Start, answer and look at cases: the command line, and the same as functions for programs (a SIEM bridge)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.client import WorkflowUpdateRPCTimeoutOrCancelledError as UpdateTimedOut
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from typer.exceptions import TyperException

import telemetry
import terminal
from connection import TASK_QUEUE, TemporalUnreachable, connect_temporal
from incident.alert import Alert, AlertRefused, parse_alert
from incident.decision import AnswerRefused, read_answer
from incident.evidence import Frozen
from incident.policy import CasePolicy
from incident.text import plain
from settings import Settings, SettingsRefused, load_settings
from workflows import search_attributes

WORKFLOW = "SuspiciousUserActivity"
NO_WORKER = timedelta(seconds=10)
"""How long an answer of a worker is waited for before saying that none runs."""

_NO_SUCH_CASE = "there is no case {}; 'python starter.py list --all' shows them"

T = TypeVar("T")


class Started(Frozen):
    """A case that an alert has started or joined."""

    case_id: str
    run_id: str
    joined: bool


class CaseRefused(Exception):
    """What was asked for cannot be done; the message says why and what to do."""


async def start_incident(
    client: Client,
    alert: Alert | dict[str, Any] | str,
    *,
    policy: CasePolicy | None = None,
    task_queue: str = TASK_QUEUE,
) -> Started:
    """Start the case of an alert, or let the alert join the case that is open for its host.

    Returns as soon as Temporal has the alert: from then on it is not lost. ``policy`` is the settings snapshot;
    without it the worker's settings hold.

    Raises:
        AlertRefused: the alert is faulty; nothing was started.
        RPCError: Temporal did not take it; try again, nothing doubles.
    """
    if not isinstance(alert, Alert):
        alert = parse_alert(alert)
    payload = alert.model_dump(mode="json")
    handle = await client.start_workflow(
        WORKFLOW,
        {"alert": payload, "policy": policy.model_dump(mode="json") if policy else None},
        id=alert.case_id,
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        start_signal="alert",
        start_signal_args=[payload],
        search_attributes=search_attributes.at_start(alert.id, alert.severity.value),
        static_summary=plain(f"{alert.rule or 'Suspicious user activity'}: {alert.destination_ip}", limit=190),
        static_details=plain(f"Alert {alert.id}, transfer to {alert.destination_ip} at {alert.occurred_at}"),
    )
    # Whether it started or joined is in the server's answer only, and the SDK (pinned) keeps that behind an underscore.
    response = handle._start_workflow_response
    joined = not getattr(response, "started", True)
    return Started(case_id=alert.case_id, run_id=handle.result_run_id or "", joined=joined)


async def decide_case(client: Client, case_id: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Answer a case's question; returns the receipt. The same answer twice gives the same receipt.

    Raises:
        CaseRefused: the answer does not count, there is no such case, or no worker runs.
    """
    digest = hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()[:24]
    try:
        receipt: dict[str, Any] = await _case(client, case_id).execute_update(
            "decide", answer, id=f"decide-{digest}", result_type=dict[str, Any], rpc_timeout=NO_WORKER
        )
    except WorkflowUpdateFailedError as error:
        cause = error.cause
        raise CaseRefused(cause.message if isinstance(cause, ApplicationError) else str(cause)) from None
    except UpdateTimedOut:
        raise CaseRefused(
            "no worker answered, so the answer may not be kept. Start a worker, or leave it as a signal:\n"
            f"  temporal workflow signal --workflow-id {shlex.quote(case_id)} --name analyst_decision"
            f" --input {shlex.quote(json.dumps(answer))}"
        ) from None
    except RPCError as error:
        raise CaseRefused(await _why_no_case(client, case_id, error)) from None
    return receipt


async def case_status(client: Client, case_id: str) -> dict[str, Any]:
    """The case as the query ``status`` answers it.

    Raises:
        CaseRefused: there is no such case, or no worker runs.
    """
    return await _queried(client, case_id, "status", dict[str, Any])


async def _queried(client: Client, case_id: str, query: str, result: type[T]) -> T:
    try:
        answer: T = await _case(client, case_id).query(query, result_type=result, rpc_timeout=NO_WORKER)
    except RPCError as error:
        raise CaseRefused(await _why_no_case(client, case_id, error)) from None
    except WorkflowQueryFailedError as error:
        raise CaseRefused(f"{plain(case_id)} does not answer as a case does: {plain(error.message)}") from None
    return answer


def _case(client: Client, case_id: str) -> WorkflowHandle[Any, Any]:
    if not case_id.isprintable() or not case_id.strip():
        raise CaseRefused(_NO_SUCH_CASE.format(plain(case_id)))
    return client.get_workflow_handle(case_id)


async def _why_no_case(client: Client, case_id: str, error: RPCError) -> str:
    if error.status in (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.CANCELLED):
        return f"no worker answers for {plain(case_id)}: start one with 'python worker.py'"
    if error.status is not RPCStatusCode.NOT_FOUND or "namespace" in error.message.lower():
        return f"Temporal refused: {plain(error.message)}"
    try:
        found = await client.get_workflow_handle(case_id).describe()
    except RPCError:
        return _NO_SUCH_CASE.format(plain(case_id))
    outcome = _row(found)["outcome"]
    return f"case {plain(case_id)} is closed{f' ({outcome})' if outcome else ''}: no question stands"


async def list_cases(client: Client, *, everything: bool = False, limit: int = 200) -> list[dict[str, Any]]:
    """The open cases, the latest first; with ``everything`` the closed ones too, as far as Temporal keeps them."""
    query = f"WorkflowType = '{WORKFLOW}'" + ("" if everything else " AND ExecutionStatus = 'Running'")
    return [_row(run) async for run in client.list_workflows(query, limit=limit)]


def _row(run: WorkflowExecution) -> dict[str, Any]:
    attributes = run.typed_search_attributes
    due = attributes.get(search_attributes.DUE)
    return {
        "case_id": run.id,
        "run_id": run.run_id,
        "stage": attributes.get(search_attributes.STAGE),
        "priority": attributes.get(search_attributes.PRIORITY),
        "risk": attributes.get(search_attributes.RISK),
        "user": attributes.get(search_attributes.USER),
        "host": attributes.get(search_attributes.HOST),
        "alerts": list(attributes.get(search_attributes.ALERTS) or ()),
        "decision_due_at": due.isoformat() if due else None,
        "outcome": attributes.get(search_attributes.OUTCOME),
        "started_at": run.start_time.isoformat(),
        "execution": run.status.name.lower() if run.status is not None else None,
    }


async def register_search_attributes(client: Client) -> dict[str, list[str]]:
    """Register what cases are found by. Idempotent.

    Raises:
        CaseRefused: one of the names is registered already with another type.
    """
    listed = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    kinds = {key.name: _kind(key.indexed_value_type) for key in search_attributes.ALL}
    wrong = [n for n, kind in kinds.items() if n in listed.custom_attributes and listed.custom_attributes[n] != kind]
    if wrong:
        raise CaseRefused(f"registered with another type: {', '.join(wrong)}; remove them or use another namespace")
    missing = {name: kind for name, kind in kinds.items() if name not in listed.custom_attributes}
    if missing:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=missing)
        )
    return {"created": sorted(missing), "present": sorted(set(kinds) - set(missing))}


def _kind(value: Any) -> IndexedValueType.ValueType:
    return IndexedValueType.Value(f"INDEXED_VALUE_TYPE_{value.name}")


app = typer.Typer(
    help="Holdpoint: start, answer and look at cases.",
    add_completion=False,
    rich_markup_mode=None,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Case = Annotated[str, typer.Argument(metavar="CASE", help="The case id (the workflow id).")]


class Leave(Exception):
    """Ends the command with an exit code; what there was to say has been said."""

    def __init__(self, code: int) -> None:
        self.code = code


def _fail(as_json: bool, code: int, lines: Sequence[str]) -> NoReturn:
    if as_json:
        terminal.print_json({"error": lines[0], "faults": list(lines)})
    for line in lines:
        terminal.complain(line)
    raise Leave(code)


def _run(work: Coroutine[Any, Any, T], *, as_json: bool) -> T:
    """Run a command's work; every foreseen failure becomes its lines and its exit code."""
    try:
        return asyncio.run(work)
    except (AlertRefused, SettingsRefused) as error:
        _fail(as_json, 2, error.faults)
    except AnswerRefused as error:
        _fail(as_json, 2, [str(error)])
    except (CaseRefused, TemporalUnreachable) as error:
        _fail(as_json, 1, [str(error)])
    except RPCError as error:
        hint = "; 'python starter.py setup' registers them" if "search attribute" in error.message else ""
        _fail(as_json, 1, [f"Temporal refused: {plain(error.message)}{hint}"])


@app.command()
def start(
    alert: Annotated[str, typer.Argument(metavar="ALERT", help="A JSON file, or - for standard input.")],
    wait: Annotated[bool, typer.Option("--wait", help="Show the case live until it closes.")] = False,
    as_json: Json = False,
) -> None:
    """Start the case of an alert, or let it join the case that is open for its host."""

    async def work() -> dict[str, Any]:
        parsed, settings = _alert_and_settings(_read(alert))
        client = await connect_temporal()
        started = await start_incident(client, parsed, policy=settings.case_policy())
        if not as_json:
            terminal.say(f"{'joined' if started.joined else 'started'} {started.case_id} (run {started.run_id})")
        followed = await terminal.follow(client, started.case_id, started.run_id, quiet=as_json) if wait else {}
        return {**started.model_dump(), **followed}

    told = _run(work(), as_json=as_json)
    if as_json:
        terminal.print_json(told)
    if wait and told.get("outcome") in (None, "containment_failed"):
        raise Leave(1)


def _alert_and_settings(raw: bytes) -> tuple[Alert, Settings]:
    """Both, or the faults of both at once."""
    faults: list[str] = []
    try:
        parse_alert(raw)
    except AlertRefused as error:
        faults += error.faults
    try:
        settings = load_settings(secrets_needed=False)
    except SettingsRefused as error:
        faults += error.faults
    if faults:
        raise AlertRefused(faults)
    return parse_alert(raw, settings.securonix.tenant), settings


def _read(source: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise AlertRefused([f"{source}: {error.strerror}"]) from None


@app.command()
def status(case: Case, as_json: Json = False) -> None:
    """Show one case: its facts, what it waits for, and what happened."""

    async def work() -> None:
        client = await connect_temporal()
        if as_json:
            terminal.print_json(await case_status(client, case))
        else:
            terminal.say(await _queried(client, case, "timeline", str))

    _run(work(), as_json=as_json)


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Closed cases too.")] = False, as_json: Json = False
) -> None:
    """List the open cases."""

    async def work() -> list[dict[str, Any]]:
        return await list_cases(await connect_temporal(), everything=everything)

    rows = _run(work(), as_json=as_json)
    if as_json:
        terminal.print_json(rows)
    else:
        terminal.print_cases(rows)


@app.command()
def decide(
    case: Case,
    decision: Annotated[str, typer.Argument(metavar="contain|false_positive")],
    analyst: Annotated[str, typer.Option(help="Your mail address, as a tier names it.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the record and the ticket.")],
    action: Annotated[
        list[str] | None, typer.Option(help="Narrow contain: quarantine_host or disable_account.")
    ] = None,
    question: Annotated[str | None, typer.Option(help="The question you answer; refused if it was withdrawn.")] = None,
    as_json: Json = False,
) -> None:
    """Answer a case's question."""
    analyst = plain(analyst)
    answer: dict[str, Any] = {"decision": plain(decision), "analyst": analyst, "reason": plain(reason, limit=2000)}
    if action:
        answer["actions"] = [plain(word) for word in action]
    if question:
        answer["question"] = plain(question)

    async def work() -> dict[str, Any]:
        read_answer(answer)
        return await decide_case(await connect_temporal(identity=analyst), case, answer)

    receipt = _run(work(), as_json=as_json)
    if as_json:
        terminal.print_json(receipt)
    else:
        terminal.say(f"{receipt['decision']} taken for {receipt['case_id']} (question {receipt['question']})")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check Temporal and every integration, read-only: reachable, certificate, credentials, rights, clock."""
    # No other command talks to a vendor, and the vendors' libraries are half of the time that a command takes.
    from clients import connect  # noqa: PLC0415
    from doctor import examine  # noqa: PLC0415

    async def work() -> list[dict[str, Any]]:
        settings = load_settings()
        clients = connect(settings)
        try:
            return [check.model_dump() for check in await examine(settings, clients)]
        finally:
            await clients.aclose()

    checks = _run(work(), as_json=as_json)
    if as_json:
        terminal.print_json(checks)
    else:
        terminal.print_checks(checks)
    if not all(check["ok"] for check in checks):
        raise Leave(1)


@app.command()
def setup(as_json: Json = False) -> None:
    """Register the search attributes in Temporal. Safe to repeat."""

    async def work() -> dict[str, list[str]]:
        return await register_search_attributes(await connect_temporal())

    done = _run(work(), as_json=as_json)
    if as_json:
        terminal.print_json(done)
    else:
        terminal.say(
            f"created: {', '.join(done['created']) or 'none'}; present: {', '.join(done['present']) or 'none'}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0 done, 1 refused or failed, 2 bad input or settings."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(given or ["--help"], standalone_mode=False)
    except Leave as leave:
        return leave.code
    except typer.Exit as leave:
        return leave.exit_code
    except typer.Abort:
        return 1
    except TyperException as error:
        terminal.complain(f"{error.format_message()} (see --help)")
        return 2
    return 0 if given else 2


if __name__ == "__main__":
    code = main()
    telemetry.finish(timedelta(seconds=2))
    sys.stdout.flush()
    sys.stderr.flush()
    # The SDK's threads can crash an interpreter that tears itself down (measured: 2 of 40 runs), and with it the code.
    os._exit(code)
