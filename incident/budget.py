"""The ledger of containments: what was reserved within the last hour, and the freeze switch. Pure; times are handed in.

A reservation is all or nothing for a case's actions. Each action counts one, for an hour after it was reserved, in all
and for the user's department. The limits are those of the asking case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import AwareDatetime

from incident.evidence import Frozen
from incident.queues import priority_key
from incident.requests import Reservation, Reserve
from incident.telling import clock
from incident.text import markdown, plain
from incident.triage import ActionName, Priority

LEDGER_ID: Final = "containment-ledger"
"""The workflow id of the ledger: there is one in a namespace."""

LEDGER_WORKFLOW: Final = "ContainmentLedger"
"""Its workflow type."""

LEDGER_SUMMARY: Final = "Ledger of containments: the hourly budget and the freeze switch"
"""What Temporal shows of it before a worker has seen it."""

LEDGER_URGENCY: Final = priority_key(Priority.CRITICAL)
"""Its key in Temporal's queues: whoever's case may contain does not wait behind the cases of others."""

WINDOW: Final = timedelta(hours=1)
"""How long a reservation counts."""

MAX_ENTRIES: Final = 3000
"""How many reservations are kept one by one. Beyond it automatic ones are refused, and approved ones only summed up."""

_MAX_HISTORY = 50
_MAX_SHOWN = 20
_MAX_KEY = 200
_MAX_NAME = 100
_MAX_WORDS = 500


class SwitchRefused(ValueError):
    """What was sent to the freeze switch does not say who and why; the message says what is missing."""


class Switch(Frozen):
    """A turn of the freeze switch: on whose word, and why."""

    by: str
    reason: str


class Freeze(Switch):
    """The switch is on, since when (UTC). Nothing is granted, approved or not."""

    since: AwareDatetime


class Turned(Switch):
    """A line of the switch's history: ``freeze`` or ``thaw``, and when."""

    what: str
    at: AwareDatetime


class Entry(Frozen):
    """A granted reservation. ``automatic`` is false where a person had decided it."""

    key: str
    case_id: str
    actions: tuple[ActionName, ...]
    department: str | None
    automatic: bool
    at: AwareDatetime


class Spill(Frozen):
    """Approved actions that came when the ledger was full: only their sum is kept. They count in every department."""

    count: int
    at: AwareDatetime


class Limits(Frozen):
    """The limits of the latest request: what the budget is told against."""

    max_per_hour: int
    max_per_department: int | None


class Ledger(Frozen):
    """Everything that the ledger knows. Bounded: entries by ``MAX_ENTRIES`` and the hour, the history by its length.

    ``refused`` counts the automatic requests that were over a limit since the ledger began.
    """

    entries: tuple[Entry, ...] = ()
    spilled: Spill | None = None
    freeze: Freeze | None = None
    history: tuple[Turned, ...] = ()
    limits: Limits | None = None
    refused: int = 0


def read_switch(raw: Any) -> Switch:
    """``{"by", "reason"}`` as a turn of the switch.

    Raises:
        SwitchRefused: a key is missing, empty, no text, or unknown.
    """
    if not isinstance(raw, dict):
        raise SwitchRefused('want {"by": ..., "reason": ...}')
    for name in raw:
        if name not in ("by", "reason"):
            raise SwitchRefused(f"{plain(str(name), _MAX_NAME)}: there is no such key; want by and reason")
    words = {}
    for name, limit in (("by", _MAX_NAME), ("reason", _MAX_WORDS)):
        value = raw.get(name)
        if value is not None and not isinstance(value, str):
            raise SwitchRefused(f"{name}: is no text")
        words[name] = plain(value or "", limit)
        if not words[name]:
            raise SwitchRefused(f"{name}: is missing")
    return Switch(**words)


def fault_of(request: Reserve) -> str | None:
    """Why a request cannot be entered, or ``None``."""
    if not request.key.strip() or len(request.key) > _MAX_KEY:
        return f"key: wants 1 to {_MAX_KEY} characters"
    if not request.actions:
        return "actions: needs at least one"
    low = min(request.max_per_hour, request.max_per_department or 0)
    return "max_per_hour and max_per_department: are not negative" if low < 0 else None


