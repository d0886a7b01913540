"""An analyst's answer: read leniently, weighed strictly. A refusal has its reason in words."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from incident.evidence import Frozen, Identity
from incident.policy import Tier
from incident.text import plain
from incident.triage import CONTAIN, ActionName

_MAX_REASON = 2000


class DecisionName(StrEnum):
    """What an analyst may choose."""

    CONTAIN = "contain"
    FALSE_POSITIVE = "false_positive"


class AnswerRefused(ValueError):
    """The answer does not count; the message says why."""


def _word(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


class Answer(Frozen):
    """A well-formed answer. ``actions`` narrows ``contain``; ``question`` names the question that is answered.

    ``digest`` is that question's, by which an answer is refused that was meant for another state of the world.
    """

    decision: Annotated[DecisionName, BeforeValidator(_word)]
    analyst: Annotated[str, Field(min_length=1, max_length=320)]
    reason: Annotated[str, Field(min_length=1)]
    actions: tuple[Annotated[ActionName, BeforeValidator(_word)], ...] | None = None
    question: str | None = None
    digest: str | None = None

    @model_validator(mode="after")
    def _narrowed(self) -> Answer:
        if self.actions is None:
            return self
        if self.decision is not DecisionName.CONTAIN:
            raise ValueError("actions: goes with contain only")
        if not self.actions:
            raise ValueError("actions: names none; leave it out for all of them")
        return self

    @property
    def chosen(self) -> tuple[ActionName, ...]:
        """The actions that this answer asks for, in the table's order, each once."""
        if self.decision is not DecisionName.CONTAIN:
            return ()
        return tuple(action for action in CONTAIN if self.actions is None or action in self.actions)


def read_answer(raw: Any) -> Answer:
    """Read what came in by signal, update or command line.

    Raises:
        AnswerRefused: it is malformed; the message names each fault.
    """
    if not isinstance(raw, dict):
        raise AnswerRefused("malformed: want an object with decision, analyst and reason")
    known = {key: raw[key] for key in Answer.model_fields if raw.get(key) is not None}
    for key in ("analyst", "reason", "question", "digest"):
        if isinstance(known.get(key), str):
            known[key] = plain(known[key], limit=_MAX_REASON)
    try:
        return Answer.model_validate(known)
    except ValidationError as error:
        faults = [_fault(e) for e in error.errors(include_url=False, include_context=False, include_input=False)]
        raise AnswerRefused("malformed: " + "; ".join(faults)) from None


def contradicts(answer: Answer, decided: tuple[ActionName, ...]) -> bool:
    """Whether an answer says other than what was decided to be done. What is not narrowed agrees to all of it."""
    if answer.actions is None:
        return bool(answer.chosen) is not bool(decided)
    return set(answer.chosen) != set(decided)


def _fault(error: Any) -> str:
    key = str(error["loc"][0]) if error["loc"] else ""
    match error["type"]:
        case "missing" | "string_too_short":
            text = "is missing"
        case "enum" if key == "actions":
            text = f"must be among {', '.join(ActionName)}"
        case "enum":
            text = f"must be one of {', '.join(DecisionName)}"
        case _:
            text = str(error["msg"]).removeprefix("Value error, ")
    return f"{key}: {text}" if key else text


class Electorate(Frozen):
    """Who may answer: the analysts of every tier, except the suspect and their reporting line.

    ``recused`` are addresses that the directory keeps from answering, with the reason, ``accounts`` whose account an
    address is, ``undetermined`` the tiers whose group could not be read so far: others than ``analysts`` may be in it.
    """

    analysts: tuple[str, ...]
    excluded: tuple[Identity, ...] = ()
    recused: dict[str, str] = Field(default={})
    accounts: dict[str, str] = Field(default={})
    undetermined: tuple[str, ...] = ()

    @classmethod
    def of(cls, tiers: Iterable[Tier], suspect: Identity | None, managers: Iterable[Identity] = ()) -> Electorate:
        """The electorate of a case. An unknown suspect excludes nobody."""
        analysts = tuple(dict.fromkeys(mail.casefold() for tier in tiers for mail in tier.analysts))
        return cls(analysts=analysts, excluded=(*((suspect,) if suspect else ()), *managers))

    def excludes(self, mail: str) -> bool:
        """Whether this address belongs to the suspect or their reporting line, or is recused."""
        if mail.strip().casefold() in self.recused:
            return True
        local = mail.partition("@")[0]
        return any(person.answers_to(mail) or person.answers_to(local) for person in self.excluded)

    def objection(self, analyst: str) -> str | None:
        """Why this analyst may not answer, or ``None``."""
        if analyst.strip().casefold() not in self.analysts:
            return f"{analyst} is not named as an analyst in any tier"
        if analyst.strip().casefold() in self.recused:
            return f"{analyst} may not answer: {self.recused[analyst.strip().casefold()]}"
        if self.excludes(analyst):
            return f"{analyst} may not answer: the suspect and their reporting line do not decide"
        return None

    def is_named(self, analyst: str) -> bool:
        """Whether this address is an analyst's, whether or not they may answer this case."""
        return analyst.strip().casefold() in self.analysts

    def same_person(self, one: str, other: str) -> bool:
        """Whether two addresses are one person's, by the address or by the directory's word."""
        mine, theirs = one.strip().casefold(), other.strip().casefold()
        account = self.accounts.get(mine)
        return mine == theirs or (account is not None and account == self.accounts.get(theirs))

    def remaining(self, tiers: Iterable[Tier]) -> tuple[Tier, ...]:
        """The tiers without the excluded; a tier of which nobody is left to be asked or to answer is left out."""
        kept = []
        for tier in tiers:
            recipients = tuple(mail for mail in tier.recipients if not self.excludes(mail))
            analysts = tuple(mail for mail in tier.analysts if not self.excludes(mail))
            if recipients and (analysts or tier.name in self.undetermined):
                kept.append(tier.model_copy(update={"recipients": recipients, "analysts": analysts}))
        return tuple(kept)
