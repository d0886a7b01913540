"""What a case keeps of the alerts that joined it, however many: each is known again, and few are kept in full.

An alert is known again by the first 64 bits of SHA-256 over the case's key and its id: nobody who names alerts knows
the key beforehand, and of 100,000 alerts two are taken for one with a chance of one in billions.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, PlainSerializer

from incident.alert import Alert
from incident.text import plain
from incident.triage import Priority

MOST_NAMED: Final = 500
"""Of so many alerts a record holds the ids as they are, the first ones."""

MOST_SEARCHABLE: Final = 50
"""So many of them are searchable; a host that floods us must not push the case over Temporal's size limit."""

MOST_KNOWN: Final = 100_000
"""So many alerts are known again; of a larger flood the oldest ones would join twice."""

MOST_OTHERS: Final = 500
"""So many alerts of somebody else wait for a case of their own."""

MOST_RULES: Final = 20
OTHERS_SHOWN: Final = 50
"""So many of the alerts of somebody else are named in a status."""

_OF_OTHERS: Final = {"id", "occurred_at", "severity", "user_account", "destination_host"}
_LARGE: Final = 1000
_ONE_BY_ONE: Final = 20
"""So many alerts have a line of the timeline each; those after them share one a look."""

_SIZE: Final = 8
_OTHER_RULES: Final = "other rules"
_NO_RULE: Final = "no rule named"


# One alert is asked for, joined and marked one after the other.
@lru_cache(maxsize=4)
def mark_of(key: str, alert_id: str) -> int:
    """What an alert is known by in the case of this key."""
    return int.from_bytes(hashlib.sha256(f"{key}/{alert_id}".encode()).digest()[:_SIZE], "big")


def packed(marks: Iterable[int]) -> str:
    """Marks as text, in their order: base64 of eight bytes each."""
    return base64.b64encode(b"".join(mark.to_bytes(_SIZE, "big") for mark in marks)).decode("ascii")


def unpacked(text: str) -> dict[int, None]:
    """The marks of a text that ``packed`` made. Raises ValueError for any other."""
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"no marks: {error}") from None
    if len(raw) % _SIZE:
        raise ValueError("no marks: it ends in the middle of one")
    return {int.from_bytes(raw[at : at + _SIZE], "big"): None for at in range(0, len(raw), _SIZE)}


Marks = Annotated[
    dict[int, None],
    BeforeValidator(lambda given: unpacked(given) if isinstance(given, str) else given),
    PlainSerializer(packed, return_type=str),
]
"""Marks in the order in which their alerts came; text as soon as they are written down."""


class Tally(BaseModel):
    """Alerts as numbers: by rule and severity, from when to when they are about, and how many bytes they tell of."""

    count: int = 0
    rules: dict[str, int] = Field(default={})
    severities: dict[Priority, int] = Field(default={})
    first_at: AwareDatetime | None = None
    last_at: AwareDatetime | None = None
    bytes_transferred: int = 0

    def add(self, alert: Alert) -> None:
        """Count an alert in."""
        self.count += 1
        rule = plain(alert.rule or _NO_RULE, limit=120)
        if rule not in self.rules and len(self.rules) >= MOST_RULES:
            rule = _OTHER_RULES
        self.rules[rule] = self.rules.get(rule, 0) + 1
        self.severities[alert.severity] = self.severities.get(alert.severity, 0) + 1
        at: datetime = alert.occurred_at
        self.first_at = min(self.first_at or at, at)
        self.last_at = max(self.last_at or at, at)
        self.bytes_transferred += alert.bytes_transferred or 0

    def line(self) -> str:
        """All of them in a line."""
        highest = max(self.severities, key=lambda severity: severity.rank)
        rules = f"{len(self.rules)} rule{'' if len(self.rules) == 1 else 's'}"
        alerts = f"{self.count:,} alert{'' if self.count == 1 else 's'}"
        return f"{alerts} joined: {rules}, highest severity {highest}"


def _bounded(alert: Alert) -> Alert:
    """The alert, of a large one what a case needs of it: many of them wait in one record."""
    if len(alert.model_dump_json()) <= _LARGE:
        return alert
    needed = alert.model_dump(include=_OF_OTHERS | {"destination_ip", "tenant", "bytes_transferred", "source_ip"})
    texts = {"rule": alert.rule, "source_host": alert.source_host, "siem_incident_id": alert.siem_incident_id}
    short = {name: text[:200] for name, text in (texts | needed).items() if isinstance(text, str)}
    return Alert.model_validate({**needed, **short, "id": alert.id, "event_ids": alert.event_ids[:5]})


class Joined(BaseModel):
    """The alerts of a case beside those ids that it names: ``untold`` are those that no line tells of yet.

    ``others`` are alerts about another host or user at the same address, which wait until this case has closed; those
    that ``dropped`` counts were beyond the bound.
    """

    marks: Marks = Field(default={})
    forgotten: int = 0
    tally: Tally = Field(default_factory=Tally)
    untold: Tally = Field(default_factory=Tally)
    others: list[Alert] = []
    dropped: int = 0

    @property
    def total(self) -> int:
        """How many alerts the case has, the one that opened it included."""
        return len(self.marks) + self.forgotten

    def knows(self, mark: int) -> bool:
        """Whether an alert is here."""
        return mark in self.marks

    def mark(self, mark: int) -> None:
        """Know an alert again from now on."""
        self.marks[mark] = None
        if len(self.marks) > MOST_KNOWN:
            # Many at once: to drop them one by one would look through all that were dropped before.
            kept = list(self.marks)[MOST_KNOWN // 10 :]
            self.forgotten += len(self.marks) - len(kept)
            self.marks = dict.fromkeys(kept)

    def add(self, alert: Alert) -> bool:
        """Count a joined alert; tells whether it gets a line of its own."""
        self.tally.add(alert)
        if self.total <= _ONE_BY_ONE:
            return True
        self.untold.add(alert)
        return False

    def keep(self, other: Alert) -> bool:
        """Keep an alert of somebody else; tells whether there was room."""
        if len(self.others) >= MOST_OTHERS:
            self.dropped += 1
            return False
        self.others.append(_bounded(other))
        return True

    def view(self) -> dict[str, Any]:
        """For the status: how many there are, what they tell together, and the first of those of somebody else."""
        return {
            "alerts_total": self.total,
            "joined_alerts": self.tally.model_dump(mode="json"),
            "others": [one.model_dump(mode="json", include=_OF_OTHERS) for one in self.others[:OTHERS_SHOWN]],
            "others_total": len(self.others) + self.dropped,
        }

    def told(self) -> str | None:
        """The line about those that had none of their own, once."""
        if not self.untold.count:
            return None
        line, self.untold = self.untold.line(), Tally()
        return line


def known_in(status: dict[str, Any], alert_ids: Sequence[str]) -> set[str]:
    """Which of these alerts a closed case had, by its result."""
    named = set(status.get("alerts") or ())
    found = {one for one in alert_ids if one in named}
    text, key = status.get("alert_marks"), status.get("key")
    if isinstance(text, str) and isinstance(key, str):
        marks = unpacked(text)
        found |= {one for one in alert_ids if mark_of(key, one) in marks}
    return found
