"""The case record: everything that was learnt, decided and done, in the order it happened.

The workflow owns one and changes it; ``status`` is what the query of that name answers.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import AwareDatetime, BaseModel, Field, model_validator

from incident.alert import Alert
from incident.chain import Gap, head, link, moment, origin
from incident.evidence import Corroboration, Device, Fact, Frozen, Host, Person, Risk
from incident.joined import MOST_NAMED, Joined, mark_of, packed
from incident.matter import Matter
from incident.requests import AccountRef, ActionState, DeviceRef
from incident.text import plain
from incident.triage import ActionName, Corroborated, Priority, RiskLevel
from incident.voters import Voters

_MAX_EVENTS = 400
_MAX_DISSENT = 100
_MAX_INCIDENTS = 50
_NAME = 320
_SIEM = "the SIEM"
_NOT_YET: Fact[Any] = Fact[Any].unknown("not looked up yet")


class Stage(StrEnum):
    """Where a case is."""

    ENRICHING = "enriching"
    TRIAGING = "triaging"
    AWAITING_DECISION = "awaiting_decision"
    CONTAINING = "containing"
    VERIFYING = "verifying"
    CLOSED = "closed"


class Outcome(StrEnum):
    """How a case ended."""

    CONTAINED = "contained"
    ACCOUNT_DISABLED = "account_disabled"
    PARTIALLY_CONTAINED = "partially_contained"
    CONTAINMENT_FAILED = "containment_failed"
    FALSE_POSITIVE = "false_positive"
    UNANSWERED = "unanswered"
    DUPLICATE = "duplicate"
    OBSERVED = "observed"


class DecidedBy(StrEnum):
    """On whose word something was done."""

    TABLE = "table"
    ANALYST = "analyst"
    DEFAULT = "default"


class PriorityChange(Frozen):
    """A step of the priority; the first is the alert's severity."""

    priority: Priority
    reason: str
    at: AwareDatetime


class Asked(Frozen):
    """A mail of the hold point: to which tier, why, when, and whom the mail server refused."""

    tier: str
    kind: str
    at: AwareDatetime
    recipients: tuple[str, ...]
    refused: dict[str, str] = Field(default_factory=dict)
    failed: str | None = None


class Approved(Frozen):
    """One approval of a protected target: by whom, of which tiers, and why."""

    analyst: str
    tiers: tuple[str, ...]
    actions: tuple[ActionName, ...]
    reason: str
    at: AwareDatetime


class Seen(Frozen):
    """An analyst who has opened the question. To have seen it is not to have answered it."""

    analyst: str
    at: AwareDatetime


class Question(BaseModel):
    """A question that stands: ``contain`` would do ``actions``; it is ``tier``'s turn until ``due_at``.

    ``protected`` says that it is about what a guardrail protects: then an answer approves, and no default does.
    ``quorum`` people of as many tiers have to say ``contain``; ``approvals`` are those who said so far.
    ``about`` is what is asked, ``digest`` binds an answer to it (``incident.question_digest``); empty in old cases.
    ``replaces`` names the question whose place it took; then ``asked`` holds that one's mails as well.
    """

    id: str
    posed_at: AwareDatetime | None = None
    actions: tuple[ActionName, ...]
    tier: str
    due_at: AwareDatetime
    why: str
    protected: bool = False
    quorum: int = 1
    approvals: list[Approved] = []
    asked: list[Asked] = []
    digest: str = ""
    about: Matter | None = None
    replaces: str | None = None
    seen: list[Seen] = []


class Superseded(Frozen):
    """A question that another one took the place of, because the world had changed: what changed, in words."""

    question: str
    digest: str
    at: AwareDatetime
    changes: tuple[str, ...]


class Decision(Frozen):
    """What was decided, on whose word, and what it asks for. ``analyst`` is set where a person decided.

    ``approvals`` names everybody who said so where more than one had to.
    """

    decision: str
    by: DecidedBy
    analyst: str | None = None
    reason: str
    actions: tuple[ActionName, ...]
    question: str | None = None
    approvals: tuple[str, ...] = ()
    at: AwareDatetime

    @property
    def who(self) -> str:
        """On whose word: the analyst's address, or what decided without one."""
        return self.analyst or self.by


class Dissent(Frozen):
    """An answer that changed nothing: late, contradicting, malformed, or by somebody who may not answer.

    ``told`` says that the last tier was written to about it.
    """

    decision: str | None
    analyst: str | None
    reason: str | None
    why: str
    at: AwareDatetime
    told: bool = False


class ActionRecord(BaseModel):
    """One containment action: how far it came, the state that it found, and on whose word it was done.

    ``account`` or ``device`` is what was written to, ``approvals`` those who approved it where it is protected,
    ``sign_ins`` what became of the account's sessions elsewhere, ``pending_until`` how long a read-back is waited for.
    """

    action: ActionName
    target: str | None
    state: ActionState
    account: AccountRef | None = None
    device: DeviceRef | None = None
    approvals: tuple[str, ...] = ()
    sign_ins: str | None = None
    before: dict[str, str] | None = None
    changed: bool = False
    by: str
    at: AwareDatetime
    detail: str = ""
    pending_until: AwareDatetime | None = None


