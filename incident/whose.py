"""Whose alert it is: an address belongs to one machine today and to another tomorrow, and so to another person.

A case is about one host and one user. An alert about the same address that names another of either, or of a time when
the address was another's, is none of its evidence.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final

from incident.alert import Alert
from incident.evidence import Located
from incident.record import CaseRecord
from incident.text import plain

LATER: Final = timedelta(hours=1)
"""So far from the case's own alert an alert that names nobody may be about another machine: the SIEM is asked."""


class Whose(Enum):
    """Whether an alert is about the host and the user of a case."""

    OURS = auto()
    ANOTHERS = auto()
    UNSURE = auto()


def whose(alert: Alert, record: CaseRecord, *, looked_up: bool) -> tuple[Whose, str]:
    """Whose an alert about the same address is, and who that is if not the case's.

    ``looked_up`` says whether the case's facts have been looked for: before, a name is compared with what its own alert
    names, and where that names nobody it is not sure.
    """
    by_user, who = _by_user(alert.user_account, record, looked_up)
    if by_user is Whose.ANOTHERS:
        return by_user, who
    by_host, what = _by_host(alert.destination_host, record, looked_up)
    if by_host is Whose.ANOTHERS:
        return by_host, what
    if not alert.user_account and not alert.destination_host:
        later = abs(alert.occurred_at - record.alert.occurred_at) > LATER
        return (Whose.UNSURE if later else Whose.OURS), ""
    return (Whose.UNSURE if Whose.UNSURE in (by_user, by_host) else Whose.OURS), ""


def _by_user(named: str | None, record: CaseRecord, looked_up: bool) -> tuple[Whose, str]:
    person, own = record.user.value, record.alert.user_account
    if not named or (own and bare(own) == bare(named)):
        return Whose.OURS, ""
    another = Whose.ANOTHERS, f"user {plain(named, limit=120)}"
    if person is not None:
        return (Whose.OURS, "") if any(map(person.answers_to, (named, bare(named)))) else another
    # A person has several names, and the directory may still tell that these are two of them.
    if not looked_up:
        return Whose.UNSURE, ""
    return another if own else (Whose.OURS, "")


def _by_host(named: str | None, record: CaseRecord, looked_up: bool) -> tuple[Whose, str]:
    own = record.host.value.name if record.host.value else record.alert.destination_host
    if not named or (own and short(own) == short(named)):
        return Whose.OURS, ""
    if own:
        return Whose.ANOTHERS, f"host {plain(named, limit=120)}"
    return (Whose.OURS if looked_up else Whose.UNSURE), ""


def owner(record: CaseRecord, located: Located) -> str | None:
    """Who had the address at another time, by the SIEM, if not the case's host and user. What is unknown is nobody."""
    host, account = located.host.value, located.account.value
    if host and record.host.value and short(host.name) != short(record.host.value.name):
        return f"host {plain(host.name, limit=120)}"
    person = record.user.value
    if account and person and not any(person.answers_to(name) for name in (account, bare(account))):
        return f"user {plain(account, limit=120)}"
    return None


def short(name: str) -> str:
    """A host's name without its domain, for comparison."""
    return name.strip().partition(".")[0].casefold()


def bare(account: str) -> str:
    """An account's name without its domain, before or behind it, for comparison."""
    return account.strip().rpartition("\\")[2].partition("@")[0].casefold()


def hour(at: datetime) -> datetime:
    """The hour that a time is in: what happened in it is asked about once."""
    return at.replace(minute=0, second=0, microsecond=0)
