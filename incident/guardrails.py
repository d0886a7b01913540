"""What stands before every containment write: allow it, or ask a person first, with the reason in words.

The identifiers of privileged accounts and groups are those of MS-DTYP 2.4.2.4.
"""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase

from incident.evidence import Device, Frozen, Host, Person
from incident.policy import GuardrailPolicy, Mode

_PRIVILEGED_ACCOUNTS = {500: "the built-in administrator", 501: "the guest account", 502: "the Kerberos key account"}
_PRIVILEGED_BY_NAME = {"administrator": 500, "guest": 501, "krbtgt": 502}
_PRIVILEGED_GROUPS = {
    512: "Domain Admins",
    516: "Domain Controllers",
    517: "Cert Publishers",
    518: "Schema Admins",
    519: "Enterprise Admins",
    520: "Group Policy Creator Owners",
    521: "Read-only Domain Controllers",
    526: "Key Admins",
    527: "Enterprise Key Admins",
}
_BUILTIN_GROUPS = {
    "S-1-5-32-544": "Administrators",
    "S-1-5-32-548": "Account Operators",
    "S-1-5-32-549": "Server Operators",
    "S-1-5-32-550": "Print Operators",
    "S-1-5-32-551": "Backup Operators",
    "S-1-5-32-552": "Replicator",
}
_PRIVILEGED_NAMES = {n.casefold() for n in (*_PRIVILEGED_GROUPS.values(), *_BUILTIN_GROUPS.values())}
_PROTECTED_KINDS = {"domain controller", "server"}


class Allowance(StrEnum):
    """What a guardrail says."""

    ALLOW = "allow"
    ASK = "ask"


class Ruling(Frozen):
    """A guardrail's word and its reason. The reason stands in the case, the mail and the ticket."""

    allowance: Allowance
    reason: str

    @property
    def asks(self) -> bool:
        """Whether a person has to approve first."""
        return self.allowance is Allowance.ASK


_ALLOWED = Ruling(allowance=Allowance.ALLOW, reason="no guardrail applies")


def _ask(reason: str) -> Ruling:
    return Ruling(allowance=Allowance.ASK, reason=reason)


def _mode(policy: GuardrailPolicy, *, answered: bool) -> Ruling:
    if policy.mode is Mode.ACT or answered:
        return _ALLOWED
    return _ask(f"guardrails.mode is {policy.mode}: nothing is done without a person")


def evaluate_account(person: Person, policy: GuardrailPolicy, *, answered: bool = False) -> Ruling:
    """Whether this account may be disabled without a person.

    ``answered`` says that an analyst decided it: that satisfies the mode, and protects nobody less.
    """
    names = [name for name in (person.account, person.upn, *person.mails) if name]
    if any(_matches(name, pattern) for pattern in _spellings(policy.protected_accounts) for name in names):
        return _ask(f"account {person.account} is on the list of protected accounts")
    if person.service_account:
        return _ask(f"account {person.account} is a service account: {person.service_account}")
    rid = _rid(person.sid) if person.sid else _PRIVILEGED_BY_NAME.get(person.account.casefold())
    if rid in _PRIVILEGED_ACCOUNTS:
        return _ask(f"account {person.account} is {_PRIVILEGED_ACCOUNTS[rid]}")
    for group in person.groups:
        privileged = _privileged_group(group.name, group.sid)
        if privileged:
            return _ask(f"account {person.account} is a member of {privileged}")
        patterns = _spellings(policy.protected_groups)
        if any(_matches(name, pattern) for pattern in patterns for name in (group.name, group.sid or "")):
            return _ask(f"account {person.account} is a member of the protected group {group.name}")
    return _mode(policy, answered=answered)


def evaluate_host(host: Host, device: Device | None, policy: GuardrailPolicy, *, answered: bool = False) -> Ruling:
    """Whether this host may be quarantined without a person. ``device`` tells what kind of machine it is.

    ``answered`` as in ``evaluate_account``.
    """
    names = (host.name, device.hostname) if device else (host.name,)
    if any(
        _matches(host.ip, pattern) or any(_means_host(name, pattern) for name in names)
        for pattern in policy.protected_hosts
    ):
        return _ask(f"host {host.name} is on the list of protected hosts")
    if device and device.kind and device.kind.casefold() in _PROTECTED_KINDS:
        return _ask(f"host {host.name} is a {device.kind.lower()}")
    return _mode(policy, answered=answered)


def _spellings(patterns: tuple[str, ...]) -> list[str]:
    """The patterns as they stand, and without the domain before a backslash: the directory's names come without it."""
    return [*patterns, *(pattern.rpartition("\\")[2] for pattern in patterns if "\\" in pattern)]


def _matches(name: str, pattern: str) -> bool:
    # fnmatch knows sets in brackets as well; a bracket in a group's name is a bracket.
    return fnmatchcase(name.casefold(), pattern.casefold().replace("[", "[[]"))


def _means_host(name: str, pattern: str) -> bool:
    """By the whole name, or by the host label alone where either of the two lacks the domain."""
    if _matches(name, pattern):
        return True
    short, label = name.partition(".")[0], pattern.partition(".")[0]
    one_lacks_domain = (short == name) is not (label == pattern)
    return one_lacks_domain and bool(label.strip("*?")) and _matches(short, label)


def _rid(sid: str | None) -> int | None:
    tail = (sid or "").rpartition("-")[2]
    return int(tail) if (sid or "").startswith("S-1-5-21-") and tail.isdecimal() else None


def _privileged_group(name: str, sid: str | None) -> str | None:
    if sid in _BUILTIN_GROUPS:
        return _BUILTIN_GROUPS[sid]
    rid = _rid(sid)
    if rid in _PRIVILEGED_GROUPS:
        return _PRIVILEGED_GROUPS[rid]
    return name if sid is None and name.casefold() in _PRIVILEGED_NAMES else None