class TicketRecord(Frozen):
    """The case's ticket: ``open`` with its number, or ``failed`` with the reason."""

    state: str
    id: str | None = None
    number: str | None = None
    url: str | None = None
    reason: str | None = None


class Event(Frozen):
    """A line of the timeline: its number, when, who (``actor``), by which system or step (``source``), and what.

    ``digest`` chains it to the event before, see ``incident.chain``. An event that was written before there was a
    chain has none, until its record is read again.
    """

    seq: int = 0
    at: AwareDatetime
    actor: str = "holdpoint"
    source: str = "runbook"
    text: str
    digest: str = ""

    def entry(self) -> dict[str, Any]:
        """The event as an entry of the chain."""
        told = {"seq": self.seq, "at": moment(self.at), "actor": self.actor, "source": self.source}
        return {**told, "text": self.text, "digest": self.digest}

    def after(self, previous: str, seq: int) -> Event:
        """The same event as number ``seq``, chained to what stands before."""
        placed = self.model_copy(update={"seq": seq})
        return placed.model_copy(update={"digest": link(placed.entry(), previous)})


class CaseRecord(BaseModel):
    """The state of one case. ``alerts`` names the first of its alerts, ``joined`` knows all of them."""

    case_id: str
    key: str
    alert: Alert
    alerts: list[str]
    joined: Joined = Field(default_factory=Joined)
    incidents: list[str] = []
    stage: Stage = Stage.ENRICHING
    priority: Priority
    priority_history: list[PriorityChange]
    host: Fact[Host] = _NOT_YET
    user: Fact[Person] = _NOT_YET
    device: Fact[Device] = _NOT_YET
    risk: Fact[Risk] = _NOT_YET
    risk_level: RiskLevel | None = None
    raised_for_risk: bool = False
    corroboration: Fact[Corroboration] = _NOT_YET
    question: Question | None = None
    superseded: list[Superseded] = []
    voters: Voters | None = None
    questions_asked: int = 0
    mails_sent: int = 0
    notes_written: int = 0
    decision: Decision | None = None
    dissent: list[Dissent] = []
    actions: list[ActionRecord] = []
    ticket: TicketRecord | None = None
    outcome: Outcome | None = None
    events: list[Event] = Field(default=[])
    events_dropped: int = 0
    gap: Gap | None = None

    @model_validator(mode="after")
    def _chained(self) -> Self:
        """Mark the alerts and chain the events of a record that was written before there were marks and a chain."""
        for alert_id in self.alerts if not self.joined.marks else ():
            self.joined.mark(mark_of(self.key, alert_id))
        if self.events and not self.events[0].digest:
            before, self.events = self.events, []
            for place, event in enumerate(before):
                if self.events_dropped and place == _MAX_EVENTS // 2:
                    lost = {"first": place, "count": self.events_dropped}
                    self.gap = Gap(**lost, before=self._last, after=self._last)
                self.events.append(event.after(self._last, self._due))
        return self

    @classmethod
    def opened(cls, alert: Alert, case_id: str, run_id: str, at: datetime) -> CaseRecord:
        """A new case. ``run_id`` is the first run's, so that the key outlives a reset or a continued run."""
        reason = f"severity of alert {plain(alert.id)}"
        record = cls(
            case_id=case_id,
            key=key_of(case_id, run_id),
            alert=alert,
            alerts=[alert.id],
            incidents=[alert.siem_incident_id] if alert.siem_incident_id else [],
            priority=alert.severity,
            priority_history=[PriorityChange(priority=alert.severity, reason=reason, at=at)],
        )
        record.note(at, f"case opened by alert {alert.id}", actor=_SIEM, source="alert")
        return record

    @property
    def reference(self) -> str:
        """A short name for mails and tickets that tips nobody off."""
        return f"HP-{self.key[3:11].upper()}"

    @property
    def corroborated(self) -> Corroborated:
        """The corroboration as the table's column."""
        if not self.corroboration.known or self.corroboration.value is None:
            return Corroborated.UNKNOWN
        return Corroborated.YES if self.corroboration.value.found else Corroborated.NO

    @property
    def head(self) -> str:
        """The head of the chain of events, as it stands."""
        return head(self._last, self.gap)

    @property
    def _last(self) -> str:
        """The digest that the next event is chained to."""
        if self.gap is not None and len(self.events) <= self.gap.first:
            return self.gap.after
        return self.events[-1].digest if self.events else origin(self.case_id, self.key)

    @property
    def _due(self) -> int:
        """The number of the next event."""
        return len(self.events) + (self.gap.count if self.gap else 0)

    def note(self, at: datetime, text: str, *, actor: str = "holdpoint", source: str = "runbook") -> None:
        """Add a line to the timeline. It is bounded: whoever floods a case must not be able to end it.

        ``actor`` is who (an analyst's address, ``holdpoint``, ``the table``), ``source`` which system or step.
        """
        event = Event(
            at=at, actor=plain(actor, limit=_NAME), source=plain(source, limit=_NAME), text=plain(text, limit=500)
        )
        chained = event.after(self._last, self._due)
        if len(self.events) >= _MAX_EVENTS:
            self._leave_out(_MAX_EVENTS // 2)
        self.events.append(chained)

    def _leave_out(self, place: int) -> None:
        """Leave the event at ``place`` out of the timeline; the gap goes on to it."""
        before = self.gap.before if self.gap else self.events[place - 1].digest
        lost = self.events.pop(place)
        self.events_dropped += 1
        self.gap = Gap(first=place, count=self.events_dropped, before=before, after=lost.digest)

    def raise_priority(self, to: Priority, reason: str, at: datetime) -> bool:
        """Raise the priority; a lower or equal one changes nothing. Tells whether it changed."""
        if to.rank <= self.priority.rank:
            return False
        self.note(at, f"priority {self.priority} -> {to}: {reason}", source="priority")
        self.priority = to
        self.priority_history.append(PriorityChange(priority=to, reason=plain(reason, limit=300), at=at))
        return True

    def join(self, alert: Alert, at: datetime) -> bool:
        """Add a further alert; one that is here already changes nothing. Tells whether it was new."""
        if self.has(alert.id):
            return False
        self.joined.mark(mark_of(self.key, alert.id))
        if len(self.alerts) < MOST_NAMED:
            self.alerts.append(alert.id)
        named = alert.siem_incident_id
        if named and named not in self.incidents and len(self.incidents) < _MAX_INCIDENTS:
            self.incidents.append(named)
        if self.joined.add(alert):
            told = f"alert {plain(alert.id)} joined ({alert.severity}, {alert.rule or 'no rule named'})"
            self.note(at, told, actor=_SIEM, source="alert")
        self.raise_priority(alert.severity, f"severity of alert {plain(alert.id)}, which joined", at)
        return True

    def has(self, alert_id: str) -> bool:
        """Whether this alert has opened the case or joined it."""
        return self.joined.knows(mark_of(self.key, alert_id))

    def tell_joined(self, at: datetime) -> None:
        """Tell in one line of those joined alerts that have none of their own."""
        if told := self.joined.told():
            self.note(at, told, actor=_SIEM, source="alert")

    def dissented(self, raw: Any, why: str, at: datetime, *, told: bool = False) -> bool:
        """Record an answer that changes nothing. Tells whether there was room for more than a line."""
        fields = raw if isinstance(raw, dict) else {}
        text = {k: plain(str(fields[k]), limit=300) if fields.get(k) is not None else None for k in _DISSENT_FIELDS}
        kept = len(self.dissent) < _MAX_DISSENT
        if kept:
            self.dissent.append(Dissent(**text, why=plain(why, limit=300), at=at, told=told))
        who = text["analyst"] or "nobody named"
        self.note(at, f"answer of {who} changes nothing: {why}", actor=who, source="answer")
        return kept

    def action(self, name: ActionName) -> ActionRecord | None:
        """The record of one action, if it was begun."""
        return next((a for a in self.actions if a.action is name), None)

    def status(self) -> dict[str, Any]:
        """The case as JSON, by the names of the contract."""
        dump = self.model_dump(mode="json", include=_AS_THEY_ARE)
        level = self.risk_level or RiskLevel.UNKNOWN
        return {
            "case_id": self.case_id,
            "reference": self.reference,
            **dump,
            **self.joined.view(),
            "host": _view(self.host, lambda host: host.name),
            "user": _view(self.user, lambda user: user.account),
            "device": _view(self.device, lambda device: device.hostname),
            "risk": _view(self.risk, lambda _: level.value),
            "corroboration": _view(self.corroboration, lambda found: found.found),
            "record": {"entries": self._due, "head": self.head},
        }

    def result(self) -> dict[str, Any]:
        """What a closed case leaves: its status, and what knows its alerts again where it could not name them all."""
        named = self.joined.total <= len(self.alerts)
        return self.status() if named else {**self.status(), "key": self.key, "alert_marks": packed(self.joined.marks)}


def key_of(case_id: str, run_id: str) -> str:
    """The key of a case: of its id and its first run, so that it is the same in every retry and continued run."""
    return f"hp-{hashlib.sha256(f'{case_id}/{run_id}'.encode()).hexdigest()[:20]}"


_WHY_NOT = {"reason", "source", "at", "candidates"}
_DISSENT_FIELDS = ("decision", "analyst", "reason")
_AS_THEY_ARE = {
    "alerts",
    "stage",
    "priority",
    "priority_history",
    "question",
    "superseded",
    "voters",
    "decision",
    "dissent",
    "actions",
    "ticket",
    "outcome",
}


def _view(fact: Fact[Any], value: Any) -> dict[str, Any]:
    if fact.value is None:
        return {"known": False, **fact.model_dump(mode="json", include=_WHY_NOT, exclude_none=True)}
    return {
        "known": True,
        "value": value(fact.value),
        **fact.model_dump(mode="json", include={"source", "at"}),
        "detail": fact.value.model_dump(mode="json", exclude_none=True),
    }
