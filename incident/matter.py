"""What a question is about: its targets and the evidence that an answer weighs. Pure values, compared and told."""

from __future__ import annotations

from typing import Any

from incident.evidence import Frozen
from incident.text import plain
from incident.triage import ActionName, Corroborated, RiskLevel

_UNKNOWN = "unknown"


class HostTarget(Frozen):
    """The host that would be cut off, and its endpoint agent where one is known."""

    name: str
    ip: str
    agent: str | None = None


class AccountTarget(Frozen):
    """The account that would be disabled."""

    name: str
    dn: str
    guid: str | None = None


class Matter(Frozen):
    """What an answer is given about. Nothing in it ticks: no time, no score, no count.

    ``verdicts`` are the guardrails' words on each action, ``unknown`` the kinds of the facts that are not known.
    """

    actions: tuple[ActionName, ...]
    host: HostTarget | None = None
    account: AccountTarget | None = None
    risk: RiskLevel
    corroborated: Corroborated
    verdicts: dict[ActionName, str]
    unknown: tuple[str, ...] = ()

    def canonical(self) -> dict[str, Any]:
        """The matter as JSON, for comparing and hashing: names without case, sets in order."""
        host, account = self.host, self.account
        return {
            "actions": sorted(action.value for action in self.actions),
            "host": host and {"name": _folded(host.name), "ip": host.ip, "agent": host.agent},
            "account": account
            and {"name": _folded(account.name), "dn": _folded(account.dn), "guid": _folded(account.guid or "")},
            "risk": self.risk.value,
            "corroborated": self.corroborated.value,
            "verdicts": {action.value: verdict for action, verdict in self.verdicts.items()},
            "unknown": sorted(self.unknown),
        }

    def same_targets(self, other: Matter) -> bool:
        """Whether the targets and the guardrails' words on them are the same."""
        mine, theirs = self.canonical(), other.canonical()
        return all(mine[key] == theirs[key] for key in ("actions", "host", "account", "verdicts"))


def differences(old: Matter, new: Matter) -> tuple[str, ...]:
    """What changed from ``old`` to ``new``, in words, each as ``what: before -> after``; empty where nothing did."""
    if old.canonical() == new.canonical():
        return ()
    told = [
        _line("actions", ", ".join(sorted(old.actions)), ", ".join(sorted(new.actions))),
        *_host(old.host, new.host),
        *_account(old.account, new.account),
        _line("risk", old.risk.value, new.risk.value),
        _line("further alerts or events", old.corroborated.value, new.corroborated.value),
        *(_verdict(action, old, new) for action in sorted({*old.verdicts, *new.verdicts})),
    ]
    words = tuple(plain(line, limit=300) for line in told if line)
    unknown = _line(
        "not known", ", ".join(sorted(old.unknown)) or "nothing", ", ".join(sorted(new.unknown)) or "nothing"
    )
    return words or (unknown or "the facts",)


def _host(old: HostTarget | None, new: HostTarget | None) -> list[str | None]:
    line = _line("host", _named(old), _named(new))
    if line or old is None or new is None:
        return [line]
    return [_line("endpoint agent", old.agent or _UNKNOWN, new.agent or _UNKNOWN)]


def _named(host: HostTarget | None) -> str:
    return f"{host.name} ({host.ip})" if host else _UNKNOWN


def _account(old: AccountTarget | None, new: AccountTarget | None) -> list[str | None]:
    line = _line("user", old.name if old else _UNKNOWN, new.name if new else _UNKNOWN)
    if line or old is None or new is None:
        return [line]
    moved = _line(f"directory entry of {new.name}", old.dn, new.dn)
    other = None
    if _folded(old.guid or "") != _folded(new.guid or ""):
        other = f"object of {new.name}: {old.guid or _UNKNOWN} -> {new.guid or _UNKNOWN}"
    return [moved, other]


def _verdict(action: ActionName, old: Matter, new: Matter) -> str | None:
    before, after = old.verdicts.get(action, "not asked"), new.verdicts.get(action, "not asked")
    return f"guardrails on {action}: {before} -> {after}" if before != after else None


def _line(what: str, before: str, after: str) -> str | None:
    return None if _folded(before) == _folded(after) else f"{what}: {before} -> {after}"


def _folded(text: str) -> str:
    return text.casefold()
