"""What a channel is told of a case: few lines, and no name of a person or a host.

A channel is read by more people than a tier, and the suspect may be one of them or sit next to one. So a line has the
case's reference, its priority, whose turn it is and until when, who decided (never by name) and how it ended.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import AwareDatetime

from incident.evidence import Frozen
from incident.record import CaseRecord, DecidedBy, Outcome
from incident.telling import clock
from incident.text import plain

_WORD_OF: Final = {
    DecidedBy.ANALYST: "an analyst",
    DecidedBy.TABLE: "the decision table",
    DecidedBy.DEFAULT: "the declared default, because nobody answered",
}


class ChatKind(StrEnum):
    """What happened that a channel is told of."""

    ASKED = "asked"
    ESCALATED = "escalated"
    WITHDRAWN = "withdrawn"
    DECIDED = "decided"
    CLOSED = "closed"


class ChatNotice(Frozen):
    """One line for a channel. ``case_id`` makes the link to the case's page, and is never part of the text."""

    kind: ChatKind
    case_id: str
    text: str


class Told(Frozen):
    """What was told of a case so far: the question that stood and whose turn it was, the decision, the end."""

    question: str | None = None
    tier: str | None = None
    decided_at: AwareDatetime | None = None
    closed: bool = False


def told_by_now(record: CaseRecord) -> Told:
    """What counts as told where a case goes on in a fresh history: everything."""
    question, decision = record.question, record.decision
    return Told(
        question=question.id if question else None,
        tier=question.tier if question else None,
        decided_at=decision.at if decision else None,
        closed=record.outcome is not None,
    )


def news(told: Told, record: CaseRecord) -> tuple[Told, list[ChatNotice]]:
    """What a channel has to be told since ``told``, in order, and what is told with it.

    A question that is gone is held until it is known why: an answer, another question, or the table.
    """
    notices: list[ChatNotice] = []
    decision, question = record.decision, record.question
    if question and question.due_at == question.posed_at:
        question = None  # nobody's turn yet
    if decision and decision.at != told.decided_at:
        if told.question and decision.by is DecidedBy.TABLE:
            notices.append(_withdrawn(record))
        what = f"decided by {_WORD_OF[decision.by]}: {_words(decision.decision)}; stage {_words(record.stage)}"
        notices.append(_notice(record, ChatKind.DECIDED, what))
        told = Told(decided_at=decision.at, closed=told.closed)
    if question:
        turn = f"{plain(question.tier, limit=100)} is asked until {clock(question.due_at)}"
        if question.id != told.question:
            if told.question:
                notices.append(_withdrawn(record))
            notices.append(_notice(record, ChatKind.ASKED, turn))
        elif question.tier != told.tier:
            notices.append(_notice(record, ChatKind.ESCALATED, f"nobody answered in time; {turn}"))
        told = told.model_copy(update={"question": question.id, "tier": question.tier})
    if record.outcome and not told.closed:
        # A repeated delivery is nothing to tell: its case was told of.
        if record.outcome is not Outcome.DUPLICATE:
            notices.append(_notice(record, ChatKind.CLOSED, f"closed: {_words(record.outcome)}"))
        told = told.model_copy(update={"closed": True})
    return told, notices


def _withdrawn(record: CaseRecord) -> ChatNotice:
    return _notice(record, ChatKind.WITHDRAWN, "the question is withdrawn, because what is known has changed")


def _notice(record: CaseRecord, kind: ChatKind, what: str) -> ChatNotice:
    text = f"Case {record.reference}, priority {record.priority}: {what}."
    return ChatNotice(kind=kind, case_id=record.case_id, text=text)


def _words(name: str) -> str:
    return plain(name, limit=100).replace("_", " ")
