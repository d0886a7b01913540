"""How long a question has waited, for whom, and who has said yes so far: in words."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from incident.record import Asked, Question
from incident.text import plain

_OPENS = ("ask", "escalate")


def span(length: timedelta) -> str:
    """A length of time, ready to read: to the minute, and below one to the second."""
    seconds = max(int(length.total_seconds()), 0)
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def moment_of(at: datetime, now: datetime) -> str:
    """A time ready to read, in UTC; of today, by ``now``, the time alone."""
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    return f"{at:%H:%M} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M} UTC"


def asked_before(mails: Iterable[Asked], now: datetime) -> tuple[str, ...]:
    """Who was asked a question and for how long, by its mails so far, one line a tier, the first asked first."""
    first: dict[str, Asked] = {}
    for asked in mails:
        if asked.kind in _OPENS and (asked.tier not in first or first[asked.tier].failed):
            first[asked.tier] = asked
    return tuple(_line(asked, now) for asked in first.values())


def approvers(question: Question) -> tuple[str, ...]:
    """Who approved so far, with their tiers."""
    return tuple(plain(f"{given.analyst} ({', '.join(given.tiers)})") for given in question.approvals)


def approved_so_far(question: Question, now: datetime) -> tuple[str, ...]:
    """Who approved, of which tiers, when and why, one line each."""
    return tuple(
        plain(f"{given.analyst} ({', '.join(given.tiers)}) at {moment_of(given.at, now)}: {given.reason}")
        for given in question.approvals
    )


def _line(asked: Asked, now: datetime) -> str:
    when = moment_of(asked.at, now)
    if asked.failed:
        return plain(f"{asked.tier}, not reached: the mail failed at {when}")
    return plain(f"{asked.tier}, asked {when}, {span(now - asked.at)} without an answer")
