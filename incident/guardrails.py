"""What stands before every containment write: allow it, ask a person first, or deny it, with the reason in words.

The identifiers of privileged accounts and groups are those of MS-DTYP 2.4.2.4.
"""

from __future__ import annotations

import re
from enum import StrEnum
from fnmatch import fnmatchcase

from incident.evidence import Device, Frozen, Host, Person
from incident.policy import Approval, GuardrailPolicy, Mode
from incident.requests import Reservation
from incident.triage import ActionName

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
_SEPARATOR = re.compile(r"(?<!\\)\s*([,=+])\s*")
"""What stands between the parts of a distinguished name (RFC 4514), unless it is escaped."""


class Allowance(StrEnum):
    """What a guardrail says. ``DENY`` is what no answer changes for now."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


class Ground(StrEnum):
    """Which guardrail spoke."""

    NONE = "none"
    OBSERVED = "observed"
    PROTECTED = "protected"
    MODE = "mode"
    FROZEN = "frozen"
    BUDGET = "budget"


class Ruling(Frozen):
    """A guardrail's word, its ground and its reason. The reason stands in the case, the mail and the ticket."""

    allowance: Allowance
    ground: Ground = Ground.NONE
    reason: str

    @property
    def asks(self) -> bool:
        """Whether a person has to approve first."""
        return self.allowance is Allowance.ASK

    @property
    def allows(self) -> bool:
        """Whether the write may go out."""
        return self.allowance is Allowance.ALLOW


class Target(Frozen):
    """What an action is about: an account, or a host with its endpoint agent."""

    person: Person | None = None
    host: Host | None = None
    device: Device | None = None


class Context(Frozen):
    """What a guardrail knows besides the target.

    ``answered`` says that an analyst decided it: that satisfies the mode and the limits, and protects nobody less.
    ``approved`` says that the protected target itself was approved as the policy demands. ``reservation`` is what the
    ledger said; ``None`` where it was not asked so far.
    """

    policy: GuardrailPolicy
    answered: bool = False
    approved: bool = False
    reservation: Reservation | None = None


_ALLOWED = Ruling(allowance=Allowance.ALLOW, reason="no guardrail applies")


def evaluate(action: ActionName, target: Target, context: Context) -> Ruling:
    """What the guardrails say about one write.

    Raises:
        ValueError: the target is not of the action's kind; what is not known is never written to.
    """
    policy = context.policy
    if policy.mode_of(action) is Mode.OBSERVE:
        why = f"guardrails: {action} is in observe mode, so it is written down and not done"
        return Ruling(allowance=Allowance.DENY, ground=Ground.OBSERVED, reason=why)
    protected = protection(action, target, policy)
    never = policy.protected_approval is Approval.NEVER
    if protected and (never or not context.approved):
        return Ruling(allowance=Allowance.DENY if never else Allowance.ASK, ground=Ground.PROTECTED, reason=protected)
    if not context.answered and policy.mode_of(action) is not Mode.ACT:
        why = f"guardrails: {action} is in {policy.mode_of(action)} mode, so nothing is done without a person"
        return Ruling(allowance=Allowance.ASK, ground=Ground.MODE, reason=why)
    return _by_ledger(context) or _ALLOWED


def _by_ledger(context: Context) -> Ruling | None:
    told = context.reservation
    if told is None or told.granted:
        return None
    if told.frozen:
        return Ruling(allowance=Allowance.DENY, ground=Ground.FROZEN, reason=told.reason)
    return None if context.answered else Ruling(allowance=Allowance.ASK, ground=Ground.BUDGET, reason=told.reason)


def protection(action: ActionName, target: Target, policy: GuardrailPolicy) -> str | None:
    """Why the target of this action is protected, in words, or ``None``.

    Raises:
        ValueError: the target is not of the action's kind.
    """
    if action is ActionName.DISABLE_ACCOUNT:
        if target.person is None:
            raise ValueError("only a known account is evaluated")
        return _protected_account(target.person, policy)
    if target.host is None:
        raise ValueError("only a known host is evaluated")
    return _protected_host(target.host, target.device, policy)


def _protected_account(person: Person, policy: GuardrailPolicy) -> str | None:
    names = [name for name in (person.account, person.upn, *person.mails) if name]
    if _listed(names, policy.own_accounts) or any(_same_dn(person.dn, own) for own in policy.own_accounts):
        return f"account {person.account} is one that Holdpoint itself uses"
    if _listed(names, policy.protected_accounts):
        return f"account {person.account} is on the list of protected accounts"
    if any(person.answers_to(mail) for mail in policy.responders):
        return f"account {person.account} belongs to one of those who answer cases"
    if person.service_account:
        return f"account {person.account} is a service account: {person.service_account}"
    if person.account.endswith("$"):
        return f"account {person.account} is a machine's or a managed service account"
    rid = _rid(person.sid) if person.sid else _PRIVILEGED_BY_NAME.get(person.account.casefold())
    if rid in _PRIVILEGED_ACCOUNTS:
        return f"account {person.account} is {_PRIVILEGED_ACCOUNTS[rid]}"
    return _protected_member(person, policy)


def _protected_member(person: Person, policy: GuardrailPolicy) -> str | None:
    for group in person.groups:
        privileged = _privileged_group(group.name, group.sid)
        if privileged:
            return f"account {person.account} is a member of {privileged}"
        if _listed([group.name, group.sid or ""], policy.protected_groups):
            return f"account {person.account} is a member of the protected group {group.name}"
    return None


def _protected_host(host: Host, device: Device | None, policy: GuardrailPolicy) -> str | None:
    names = (host.name, device.hostname) if device else (host.name,)
    if any(_is_own(name, own) for own in policy.own_hosts for name in (*names, host.ip)):
        return f"host {host.name} is one that Holdpoint itself uses"
    if any(_matches(host.ip, p) or any(_means_host(name, p) for name in names) for p in policy.protected_hosts):
        return f"host {host.name} is on the list of protected hosts"
    if device and device.kind and device.kind.casefold() in _PROTECTED_KINDS:
        return f"host {host.name} is a {device.kind.lower()}"
    return None


def _listed(names: list[str], patterns: tuple[str, ...]) -> bool:
    return any(_matches(name, pattern) for pattern in _spellings(patterns) for name in names)


def _spellings(patterns: tuple[str, ...]) -> list[str]:
    """The patterns as they stand, and without the domain before a backslash: the directory's names come without it."""
    return [*patterns, *(pattern.rpartition("\\")[2] for pattern in patterns if "\\" in pattern)]


def _matches(name: str, pattern: str) -> bool:
    # fnmatch knows sets in brackets as well; a bracket in a group's name is a bracket.
    return fnmatchcase(name.casefold(), pattern.casefold().replace("[", "[[]"))


def _same_dn(one: str, other: str) -> bool:
    """Whether two distinguished names are one text but for case and the spaces at the separators."""
    return _dn_text(one) == _dn_text(other)


def _dn_text(dn: str) -> str:
    return _SEPARATOR.sub(r"\1", dn.strip()).casefold()


def _is_own(name: str, own: str) -> bool:
    """By the whole name. Only an own name without a domain means that host in any domain.

    A vendor's ``api.example.com`` is no word about a host ``api`` of our own network.
    """
    name, own = name.rstrip(".").casefold(), own.rstrip(".").casefold()
    return name == own or name.partition(".")[0] == own


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