def prune(ledger: Ledger, now: datetime) -> Ledger:
    """Without what no longer counts."""
    kept = tuple(entry for entry in ledger.entries if now - entry.at < WINDOW)
    spilled = ledger.spilled if ledger.spilled and now - ledger.spilled.at < WINDOW else None
    return ledger.model_copy(update={"entries": kept, "spilled": spilled})


def reserve(ledger: Ledger, request: Reserve, now: datetime) -> tuple[Ledger, Reservation]:
    """A place for all of the request's actions, or for none.

    A key that has its place already is answered as before and counts once. The freeze goes before everything.

    Raises:
        ValueError: ``fault_of`` finds a fault with the request.
    """
    fault = fault_of(request)
    if fault:
        raise ValueError(fault)
    ledger = prune(ledger, now)
    if ledger.freeze:
        return ledger, Reservation(granted=False, frozen=True, reason=frozen_words(ledger.freeze))
    limits = Limits(max_per_hour=request.max_per_hour, max_per_department=request.max_per_department)
    ledger = ledger.model_copy(update={"limits": limits})
    had = {action for entry in ledger.entries if entry.key == request.key for action in entry.actions}
    wanted = tuple(action for action in dict.fromkeys(request.actions) if action not in had)
    if not wanted:
        return ledger, Reservation(granted=True)
    why = _over(ledger, request, len(wanted)) if request.automatic else None
    if why:
        return ledger.model_copy(update={"refused": ledger.refused + 1}), Reservation(granted=False, reason=why)
    return _entered(ledger, request, wanted, now), Reservation(granted=True)


def _entered(ledger: Ledger, request: Reserve, wanted: tuple[ActionName, ...], now: datetime) -> Ledger:
    if len(ledger.entries) >= MAX_ENTRIES:
        before = ledger.spilled.count if ledger.spilled else 0
        return ledger.model_copy(update={"spilled": Spill(count=before + len(wanted), at=now)})
    entry = Entry(
        key=request.key,
        case_id=plain(request.case_id, _MAX_KEY),
        actions=wanted,
        department=_department(request.department),
        automatic=request.automatic,
        at=now,
    )
    return ledger.model_copy(update={"entries": (*ledger.entries, entry)})


def _over(ledger: Ledger, request: Reserve, wanted: int) -> str | None:
    """Which limit an automatic request is over, in words."""
    if len(ledger.entries) >= MAX_ENTRIES:
        return f"the ledger is full ({MAX_ENTRIES} reservations within the hour); a person decides"
    over = _past(ledger, ledger.entries, request.max_per_hour, wanted, "max_per_hour", "")
    department = _department(request.department)
    if over or department is None or request.max_per_department is None:
        return over
    same = [entry for entry in ledger.entries if _same(entry.department, department)]
    where = f" in department {department}"
    return _past(ledger, same, request.max_per_department, wanted, "max_per_department", where)


def _past(ledger: Ledger, entries: Sequence[Entry], limit: int, wanted: int, key: str, where: str) -> str | None:
    spilled = ledger.spilled.count if ledger.spilled else 0
    used = _count(entries) + spilled
    if used + wanted <= limit:
        return None
    if limit == 0:
        return f"no automatic containment is allowed{where} ({key} is 0); a person decides"
    approved = _count(entry for entry in entries if not entry.automatic) + spilled
    told = f" ({approved} of them approved by people)" if approved else ""
    state = f"are used up{told}" if used >= limit else f"are used{told}, and {wanted} are asked for at once"
    return f"{used} of {limit} automatic containments within the hour{where} {state}; a person decides"


