"""Undoing a containment: who may ask for it, what is undone, and what is left alone and why.

Undone is exactly what the case itself changed, and only where the state before is known and the change still stands.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, ValidationError

from incident.decision import AnswerRefused, Electorate
from incident.electorate import with_members
from incident.evidence import Frozen, Identity, Person
from incident.policy import CasePolicy
from incident.record import ActionRecord, Stage, TicketRecord
from incident.requests import ActionState
from incident.text import plain
from incident.triage import CONTAIN, ActionName, Priority
from incident.voters import Voters

ACCOUNT_DISABLE = 0x2
"""The bit of ``userAccountControl`` that disables an account (MS-ADTS 2.2.16)."""

FREE = frozenset({"normal", "not_isolated", "open", "reached", "silent", "unprobed"})
"""The endpoint controls' words for a host that is not cut off."""

CUT_OFF = frozenset(
    {
        "contained",
        "containment_pending",
        "isolated",
        "isolation_pending",
        "isolated_selectively",
        "quarantined",
        "banned",
    }
)
"""Their words for a host that is, or is about to be."""

UNKNOWN_BEFORE = "the state before is not known: nothing is changed"
_MAX_REASON = 2000

Model = TypeVar("Model", bound=Frozen)


class Left(StrEnum):
    """Why something is left alone."""

    NOT_DONE = "not_done"
    NOT_OURS = "not_ours"
    UNDONE = "undone"
    BEFORE_UNKNOWN = "before_unknown"
    BUSY = "busy"
    WANTED = "wanted"
    GONE = "gone"


_FOR_GOOD = (Left.NOT_DONE, Left.NOT_OURS, Left.UNDONE, Left.BEFORE_UNKNOWN)
_NOTHING_STANDS = (None, Left.NOT_DONE, Left.NOT_OURS, Left.UNDONE)


class LeaseDecision(StrEnum):
    """What may be answered when a lease nears its end."""

    RELEASE = "release"
    RENEW = "renew"


class ReleaseRefused(AnswerRefused):
    """The request does not count; the message says why."""


