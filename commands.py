"""The frame of the command line: the app that each command joins, its common options, and how a failure is told."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from temporalio.service import RPCError

import terminal
from cases import CaseRefused
from connection import TemporalUnreachable
from incident.alert import AlertRefused
from incident.budget import SwitchRefused
from incident.decision import AnswerRefused
from incident.sealing import NoRecord
from incident.text import plain
from settings import SettingsRefused

T = TypeVar("T")

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


def run(work: Coroutine[Any, Any, T], *, as_json: bool) -> T:
    """Run a command's work; every foreseen failure becomes its lines and its exit code."""
    try:
        return asyncio.run(work)
    except (AlertRefused, SettingsRefused) as error:
        _fail(as_json, 2, error.faults)
    except (AnswerRefused, NoRecord, SwitchRefused) as error:
        _fail(as_json, 2, [str(error)])
    except (CaseRefused, TemporalUnreachable) as error:
        _fail(as_json, 1, [str(error)])
    except RPCError as error:
        hint = "; 'python starter.py setup' registers them" if "search attribute" in error.message else ""
        _fail(as_json, 1, [f"Temporal refused: {plain(error.message)}{hint}"])
