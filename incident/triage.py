"""The decision table: risk and corroboration in, priority and action out.

Total over every combination of known and unknown facts. A row that rests on an unknown fact never contains anybody.
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class Priority(StrEnum):
    """How urgent a case is; ordered from low to critical."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for low up to 3 for critical."""
        return list(Priority).index(self)

    def raised(self, *, ceiling: Priority | None = None) -> Priority:
        """One level higher, at most ``ceiling``; never lower than now."""
        levels = list(Priority)
        higher = levels[min(self.rank + 1, len(levels) - 1)]
        return self.at_least(min(higher, ceiling or higher, key=lambda p: p.rank))

    def at_least(self, other: Priority) -> Priority:
        """The higher of the two: a priority is never lowered."""
        return max(self, other, key=lambda p: p.rank)


class RiskLevel(StrEnum):
    """The suspected user's risk level; ``UNKNOWN`` is a level of its own and contains nobody."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    UNKNOWN = "unknown"


class Corroborated(StrEnum):
    """Whether the SIEM knows more about the host or the user than the alert that started the case."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class ActionName(StrEnum):
    """What containment can do."""

    QUARANTINE_HOST = "quarantine_host"
    DISABLE_ACCOUNT = "disable_account"


CONTAIN = (ActionName.QUARANTINE_HOST, ActionName.DISABLE_ACCOUNT)


class Verdict(BaseModel):
    """A row of the table: the priority it gives, and what to do. No actions means: stop at the hold point."""

    model_config = ConfigDict(frozen=True)

    priority: Priority
    actions: tuple[ActionName, ...]

    @property
    def holds(self) -> bool:
        """Whether a person has to be asked."""
        return not self.actions


def raise_for_risk(priority: Priority, risk: RiskLevel) -> Priority:
    """The first half of the table: what the risk alone does to the priority, before corroboration has answered."""
    if risk in (RiskLevel.MEDIUM, RiskLevel.HIGH):
        return priority.raised(ceiling=Priority.HIGH)
    return priority


def decide(priority: Priority, risk: RiskLevel, corroborated: Corroborated) -> Verdict:
    """The whole table, as one function. ``priority`` is the case's priority before triage."""
    after_risk = raise_for_risk(priority, risk)
    match risk, corroborated:
        case ((RiskLevel.MEDIUM | RiskLevel.HIGH), Corroborated.YES):
            return Verdict(priority=Priority.CRITICAL, actions=CONTAIN)
        case RiskLevel.LOW, Corroborated.YES:
            return Verdict(priority=after_risk.at_least(Priority.HIGH), actions=(ActionName.DISABLE_ACCOUNT,))
        case _:
            return Verdict(priority=after_risk, actions=())
