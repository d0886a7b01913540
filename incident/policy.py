"""The settings that steer a case. They are snapshot when it starts, so that a later change touches new cases only."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from incident.evidence import Fact, Frozen, Risk
from incident.queues import Integration
from incident.triage import ActionName, RiskLevel


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


class Approval(StrEnum):
    """Who has to approve a write to what is protected."""

    ONE = "one"
    TWO_TIERS = "two_tiers"
    NEVER = "never"


class Tier(Frozen):
    """Who is asked, in order of escalation: ``recipients`` get the mail, ``analysts`` may answer, for ``wait``.

    So may the members of ``analysts_group``, a directory group, by the directory at the time.
    """

    name: str
    recipients: tuple[str, ...]
    analysts: tuple[str, ...]
    wait: timedelta
    analysts_group: str | None = None


class GuardrailPolicy(Frozen):
    """What stands before every write. Names may hold ``*`` and ``?``.

    ``modes`` overrides ``mode`` action by action. ``ledger`` says that each write is reserved in the ledger of
    containments first, which holds the two limits and the freeze switch. ``responders`` are the mail addresses of those
    who answer, ``own_accounts`` and ``own_hosts`` what Holdpoint itself uses. The defaults are those of a case that was
    started before a guardrail existed: it keeps the rules that it began with.
    """

    mode: Mode = Mode.ACT
    modes: dict[ActionName, Mode] = Field(default={})
    ledger: bool = False
    max_per_hour: int = 100
    max_per_department: int | None = None
    protected_approval: Approval = Approval.ONE
    protected_accounts: tuple[str, ...] = ()
    protected_groups: tuple[str, ...] = ()
    protected_hosts: tuple[str, ...] = ()
    responders: tuple[str, ...] = ()
    own_accounts: tuple[str, ...] = ()
    own_hosts: tuple[str, ...] = ()

    def mode_of(self, action: ActionName) -> Mode:
        """How far Holdpoint goes by itself with this action."""
        return self.modes.get(action, self.mode)


class CasePolicy(Frozen):
    """Everything that steers one case.

    ``settle_within`` is how long the ticket waits for the read-backs before it is told that one is pending; ``None``
    means all of ``verify_within``. ``lease`` is how long a containment stands before somebody is asked whether to
    release or renew it; ``None`` means until somebody releases it. With ``ask_directory`` the directory says who may
    answer, when a question is put and when it is answered; with ``renew_questions`` a question whose facts changed is
    void and another one takes its place; with ``publish_together`` what a case is found by is told once for all that a
    step of the workflow changed, and facts with the stage that follows them; with ``tell_answered`` those who were
    asked hear who answered, and the last tier hears who disagrees. The steps of ``own_queues`` go over the task queues
    of these integrations.
    ``chat`` says that a channel is told of the case, ``comment_incident`` that the SIEM's incidents hear of it.
    With ``fold_alerts`` a flood is taken in a part at a time, and ``looks_apart`` is how long alerts that join after a
    look wait for the next one; with ``tell_apart`` an alert about another host or user than the case's gets a case of
    its own; with ``hurry`` an alert that raises the priority shortens the wait for an answer.
    """

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
    settle_within: timedelta | None = None
    lease: timedelta | None = None
    revoke_sign_ins: bool = False
    attach_record: bool = False
    ask_directory: bool = False
    renew_questions: bool = False
    publish_together: bool = False
    tell_answered: bool = False
    chat: bool = False
    comment_incident: bool = False
    fold_alerts: bool = False
    looks_apart: timedelta = timedelta(0)
    tell_apart: bool = False
    hurry: bool = False
    own_queues: tuple[Integration, ...] = ()
    tiers: tuple[Tier, ...] = Field(min_length=1)
    guardrails: GuardrailPolicy = GuardrailPolicy()

    def level(self, risk: Fact[Risk]) -> RiskLevel:
        """The level of a risk score by this policy's thresholds; an unknown score has the level unknown."""
        if not risk.known or risk.value is None:
            return RiskLevel.UNKNOWN
        if risk.value.score >= self.high_at:
            return RiskLevel.HIGH
        return RiskLevel.MEDIUM if risk.value.score >= self.medium_at else RiskLevel.LOW
