"""The kinds of value that settings are made of: durations, addresses, names. Each says what is wrong with a bad one."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

_DURATION = re.compile(r"(\d+)(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=3650)
_MAIL = re.compile(r"[^\s@<>\"',;:\x00-\x1f]+@[^\s@<>\"',;:\x00-\x1f]+")


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("is not a duration such as 30s, 15m, 2h or 7d")
    try:
        length = timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        length = timedelta.max
    if not timedelta(0) < length <= _LONGEST:
        raise ValueError(f"must be longer than nothing, and at most {_LONGEST.days}d")
    return length


def _mail_address(value: str) -> str:
    if not _MAIL.fullmatch(value):
        raise ValueError(f"{value!r} is not a mail address")
    return value


def is_loopback(host: str | None) -> bool:
    """Whether an address stays on this machine: only there may credentials travel in clear."""
    if host is None:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.casefold() == "localhost"


def _https(value: str) -> str:
    parts = urlsplit(value)
    if parts.port == 0:
        raise ValueError("has no port 0")
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("is not an https:// address")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("must be https://; plain http:// is for loopback addresses only")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must not hold a user, a query or a fragment")
    return value.rstrip("/")


def _ldap(value: str) -> str:
    parts = urlsplit(value)
    if parts.port == 0 or parts.username or parts.password:
        raise ValueError("must not hold a user, and no port 0")
    if parts.scheme not in ("ldaps", "ldap") or not parts.hostname:
        raise ValueError(f"{value!r} is neither ldaps://host nor ldap://host (which then speaks StartTLS)")
    return value.rstrip("/")


Duration = Annotated[timedelta, BeforeValidator(_duration)]
MailAddress = Annotated[str, AfterValidator(_mail_address)]
WebAddress = Annotated[str, AfterValidator(_https)]
DirectoryAddress = Annotated[str, AfterValidator(_ldap)]
Text = Annotated[str, Field(min_length=1)]
