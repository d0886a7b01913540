"""The search attributes of a case. The keys live here; ``starter.py setup`` registers them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from temporalio.common import SearchAttributeKey, SearchAttributePair, SearchAttributeUpdate, TypedSearchAttributes

from incident.joined import MOST_SEARCHABLE
from incident.record import CaseRecord, Stage
from incident.release_record import ReleaseRecord
from incident.triage import ActionName

STAGE: Final = SearchAttributeKey.for_keyword("IncidentStage")
PRIORITY: Final = SearchAttributeKey.for_keyword("IncidentPriority")
RISK: Final = SearchAttributeKey.for_keyword("RiskLevel")
OUTCOME: Final = SearchAttributeKey.for_keyword("IncidentOutcome")
USER: Final = SearchAttributeKey.for_keyword("AffectedUser")
HOST: Final = SearchAttributeKey.for_keyword("AffectedHost")
ALERTS: Final = SearchAttributeKey.for_keyword_list("AlertIds")
DUE: Final = SearchAttributeKey.for_datetime("DecisionDueAt")

ALL: Final[tuple[SearchAttributeKey[Any], ...]] = (STAGE, PRIORITY, RISK, OUTCOME, USER, HOST, ALERTS, DUE)

_FACTS: Final = (USER, HOST, RISK)
_LEARNING: Final = (Stage.ENRICHING, Stage.TRIAGING)

MAX_ALERT_IDS: Final = MOST_SEARCHABLE
"""How many alert ids are searchable."""


class Published:
    """Tells what has to be upserted: only what changed since the last time, all of it in one command."""

    def __init__(self) -> None:
        self._told: dict[str, Any] = {}

    def start_from(self, known: TypedSearchAttributes) -> None:
        """What the run was started with needs no telling, unless something else was told since."""
        for pair in known:
            self._told.setdefault(pair.key.name, pair.value)

    def changes(self, record: CaseRecord, *, patient: bool = False) -> list[SearchAttributeUpdate[Any]]:
        """The updates that bring the visibility store to the record's state.

        While the case only learns its facts, ``patient`` lets them wait for its next stage: each telling is an event,
        a write, and an action that is paid for.
        """
        changed = [(key, value) for key, value in _values(record) if self._told.get(key.name) != value]
        if patient and record.stage in _LEARNING and all(key in _FACTS for key, _ in changed):
            return []
        self._told.update((key.name, value) for key, value in changed)
        return [key.value_unset() if value is None else key.value_set(value) for key, value in changed]


def _values(record: CaseRecord) -> Sequence[tuple[SearchAttributeKey[Any], Any]]:
    due: datetime | None = record.question.due_at if record.question else None
    return (
        (STAGE, record.stage.value),
        (PRIORITY, record.priority.value),
        (RISK, record.risk_level.value if record.risk_level else None),
        (OUTCOME, record.outcome.value if record.outcome else None),
        (USER, record.user.value.account if record.user.value else None),
        (HOST, record.host.value.name if record.host.value else None),
        (ALERTS, record.alerts[:MAX_ALERT_IDS]),
        (DUE, due),
    )


def at_start(alert_id: str, severity: str) -> TypedSearchAttributes:
    """What a case carries from its first moment, before a worker has seen it."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(STAGE, "enriching"),
            SearchAttributePair(PRIORITY, severity),
            SearchAttributePair(ALERTS, [alert_id]),
        ]
    )


def of_release(record: ReleaseRecord) -> Sequence[tuple[SearchAttributeKey[Any], Any]]:
    """What a release is found by: the same names as its case, so that one query finds whatever waits for people."""
    known = record.containment
    targets = {action.action: action.target for action in known.actions} if known else {}
    due: datetime | None = record.question.due_at if record.question else None
    return (
        (STAGE, record.stage.value),
        (PRIORITY, known.priority.value if known else None),
        (OUTCOME, record.outcome.value if record.outcome else None),
        (USER, targets.get(ActionName.DISABLE_ACCOUNT)),
        (HOST, targets.get(ActionName.QUARANTINE_HOST)),
        (DUE, due),
    )
