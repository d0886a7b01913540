"""Which names mean the same host or the same person, and which mean no person at all. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from integrations.securonix_shapes import trimmed

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[^\W_](?:[\w-]*[^\W_])?(?:\.[\w-]+)*\.?")
_NOBODY = re.compile(
    r"-1|0|\W*|n/?a|null|none|unknown|undefined|localhost|system|localsystem|local ?service|network ?service"
    r"|anonymous( logon)?|iusr|dwm-\d+|umfd-\d+|.*\$"
)
_MACHINE_DOMAINS = frozenset(
    {"nt authority", "nt service", "nt virtual machine", "iis apppool", "window manager", "font driver host", "builtin"}
)


def host_name(text: str) -> str | None:
    """``text`` if it can be the name of a host; addresses and the ids of scanners are none."""
    name = text.strip().rstrip(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name if _HOST_NAME.fullmatch(name) and not name.isdigit() and not is_nobody(name) else None
    return None


def same_host(one: str, other: str) -> bool:
    """Whether two names mean one host: without case, and a short name means any full name that begins with it."""
    a, b = (trimmed(name).rstrip(".") for name in (one, other))
    if not a or not b:
        return False
    return a == b or ("." not in min(a, b, key=len) and a.partition(".")[0] == b.partition(".")[0])


def distinct_hosts(names: Iterable[str]) -> list[str]:
    """One name a host, the full one if it is among them; a short name is the full names that begin with it."""
    found: list[str] = []
    # Full names first: two of them differ even where a short one would fit both.
    for name in sorted(names, key=lambda n: "." not in n):
        if not any(same_host(name, known) for known in found):
            found.append(name)
    return found


def account_name(text: str) -> str:
    r"""An account without domain and case: the same for ``ACME\jroe``, ``jroe@acme.example`` and ``JROE``."""
    name = trimmed(text)
    return name.rpartition("\\")[2].partition("@")[0].strip()


def bare_account(text: str) -> str:
    """An account without its domain, as it is spelled."""
    return text.strip().rpartition("\\")[2].partition("@")[0].strip()


def is_nobody(text: str) -> bool:
    """Whether an account belongs to a machine or to the system, or says that there is none."""
    domain, _, _ = trimmed(text).rpartition("\\")
    return domain in _MACHINE_DOMAINS or _NOBODY.fullmatch(account_name(text)) is not None


def distinct_people(accounts: Iterable[str]) -> list[str]:
    """One account a person, the first spelling of each. The same name in two Windows domains is two people."""
    found: dict[str, str] = {}
    domains: dict[str, set[str]] = {}
    others = []
    for account in accounts:
        name, domain = account_name(account), trimmed(account).rpartition("\\")[0]
        if name not in found:
            found[name] = account
        elif domain and domains[name] and domain not in domains[name]:
            others.append(account)
        domains.setdefault(name, set()).update({domain} - {""})
    return [*found.values(), *others]
