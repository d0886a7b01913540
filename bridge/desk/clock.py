"""Times for a tired reader: how long is left, how long ago, and when exactly, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any


def moment(value: Any) -> datetime | None:
    """A time of a case, as it is told in JSON."""
    if isinstance(value, datetime):
        return value
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at and at.tzinfo is None else at


def length(seconds: float) -> str:
    """A length of time in its two largest units, ready to read."""
    minutes = max(int(seconds), 0) // 60
    if minutes < 1:
        return "less than a minute"
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {rest:02d} min" if hours else f"{rest} min"


def left(value: Any, now: datetime) -> str:
    """How long is left, or that nothing is."""
    at = moment(value)
    if at is None:
        return ""
    seconds = (at - now).total_seconds()
    return f"{length(seconds)} left" if seconds > 0 else f"over since {length(-seconds)}"


def lasting(value: Any, now: datetime) -> str:
    """How long it has lasted since."""
    at = moment(value)
    return length((now - at).total_seconds()) if at else ""


def ago(value: Any, now: datetime) -> str:
    """How long ago that was."""
    told = lasting(value, now)
    return f"{told} ago" if told else ""


def exact(value: Any, now: datetime) -> str:
    """The time of day in UTC, with the date where it is not today's."""
    at = moment(value)
    if at is None:
        return ""
    told = at.astimezone(UTC)
    same_day = told.date() == now.astimezone(UTC).date()
    return f"{told:%H:%M} UTC" if same_day else f"{told:%Y-%m-%d %H:%M} UTC"


def second(value: Any, now: datetime) -> str:
    """The same to the second, for a column of times that says elsewhere that it is in UTC."""
    at = moment(value)
    if at is None:
        return ""
    told = at.astimezone(UTC)
    same_day = told.date() == now.astimezone(UTC).date()
    return f"{told:%H:%M:%S}" if same_day else f"{told:%Y-%m-%d %H:%M:%S}"