def _word(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


class ReleaseRequest(Frozen):
    """Somebody wants a containment undone. ``actions`` narrows it."""

    analyst: Annotated[str, Field(min_length=1, max_length=320)]
    reason: Annotated[str, Field(min_length=1)]
    actions: Annotated[tuple[Annotated[ActionName, BeforeValidator(_word)], ...], Field(min_length=1)] | None = None

    @property
    def chosen(self) -> tuple[ActionName, ...]:
        """The actions that it wants undone."""
        return tuple(action for action in CONTAIN if self.actions is None or action in self.actions)


class LeaseAnswer(Frozen):
    """An answer to the question whether to release or to renew."""

    decision: Annotated[LeaseDecision, BeforeValidator(_word)]
    analyst: Annotated[str, Field(min_length=1, max_length=320)]
    reason: Annotated[str, Field(min_length=1)]
    question: str | None = None


def read_request(raw: Any) -> ReleaseRequest:
    """Read a request for a release. Raises ReleaseRefused with each fault."""
    return _read(ReleaseRequest, raw, "analyst and reason")


def read_lease_answer(raw: Any) -> LeaseAnswer:
    """Read an answer to the question of a lease. Raises ReleaseRefused with each fault."""
    return _read(LeaseAnswer, raw, "decision, analyst and reason")


def _read(model: type[Model], raw: Any, wanted: str) -> Model:
    if not isinstance(raw, dict):
        raise ReleaseRefused(f"malformed: want an object with {wanted}")
    known = {key: raw[key] for key in model.model_fields if raw.get(key) is not None}
    for key in ("analyst", "reason", "question"):
        if isinstance(known.get(key), str):
            known[key] = plain(known[key], limit=_MAX_REASON)
    try:
        return model.model_validate(known)
    except ValidationError as error:
        faults = [_fault(e) for e in error.errors(include_url=False, include_context=False, include_input=False)]
        raise ReleaseRefused("malformed: " + "; ".join(dict.fromkeys(faults))) from None


def _fault(error: Any) -> str:
    key = str(error["loc"][0]) if error["loc"] else ""
    match error["type"]:
        case "missing" | "string_too_short":
            text = "is missing"
        case "too_short":
            text = "names none; leave it out for all of them"
        case "enum" if key == "actions":
            text = f"must be among {', '.join(ActionName)}"
        case "enum":
            text = f"must be one of {', '.join(LeaseDecision)}"
        case _:
            text = str(error["msg"]).removeprefix("Value error, ")
    return f"{key}: {text}" if key else text


class Undo(BaseModel):
    """One action's undoing: how far it came, or why it is left alone. ``key`` says which write it undoes."""

    key: str
    action: ActionName
    target: str | None
    state: ActionState
    why: Left | None = None
    detail: str = ""
    by: str
    at: AwareDatetime

    @property
    def covered(self) -> bool:
        """Whether a further request has nothing to add: it is under way, done, or left alone for good."""
        if self.state is ActionState.LEFT_ALONE:
            return self.why in _FOR_GOOD
        return self.state in (ActionState.REQUESTED, ActionState.ACCEPTED, ActionState.VERIFIED)

    @property
    def stands(self) -> bool:
        """Whether something of ours may still stand, so that hands are needed."""
        if self.state is ActionState.LEFT_ALONE:
            return self.why not in _NOTHING_STANDS
        return self.state is not ActionState.VERIFIED


class ContainmentOf(Frozen):
    """What did this case do? Without ``run_id``: its latest run that changed anything.

    ``after`` names the release that ended last, as far as the asker knows.
    """

    case_id: str
    run_id: str | None = None
    after: str | None = None


class Earlier(Frozen):
    """What an earlier release of the same run did: a second one has nothing to add to it."""

    by: str | None
    reason: str | None
    receipt: dict[str, Any]
    actions: tuple[Undo, ...]


class Containment(Frozen):
    """What one run of a case did, as far as undoing it needs to know.

    ``excluded`` are those who do not decide: the suspect and their reporting line. ``open`` says that the run goes on,
    ``later`` that a younger run of the same case does, and why it wants what stands.
    """

    case_id: str
    run_id: str
    key: str
    reference: str
    open: bool = False
    stage: Stage = Stage.CLOSED
    priority: Priority
    actions: tuple[ActionRecord, ...] = ()
    excluded: tuple[Identity, ...] = ()
    recused: dict[str, str] = Field(default={})
    ticket: TicketRecord | None = None
    policy: CasePolicy
    later: str | None = None
    earlier: Earlier | None = None

    @classmethod
    def of(cls, status: dict[str, Any], policy: CasePolicy, *, run_id: str, key: str, open: bool) -> Containment:  # noqa: A002
        """From what the case's query ``status`` answers, and the settings that it was started with."""
        user = status.get("user") or {}
        person = Person.model_validate(user["detail"]) if user.get("known") else None
        voters = Voters.model_validate(status["voters"]) if status.get("voters") else None
        return cls(
            case_id=status["case_id"],
            run_id=run_id,
            key=key,
            reference=status["reference"],
            open=open,
            stage=Stage(status["stage"]),
            priority=Priority(status["priority"]),
            actions=tuple(ActionRecord.model_validate(action) for action in status["actions"]),
            excluded=tuple(map(_identity, (person, *person.managers))) if person else (),
            recused=voters.recused if voters else {},
            ticket=TicketRecord.model_validate(status["ticket"]) if status.get("ticket") else None,
            policy=policy.model_copy(update={"tiers": with_members(policy.tiers, voters)}) if voters else policy,
        )

    @property
    def ours(self) -> bool:
        """Whether the run changed anything."""
        return any(action.changed for action in self.actions)

    @property
    def electorate(self) -> Electorate:
        """Who may decide about it: groups and recusals are those that the case last knew."""
        given = Electorate.of(self.policy.tiers, None, self.excluded)
        return given.model_copy(update={"recused": self.recused})

    def joined(self, newer: Containment) -> Containment:
        """The newer run's containment, with what of this one it did not do anew."""
        done = {write_key(action) for action in newer.actions if action.changed}
        kept = tuple(action for action in self.actions if action.changed and write_key(action) not in done)
        not_ours = tuple(a for a in newer.actions if a.changed or write_key(a) not in {write_key(k) for k in kept})
        excluded = tuple(dict.fromkeys((*newer.excluded, *self.excluded)))
        recused = {**self.recused, **newer.recused}
        return newer.model_copy(update={"actions": (*kept, *not_ours), "excluded": excluded, "recused": recused})


def _identity(person: Identity) -> Identity:
    """The names alone: a directory record is large, and a lease is carried on for years."""
    return Identity(account=person.account, upn=person.upn, mails=person.mails, display_name=person.display_name)


def write_key(action: ActionRecord) -> str:
    """Which object an action wrote to."""
    account, device = action.account, action.device
    what = (account.guid or account.dn) if account else device.id if device else action.target or "unknown"
    return f"{action.action}/{what}"


def left_alone(action: ActionRecord, containment: Containment, now: datetime) -> tuple[Left, str] | None:
    """Why this action is not undone, in words; ``None`` if it is to be."""
    if containment.open and _carried_out(action, containment, now):
        return Left.BUSY, "being carried out: try again"
    if action.state in (ActionState.LEFT_ALONE, ActionState.OBSERVED):
        return Left.NOT_DONE, "the case did not do it"
    if not action.changed:
        return _not_ours(action)
    was = before(action)
    if was is None or (action.account or action.device) is None:
        return Left.BEFORE_UNKNOWN, UNKNOWN_BEFORE
    if was:
        return Left.NOT_OURS, "it was so before this case"
    return (Left.WANTED, containment.later) if containment.later else None


def _not_ours(action: ActionRecord) -> tuple[Left, str]:
    if action.state in (ActionState.FAILED, ActionState.REQUESTED):
        told = f": {action.detail}" if action.detail else ""
        return Left.BEFORE_UNKNOWN, f"{UNKNOWN_BEFORE}{told}"
    if before(action) is False:
        return Left.BEFORE_UNKNOWN, "whose change it was is not known: nothing is changed"
    told = f"{action.detail or 'nothing was changed'}; if an earlier run of the case did it, release that run by its id"
    return Left.NOT_OURS, f"it was so before this case ({told})"


def _carried_out(action: ActionRecord, containment: Containment, now: datetime) -> bool:
    """Whether the case is still at it. A read-back that the case went on without is not waited for."""
    if containment.stage is Stage.CONTAINING or action.state is ActionState.REQUESTED:
        return True
    if action.state not in (ActionState.ACCEPTED, ActionState.IN_FORCE):
        return False
    settle = containment.policy.settle_within
    return containment.stage is Stage.VERIFYING and (settle is None or now < action.at + settle)


def before(action: ActionRecord) -> bool | None:
    """Whether the account was disabled, or the host cut off, before the case; ``None`` if that is not known."""
    return in_force(action.action, action.before or {})


def in_force(action: ActionName, state: dict[str, str]) -> bool | None:
    """Whether a state, as a write tells it, is a disabled account or a cut off host; ``None`` if it does not tell."""
    if action is ActionName.DISABLE_ACCOUNT:
        value = state.get("userAccountControl", "")
        # Nought stands for a value that was never told: no account has it.
        return bool(int(value) & ACCOUNT_DISABLE) if value.isdecimal() and int(value) else None
    status = state.get("status", "").casefold()
    return True if status in CUT_OFF else False if status in FREE else None
