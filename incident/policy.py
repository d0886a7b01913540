"""The settings that steer a case. They are snapshot when it starts, so that a later change touches new cases only."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from incident.evidence import Fact, Frozen, Risk
from incident.triage import RiskLevel


class OnUnanswered(StrEnum):
    """What runs when the last tier did not answer either."""

    HOLD = "hold"
    DISABLE_ACCOUNT = "disable_account"
    CONTAIN = "contain"
    CLOSE = "close"


class Mode(StrEnum):
    """How far Holdpoint goes by itself."""

    OBSERVE = "observe"
    RECOMMEND = "recommend"
    ASK = "ask"
    ACT = "act"


class Tier(Frozen):
    """Who is asked, in order of escalation: ``recipients`` get the mail, ``analysts`` may answer, for ``wait``."""

    name: str
    recipients: tuple[str, ...]
    analysts: tuple[str, ...]
    wait: timedelta


class GuardrailPolicy(Frozen):
    """Who and what is not contained without a person. Names may hold ``*`` and ``?``."""

    mode: Mode = Mode.ACT
    max_per_hour: int = 100
    protected_accounts: tuple[str, ...] = ()
    protected_groups: tuple[str, ...] = ()
    protected_hosts: tuple[str, ...] = ()


class CasePolicy(Frozen):
    """Everything that steers one case."""

    medium_at: float
    high_at: float
    lookback: timedelta
    event_condition: str | None = None
    recheck_every: timedelta
    on_unanswered: OnUnanswered
    enrich_within: timedelta
    contain_within: timedelta
    verify_within: timedelta
    ticket_within: timedelta
    tiers: tuple[Tier, ...] = Field(min_length=1)
    guardrails: GuardrailPolicy = GuardrailPolicy()

    def level(self, risk: Fact[Risk]) -> RiskLevel:
        """The level of a risk score by this policy's thresholds; an unknown score has the level unknown."""
        if not risk.known or risk.value is None:
            return RiskLevel.UNKNOWN
        if risk.value.score >= self.high_at:
            return RiskLevel.HIGH
        return RiskLevel.MEDIUM if risk.value.score >= self.medium_at else RiskLevel.LOW
