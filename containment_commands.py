"""The commands about containment as a whole: freeze, thaw, the ledger, and the report on the guardrails."""

from __future__ import annotations

import getpass
import socket
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

import terminal
from commands import Json, app, run
from connection import connect_temporal
from guardrail_report import MOST_CASES, guardrail_report
from incident.budget import read_switch, used_words
from incident.text import plain
from ledger import freeze_containment, ledger_status, thaw_containment
from settings_values import Duration

_DURATION: TypeAdapter[timedelta] = TypeAdapter(Duration)
By = Annotated[
    str | None,
    typer.Option("--by", "--analyst", help="Your mail address; without it your login name on this machine."),
]


def _me() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user that has no name
        name = "somebody"
    return f"{name}@{socket.gethostname()}"


@app.command()
def freeze(
    reason: Annotated[str, typer.Option(help="Why; it stands in every case that is stopped.")],
    by: By = None,
    as_json: Json = False,
) -> None:
    """Stop every containment at once, for all cases, until somebody thaws it. Cases go on and ask."""

    async def work() -> dict[str, Any]:
        switch = read_switch({"by": _me() if by is None else by, "reason": reason})
        return await freeze_containment(await connect_temporal(identity=switch.by), by=switch.by, reason=switch.reason)

    told = run(work(), as_json=as_json)
    if as_json:
        terminal.print_json(told)
    elif told["pending"]:
        terminal.say("FROZEN: no worker runs just now; the freeze is kept and comes before all that a worker does")
    else:
        terminal.say(f"{'' if told['changed'] else 'was frozen already: '}{_frozen(told['freeze'])}")


@app.command()
def thaw(
    reason: Annotated[str, typer.Option(help="Why; it stands in the ledger.")], by: By = None, as_json: Json = False
) -> None:
    """Let containments go on after a freeze."""

    async def work() -> dict[str, Any]:
        switch = read_switch({"by": _me() if by is None else by, "reason": reason})
        return await thaw_containment(await connect_temporal(identity=switch.by), by=switch.by, reason=switch.reason)

    told = run(work(), as_json=as_json)
    if as_json:
        terminal.print_json(told)
    else:
        terminal.say("thawed: containments go on" if told["changed"] else "nothing was frozen")


@app.command("ledger")
def ledger_(as_json: Json = False) -> None:
    """Show the freeze switch, and how much of the hourly budget is used by whom."""

    async def work() -> dict[str, Any]:
        return await ledger_status(await connect_temporal())

    shown = run(work(), as_json=as_json)
    if as_json:
        terminal.print_json(shown)
        return
    terminal.say(_frozen(shown["freeze"]) if shown["frozen"] else "not frozen")
    terminal.say(f"used: {used_words(shown)}")
    for name, count in shown["departments"].items():
        terminal.say(f"  {name}: {count}")
    if shown["refused"]:
        terminal.say(f"automatic requests over a limit so far: {shown['refused']}")
    rows = [
        (entry["case_id"], entry["at"], ", ".join(entry["actions"]), entry["department"], _whose(entry))
        for entry in reversed(shown["latest"])
    ]
    if rows:
        terminal.print_table(("case", "at", "actions", "department", "decided"), rows)
    for turned in reversed(shown["history"]):
        terminal.say(f"{turned['at']}  {turned['what']} by {turned['by']}: {turned['reason']}")


def _frozen(frozen: dict[str, Any]) -> str:
    return f"FROZEN by {frozen['by']} since {frozen['since']}: {frozen['reason']}"


def _whose(entry: dict[str, Any]) -> str:
    return "automatic" if entry["automatic"] else "approved"


@app.command()
def report(
    since: Annotated[str, typer.Option(help="How far back: 12h, 7d.")] = "7d",
    as_json: Json = False,
) -> None:
    """Tell what observe mode would have done, where analysts differed, and what was contained and released."""
    try:
        back = _DURATION.validate_python(since)
    except ValidationError:
        raise typer.BadParameter(f"--since: {plain(since)} is not a duration such as 12h or 7d") from None

    async def work() -> dict[str, Any]:
        return await guardrail_report(await connect_temporal(), datetime.now(UTC) - back)

    told = run(work(), as_json=as_json)
    if as_json:
        terminal.print_json(told)
        return
    for line in _sums(told["summary"], since):
        terminal.say(line)
    if told["cut_short"]:
        terminal.say(f"these are the latest {MOST_CASES} cases; there are more")
    columns = ("case", "user", "host", "would have done", "answered", "table and answer", "contained", "released")
    if told["cases"]:
        terminal.print_table(columns, [_row(case) for case in told["cases"]])
    for case in told["unread"]:
        terminal.complain(f"{case['case_id']} could not be read: {case['why']}")


def _sums(sums: dict[str, Any], since: str) -> list[str]:
    compared = ", ".join(f"{count} {word}" for word, count in sums["compared"].items())
    return [
        f"{sums['cases']} cases within {since}",
        f"observe mode would have done: {_counts(sums['observed'])}",
        f"people were asked in {sums['asked']}: {compared}",
        f"contained: {_counts(sums['contained'])}; released again: {sums['released']} cases",
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {action}" for action, count in counts.items())


def _row(case: dict[str, Any]) -> tuple[Any, ...]:
    answer = case["answer"]
    said = f"{answer['decision']} by {answer['analyst']}" if answer else None
    return (
        case["case_id"],
        case["user"],
        case["host"],
        _actions(case["observed"]),
        said,
        case["compared"],
        _actions(case["contained"]),
        case["released"],
    )


def _actions(actions: list[dict[str, Any]]) -> str:
    return ", ".join(f"{action['action']} {action['target']}" for action in actions)
