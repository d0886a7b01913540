"""The answer form: read with a limit, checked field by field, and never filled in for anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from incident.decision import DecisionName
from incident.text import plain

LARGEST: Final = 16 * 1024
"""Bytes of a form; what is larger is not read."""

WITHIN: Final = 20.0
"""Seconds that a form may take to arrive."""

LONGEST_REASON: Final = 2000
_MOST_FIELDS = 30


class FormRefused(Exception):
    """This is no form of ours. ``status`` is the answer's."""

    def __init__(self, status: int) -> None:
        self.status = status


@dataclass(frozen=True)
class Filled:
    """A form as it was sent. All of it is untrusted text."""

    decision: str = ""
    reason: str = ""
    target: str = ""
    actions: tuple[str, ...] = ()
    csrf: str = ""
    question: str = ""
    digest: str = ""

    def answer(self, analyst: str, question: str, digest: str, asked: Sequence[str]) -> dict[str, Any]:
        """The answer that it is, as the case takes it; actions are named where they are fewer than ``asked``."""
        narrowed = [action for action in asked if action in self.actions]
        told: dict[str, Any] = {
            "decision": self.decision,
            "analyst": analyst,
            "reason": self.reason,
            "question": question,
        }
        if digest:
            told["digest"] = digest
        if narrowed and len(narrowed) < len(asked):
            told["actions"] = narrowed
        return told


async def read_form(request: Request) -> Filled:
    """The form that a browser sends. Raises FormRefused for what is too large or no form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise FormRefused(415)
    try:
        async with asyncio.timeout(WITHIN):
            body = await _body(request)
    except TimeoutError:
        raise FormRefused(408) from None
    except ClientDisconnect:
        raise FormRefused(400) from None  # nobody reads it
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="replace")
    except ValueError:
        raise FormRefused(400) from None
    given: dict[str, str] = {}
    for name, value in pairs:
        given.setdefault(name, value)
    return Filled(
        decision=given.get("decision", ""),
        reason=plain(given.get("reason", ""), limit=LONGEST_REASON),
        target=given.get("target", ""),
        actions=tuple(value for name, value in pairs if name == "actions"),
        csrf=given.get("csrf", ""),
        question=given.get("question", ""),
        digest=given.get("digest", ""),
    )


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise FormRefused(413)
    return bytes(body)


@dataclass
class Faults:
    """What is wrong with a form: a sentence a field, and one about the whole."""

    fields: dict[str, str] = field(default_factory=dict)
    whole: str = ""

    def __bool__(self) -> bool:
        return bool(self.fields or self.whole)


def check(filled: Filled, asked: Sequence[str], *, wants_target: bool) -> Faults:
    """What is missing or contradicts itself. Whether the target's name is right is not looked at here."""
    faults = Faults()
    if filled.decision not in tuple(DecisionName):
        faults.fields["decision"] = "Choose one of the two answers."
    if any(action not in asked for action in filled.actions):
        faults.fields["actions"] = "The question does not ask about this action. Tick again what you want."
    elif filled.actions and filled.decision == DecisionName.FALSE_POSITIVE:
        faults.fields["actions"] = "A false positive touches nothing: untick the actions, or choose the other answer."
    if not filled.reason:
        faults.fields["reason"] = "Say why, in a few words. It stands in the case and in the ticket."
    if wants_target and not filled.target.strip():
        faults.fields["target"] = "Type your answer and then the name of the host or of the account that this is about."
    return faults
