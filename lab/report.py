"""What the demo says at its end: a table for people, ``demo-report.json`` for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lab.checks import State, history
from lab.scenarios import Scenario, expected


@dataclass
class CaseRun:
    """One scenario's case in a demo, as far as it has come. ``seconds`` is from its start to its close.

    ``release`` is what ``starter.py release`` told of it, if it was released.
    ``stuck`` is a case that did not come on, and is not waited for again.
    """

    scenario: Scenario
    run_id: str
    state: State = field(default_factory=dict)
    seconds: float | None = None
    release: State | None = None
    stuck: bool = False
    differences: list[str] = field(default_factory=list)

    @property
    def case_id(self) -> str:
        """The workflow id."""
        return self.scenario.case_id


@dataclass
class DemoReport:
    """Everything that a demo has shown. ``shown`` holds further facts by name: the outage, the duplicates."""

    cases: list[CaseRun] = field(default_factory=list)
    shown: dict[str, Any] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    web_ui: str = ""
    started_at: str = ""
    seconds: float = 0.0

    @property
    def all_differences(self) -> list[str]:
        """Every difference, each with the case that it is about."""
        of_cases = [f"{case.scenario.name}: {text}" for case in self.cases for text in case.differences]
        return [*of_cases, *self.differences]


def write_report(report: DemoReport, path: Path) -> None:
    """Write the report as JSON."""
    told = {
        "ok": not report.all_differences,
        "differences": report.all_differences,
        "started_at": report.started_at,
        "seconds": round(report.seconds, 1),
        "web_ui": report.web_ui,
        "cases": [_case(case) for case in report.cases],
        **report.shown,
    }
    path.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _case(case: CaseRun) -> dict[str, Any]:
    scenario, state, wanted = case.scenario, case.state, expected(case.scenario)
    reply = scenario.reply
    return {
        "scenario": scenario.name,
        "case_id": case.case_id,
        "run_id": case.run_id,
        "row": {"risk": scenario.risk.value, "corroborated": scenario.corroborated.value},
        "answered_by": reply.way.value if reply and scenario.asks else None,
        "expected": {
            "outcome": wanted.outcome.value,
            "priority_history": [priority.value for priority in wanted.priority_history],
            "actions": {action.value: how.value for action, how in wanted.actions.items()},
            "decided_by": wanted.decided_by.value,
            "undone": [action.value for action in wanted.undone],
            "tickets": wanted.tickets,
            "mails": wanted.mails,
        },
        "outcome": state.get("outcome"),
        "priority_history": state.get("priority_history", []),
        "actions": state.get("actions", []),
        "decision": state.get("decision"),
        "ticket": state.get("ticket"),
        "release": case.release and {"outcome": case.release["outcome"], "actions": case.release["actions"]},
        "seconds": case.seconds,
        "differences": case.differences,
    }


def print_table(report: DemoReport, console: Console) -> None:
    """Print one row a case; a wide terminal shows it best."""
    table = Table(title="What came of each case", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("case", no_wrap=True)
    table.add_column("risk / corroborated", max_width=17)
    for heading in ("priority", "actions", "outcome"):
        table.add_column(heading)
    table.add_column("seconds", justify="right")
    table.add_column("")
    for case in report.cases:
        as_wanted = "[green]ok[/]" if case.seconds is not None else "unfinished"
        mark = "[bold red]DIFFERS[/]" if case.differences else as_wanted
        row = f"{case.scenario.risk} / {case.scenario.corroborated}"
        seconds = "-" if case.seconds is None else f"{case.seconds:.1f}"
        cells = (case.scenario.name, row, *_cells(case), seconds)
        table.add_row(*(escape(cell) for cell in cells), mark)
    console.print(table)


def _cells(case: CaseRun) -> Sequence[str]:
    state = case.state
    if not state:
        return ("-", "-", "-")
    undone = {undo["action"]: undo["state"] for undo in case.release["actions"]} if case.release else {}
    released = {"verified": ", released", "left_alone": ", was so before"}
    actions = "\n".join(
        f"{action['action']} {action['state']}{released.get(undone.get(action['action'], ''), '')}"
        for action in state["actions"]
    )
    by = (state["decision"] or {}).get("by")
    outcome = (state["outcome"] or state["stage"]) + (f"\nby {by}" if by else "")
    return (" > ".join(history(state)), actions or "none", outcome)
