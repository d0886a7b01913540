"""The commands about undoing a containment: release what a case did, or renew its lease."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import terminal
from cases import release_case, released, renew_lease
from commands import Case, Json, Leave, app, run
from connection import connect_temporal
from incident.text import plain

Analyst = Annotated[str, typer.Option(help="Your mail address, as a tier names it.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the record and the ticket.")]


@app.command()
def release(
    case: Case,
    analyst: Analyst,
    reason: Reason,
    action: Annotated[
        list[str] | None, typer.Option(help="Undo this alone: quarantine_host or disable_account.")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run", help="The case's run; without it, its latest one that changed anything.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is verified.")] = True,
    as_json: Json = False,
) -> None:
    """Undo what a case contained: exactly what it changed, and only where that still stands."""
    analyst = plain(analyst)
    actions = [plain(word) for word in action] if action else None

    async def work() -> dict[str, Any]:
        client = await connect_temporal(identity=analyst)
        receipt = await release_case(
            client, case, analyst=analyst, reason=plain(reason, limit=2000), actions=actions, run_id=run_id
        )
        if not as_json:
            terminal.say(f"release taken for {receipt['case_id']} (run {receipt['run_id']})")
        return {**receipt, **(await released(client, receipt) if wait else {})}

    told = run(work(), as_json=as_json)
    if as_json:
        terminal.print_json(told)
    elif wait:
        _say(told)
    if wait and not _well(told):
        raise Leave(1)


def _say(told: dict[str, Any]) -> None:
    for undo in told["actions"]:
        terminal.say(f"{undo['action']} {undo['target'] or '-'}: {undo['state']} {undo['detail']}".rstrip())
    terminal.say(f"outcome {told['outcome'] or told['stage']}")


def _well(told: dict[str, Any]) -> bool:
    """Released, or, where a lease goes on for the rest, all that was asked for is verified."""
    if told["outcome"]:
        return bool(told["outcome"] == "released")
    return bool(told["actions"]) and all(undo["state"] == "verified" for undo in told["actions"])


@app.command()
def renew(
    case: Case,
    analyst: Analyst,
    reason: Reason,
    question: Annotated[str | None, typer.Option(help="The question you answer; refused if it was withdrawn.")] = None,
    as_json: Json = False,
) -> None:
    """Let a containment stand for another lease, when its lease nears the end and the question stands."""
    analyst = plain(analyst)

    async def work() -> dict[str, Any]:
        client = await connect_temporal(identity=analyst)
        return await renew_lease(
            client,
            case,
            analyst=analyst,
            reason=plain(reason, limit=2000),
            question=plain(question) if question else None,
        )

    receipt = run(work(), as_json=as_json)
    if as_json:
        terminal.print_json(receipt)
    else:
        terminal.say(f"renewed for {receipt['case_id']} (question {receipt['question']})")
