"""The command line: start, answer and look at cases. The same as functions for programs stands in ``cases``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

import containment_commands  # noqa: F401 - its commands register themselves
import poll_commands  # noqa: F401 - its commands register themselves
import record_commands  # noqa: F401 - its commands register themselves
import release_commands  # noqa: F401 - its commands register themselves
import telemetry
import terminal
from cases import (
    CaseRefused,
    Started,
    case_status,
    decide_case,
    list_cases,
    queried,
    register_search_attributes,
    release_case,
    released,
    renew_lease,
    start_incident,
)
from commands import Case, Json, Leave, app, run
from connection import connect_temporal
from incident.alert import Alert, AlertRefused, parse_alert
from incident.decision import read_answer
from incident.text import plain
from settings import Settings, SettingsRefused, load_settings

__all__ = [
    "CaseRefused",
    "Started",
    "app",
    "case_status",
    "decide_case",
    "list_cases",
    "main",
    "register_search_attributes",
    "release_case",
    "released",
    "renew_lease",
    "start_incident",
]


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

    told = run(work(), as_json=as_json)
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
            terminal.say(await queried(client, case, "timeline", str))

    run(work(), as_json=as_json)


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Closed cases too.")] = False, as_json: Json = False
) -> None:
    """List the open cases."""

    async def work() -> list[dict[str, Any]]:
        return await list_cases(await connect_temporal(), everything=everything)

    rows = run(work(), as_json=as_json)
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

    receipt = run(work(), as_json=as_json)
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
    from serving import worker_settings  # noqa: PLC0415

    async def work() -> list[dict[str, Any]]:
        settings = worker_settings()
        clients = connect(settings)
        try:
            return [check.model_dump() for check in await examine(settings, clients)]
        finally:
            await clients.aclose()

    checks = run(work(), as_json=as_json)
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

    done = run(work(), as_json=as_json)
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
