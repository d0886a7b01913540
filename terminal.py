"""What the command line shows. Values from alerts and vendors are made plain text here."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from incident.text import plain

_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)
_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 5.0
_UNBOUNDED = 10_000


def say(text: str) -> None:
    """A line (or several) on standard output."""
    for line in text.splitlines():
        _out.print(_text(line), soft_wrap=True)


def complain(text: str) -> None:
    """A line (or several) on standard error."""
    for line in text.splitlines():
        _err.print(_text(line), soft_wrap=True)


def _text(line: str) -> Text:
    indented = len(line) - len(line.lstrip(" "))
    return Text(" " * indented + plain(line, limit=4000))


def print_json(value: Any) -> None:
    """JSON for programs, in ASCII so that no escape sequence reaches a terminal."""
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _cell(value: Any) -> str:
    return escape(plain(str(value))) if value not in (None, "") else "-"


def print_cases(rows: Sequence[dict[str, Any]]) -> None:
    """The cases as a table."""
    if not rows:
        say("no cases")
        return
    # A case id is there to be copied: it is never cut short, and what is no terminal has no width.
    case = Column("case", no_wrap=True, min_width=max(len(row["case_id"]) for row in rows))
    table = Table(case, "stage", "priority", "risk", "user", "host", "answer due", "outcome", box=None, pad_edge=False)
    for row in rows:
        keys = ("case_id", "stage", "priority", "risk", "user", "host", "decision_due_at", "outcome")
        table.add_row(*(_cell(row[key]) for key in keys))
    out = _out if _out.is_terminal else Console(highlight=False, width=_UNBOUNDED)
    out.print(table)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Rows under their columns. The first column is there to be copied and never cut short."""
    first = Column(columns[0], no_wrap=True, min_width=max(len(plain(str(row[0]))) for row in rows))
    table = Table(first, *columns[1:], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    out = _out if _out.is_terminal else Console(highlight=False, width=_UNBOUNDED)
    out.print(table)


def print_checks(checks: Sequence[dict[str, Any]]) -> None:
    """One line a check."""
    for check in checks:
        mark = Text("ok  ", style="green") if check["ok"] else Text("BAD ", style="bold red")
        _out.print(mark + Text(plain(f"{check['name']}: {check['detail']}", limit=1000)), soft_wrap=True)


def _live(state: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for label in ("stage", "priority", "host", "user", "risk", "corroboration"):
        value = state[label]
        if isinstance(value, dict):
            value = value.get("value") if value["known"] else f"unknown: {value['reason']}"
        table.add_row(label, _cell(value))
    if state["question"]:
        question = state["question"]
        table.add_row("waits for", _cell(f"{question['tier']} until {question['due_at']} (question {question['id']})"))
    for action in state["actions"]:
        table.add_row(_cell(action["action"]), _cell(f"{action['target']}: {action['state']}"))
    table.add_row("outcome", _cell(state["outcome"]))
    return table


async def follow(client: Client, case_id: str, run_id: str | None, *, quiet: bool) -> dict[str, Any]:
    """Show a case live until its run ends; returns its last status. ``quiet`` leaves the telling to the caller."""
    handle = client.get_workflow_handle(case_id, run_id=run_id)
    ended = asyncio.create_task(_ended(client, case_id, run_id))
    state: dict[str, Any] = {}
    with Live(console=_err if quiet else _out, auto_refresh=False, transient=quiet) as live:
        while True:
            done, _ = await asyncio.wait({ended}, timeout=_POLL_SECONDS)
            how = ended.result() if done else None
            try:
                if how is WorkflowExecutionStatus.COMPLETED:  # its result is its last status, and needs no worker
                    state = await handle.result()
                else:
                    async with asyncio.timeout(_ANSWER_SECONDS):  # the call's own timeout would count each retry anew
                        state = await handle.query("status", result_type=dict[str, Any])
            except (RPCError, TimeoutError):
                live.update(Text("no worker answers just now; the case is kept"))
            else:
                live.update(Text("") if quiet else _live(state))
            live.refresh()
            if done and how is not WorkflowExecutionStatus.CONTINUED_AS_NEW:
                break
            if done:
                handle = client.get_workflow_handle(case_id)
                ended = asyncio.create_task(_ended(client, case_id, None))
    if not quiet and not _out.is_terminal:
        _out.print()  # what is no terminal gets the last picture only, and that without the end of its line
    return state


async def _ended(client: Client, case_id: str, run_id: str | None) -> WorkflowExecutionStatus | None:
    while True:
        described = await client.get_workflow_handle(case_id, run_id=run_id).describe()
        if described.status is not WorkflowExecutionStatus.RUNNING:
            return described.status
        await asyncio.sleep(_POLL_SECONDS)
