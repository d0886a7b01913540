"""What a case measures of itself. Replayed steps count nothing: the meter is Temporal's own.

Values of attributes are words of the contract (a stage, an outcome, a state), never a name or an id.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from incident.record import ActionRecord, DecidedBy, Outcome, Question, Stage


class Measures:
    """The metrics of one case. Times are in seconds of the workflow's clock, counters count once each."""

    def __init__(self, opened_at: datetime) -> None:
        self._opened_at = opened_at
        self._entered: set[Stage] = set()

    def entered(self, stage: Stage) -> None:
        """``holdpoint_time_to_stage``: from the opening of the case to the first time that it is in the stage."""
        if stage not in self._entered:
            self._entered.add(stage)
            told = "From the opening of a case to its first time in a stage"
            _seconds("holdpoint_time_to_stage", told, since=self._opened_at, stage=stage)

    def waited(self, question: Question, ending: Enum) -> None:
        """``holdpoint_human_wait``: how long the question stood, by how it ended."""
        if question.posed_at is not None:
            told = "How long a question to people stood"
            _seconds("holdpoint_human_wait", told, since=question.posed_at, ending=ending.name.lower())

    def decided(self, decision: str, by: DecidedBy) -> None:
        """``holdpoint_decisions``: by decision, and by whose word (the table, an analyst, the default)."""
        _count("holdpoint_decisions", "Decisions", decision=decision, by=by)

    def acted(self, entry: ActionRecord) -> None:
        """``holdpoint_actions``: containment actions by the state that they came to."""
        _count("holdpoint_actions", "Containment actions", action=entry.action, state=entry.state)

    def closed(self, outcome: Outcome) -> None:
        """``holdpoint_cases_closed``: by outcome."""
        _count("holdpoint_cases_closed", "Closed cases", outcome=outcome)


def _seconds(name: str, told: str, *, since: datetime, **attributes: str) -> None:
    passed = (workflow.now() - since).total_seconds()
    workflow.metric_meter().create_histogram_float(name, told, "s").record(max(passed, 0.0), _plain(attributes))


def _count(name: str, told: str, **attributes: str) -> None:
    workflow.metric_meter().create_counter(name, told).add(1, _plain(attributes))


def _plain(attributes: dict[str, str]) -> dict[str, str]:
    """Enumerations as the strings that they are."""
    return {key: str(value) for key, value in attributes.items()}