def freeze(ledger: Ledger, switch: Switch, now: datetime) -> tuple[Ledger, bool]:
    """Turn the switch on; tells whether it was off. One that is on keeps its first time, name and reason."""
    ledger = _noted(ledger, "freeze", switch, now)
    if ledger.freeze:
        return ledger, False
    return ledger.model_copy(update={"freeze": Freeze(**dict(switch), since=now)}), True


def thaw(ledger: Ledger, switch: Switch, now: datetime) -> tuple[Ledger, bool]:
    """Turn the switch off; tells whether it was on."""
    if ledger.freeze is None:
        return ledger, False
    return _noted(ledger, "thaw", switch, now).model_copy(update={"freeze": None}), True


def _noted(ledger: Ledger, what: str, switch: Switch, now: datetime) -> Ledger:
    turned = Turned(**dict(switch), what=what, at=now)
    return ledger.model_copy(update={"history": (*ledger.history, turned)[-_MAX_HISTORY:]})


def _department(name: str | None) -> str | None:
    return plain(name or "", _MAX_NAME) or None


def _same(one: str | None, other: str) -> bool:
    return one is not None and one.casefold() == other.casefold()


def _count(entries: Iterable[Entry]) -> int:
    return sum(len(entry.actions) for entry in entries)


def frozen_words(frozen: Freeze) -> str:
    """Who froze, since when and why. It is what a case, a mail and a ticket say."""
    return f"containment is frozen by {frozen.by} since {clock(frozen.since)}: {frozen.reason}"


def view(ledger: Ledger, now: datetime) -> dict[str, Any]:
    """The ledger as JSON: the switch, how much of the budget is used, by whom, and the switch's history."""
    ledger = prune(ledger, now)
    spilled = ledger.spilled.count if ledger.spilled else 0
    approved = _count(entry for entry in ledger.entries if not entry.automatic) + spilled
    departments = Counter[str]()
    for entry in ledger.entries:
        if entry.department:
            departments[entry.department] += len(entry.actions)
    dump = ledger.model_dump(mode="json", include={"freeze", "history", "limits", "refused"})
    return {
        "at": now.isoformat(),
        "frozen": ledger.freeze is not None,
        **dump,
        "used": _count(ledger.entries) + spilled,
        "approved": approved,
        "departments": dict(departments.most_common(_MAX_SHOWN)),
        "latest": [entry.model_dump(mode="json") for entry in ledger.entries[-_MAX_SHOWN:]],
    }


def used_words(shown: dict[str, Any]) -> str:
    """How much of the budget is used, from ``view``."""
    limits = shown["limits"]
    of = f" of {limits['max_per_hour']}" if limits else ""
    approved = f", {shown['approved']} of them approved by people" if shown["approved"] else ""
    return f"{shown['used']}{of} containments within the hour{approved}"


def details(ledger: Ledger, now: datetime) -> str:
    """The ledger as Markdown, for the Temporal UI's current details."""
    shown = view(ledger, now)
    if ledger.freeze:
        lines = [
            "# FROZEN",
            "",
            f"**By {markdown(ledger.freeze.by)} since {clock(ledger.freeze.since)}: {markdown(ledger.freeze.reason)}**",
            "",
            "Nothing is contained, approved or not, until somebody thaws it: `python starter.py thaw --reason WHY`",
        ]
    else:
        lines = ["# Not frozen", "", "`python starter.py freeze --reason WHY` stops every containment at once."]
    lines += ["", f"Used at {clock(now)}: **{markdown(used_words(shown))}**"]
    limits = ledger.limits
    per = f" of {limits.max_per_department}" if limits and limits.max_per_department is not None else ""
    lines += [f"- {markdown(name)}: {count}{per}" for name, count in shown["departments"].items()]
    if ledger.refused:
        lines += ["", f"Automatic requests over a limit so far: {ledger.refused}; people were asked."]
    if ledger.history:
        lines += ["", "The switch:"]
        lines += [
            f"- {clock(turned.at)} {turned.what} by {markdown(turned.by)}: {markdown(turned.reason)}"
            for turned in reversed(ledger.history[-_MAX_SHOWN:])
        ]
    return "\n".join(lines)
