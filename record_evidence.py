"""What Temporal kept of a case, and a record held against it. Pure: the history has been read by ``record_history``.

The history is written by Temporal's server, not by Holdpoint: whoever holds the key can seal another story, and cannot
make the server have kept it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from incident.alert import Alert, AlertRefused, parse_alert
from incident.chain import ENTRY, Finding
from incident.decision import AnswerRefused, read_answer
from incident.evidence import Frozen
from incident.joined import MOST_NAMED, OTHERS_SHOWN
from incident.sealing import fit
from incident.text import plain

WRITES: Final = {"directory.disable_account": "disable_account", "endpoint.quarantine_host": "quarantine_host"}
"""The steps that contain, and the action that each of them is."""

_READ_BACKS: Final = {
    "disable_account": "directory.confirm_disabled",
    "quarantine_host": "endpoint.confirm_quarantined",
}
_WRITTEN: Final = ("accepted", "in_force", "verified", "partial", "unreachable")
_OWN: Final = ("events", "undo")
_SHOWN: Final = 10
_ALERTS: Final = ("alert", "alerts")
_NAME: Final = 300
_ANSWERED: Final = ("answer", "hold point")
_WEIGHED: Final = timedelta(seconds=30)


class Step(Frozen):
    """A step that Temporal kept: what was asked of it and when, and what came of it, if it has ended."""

    name: str
    request: Any = None
    began: datetime
    ended: datetime | None = None
    result: Any = None
    failed: bool = False


class Message(Frozen):
    """A signal or an accepted update that Temporal kept: ``alert``, ``alerts``, ``analyst_decision`` or ``decide``."""

    name: str
    argument: Any = None
    at: datetime


class Witness(Frozen):
    """What the case said of itself, where Temporal kept it: all of the record, or its status alone."""

    where: str
    said: dict[str, Any]
    final: bool = False


class History(Frozen):
    """A case as Temporal kept it. ``given`` is what started it; ``unheard`` says why the case itself was not asked."""

    given: Any
    messages: tuple[Message, ...] = ()
    steps: tuple[Step, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    unheard: str | None = None


class Held(Frozen):
    """What was found of a record by Temporal's history, what could not be looked at, and what vouches for its head."""

    findings: tuple[Finding, ...] = ()
    unchecked: tuple[str, ...] = ()
    vouched: tuple[str, ...] = ()


def compare(sealed: Mapping[str, Any], history: History) -> Held:
    """Hold a record against the history of its case, as far as the record reaches."""
    until = _until(sealed)
    vouched = tuple(_vouched(sealed, history))
    findings = [
        *_said_otherwise(sealed, history),
        *_alerts(sealed, history, until),
        *_writes(sealed, history, until),
        *_ticket(sealed, history, until),
        *_answers(sealed, history, until),
    ]
    where = dict.fromkeys(found.where for found in findings)
    once = tuple(Finding(where=name, what="; ".join(_whats(name, findings))) for name in where)
    unchecked = () if vouched or findings else (f"its head: {_why_not(sealed, history)}",)
    return Held(findings=once, unchecked=unchecked, vouched=vouched)


def _whats(where: str, findings: Sequence[Finding]) -> list[str]:
    return list(dict.fromkeys(found.what for found in findings if found.where == where))[:_SHOWN]


def _until(sealed: Mapping[str, Any]) -> datetime:
    """How far the record reaches: what came later is not in it."""
    try:
        return datetime.fromisoformat(_entries(sealed)[-1]["at"]).astimezone(UTC)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError):
        return datetime.max.replace(tzinfo=UTC)


def _entries(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    events = said.get("events")
    whole = [entry for entry in events if isinstance(entry, dict)] if isinstance(events, list) else []
    return [entry for entry in whole if type(entry.get("seq")) is int]


def _counted(said: Mapping[str, Any]) -> int | None:
    told = said.get("record")
    count = told.get("entries") if isinstance(told, dict) else None
    return count if isinstance(count, int) else None


def _vouched(sealed: Mapping[str, Any], history: History) -> Iterator[str]:
    """What holds the record's head: a witness of the same length, or a longer one that begins with these entries."""
    for witness in history.witnesses:
        theirs = {entry["seq"]: entry.get("digest") for entry in _entries(witness.said)}
        ours = _entries(sealed)
        if witness.said.get("record") == sealed.get("record"):
            yield witness.where
        elif ours and not sealed.get("gap") and theirs.get(ours[-1]["seq"]) == ours[-1].get("digest"):
            yield f"{witness.where}, which begins with it"


def _why_not(sealed: Mapping[str, Any], history: History) -> str:
    none = f"nothing that Temporal kept holds the head of {_counted(sealed)} entries"
    return f"{none}, and {history.unheard}" if history.unheard else none


def _said_otherwise(sealed: Mapping[str, Any], history: History) -> Iterator[Finding]:
    """Where the case itself said something else: in its entries, and in each field where it was as long as this."""
    count = _counted(sealed)
    for witness in history.witnesses:
        told = _counted(witness.said)
        if witness.final and told is not None and count is not None and count > told:
            yield Finding(where="record", what=f"the case ended with {told} entries, by {witness.where}")
        yield from _other_entries(_entries(sealed), _entries(witness.said), witness.where)
        if told is None or told != count:
            continue
        for name, value in witness.said.items():
            if name not in _OWN and name in sealed and sealed[name] != fit(value):
                yield Finding(where=name, what=f"{witness.where} has another one")


def _other_entries(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], where: str) -> Iterator[Finding]:
    known = {entry["seq"]: entry for entry in theirs}
    here = {entry["seq"] for entry in ours}
    other = 0
    for entry in ours:
        true = known.get(entry["seq"])
        names = [name for name in (*ENTRY, "digest") if true and true.get(name) != entry.get(name)]
        if names and other < _SHOWN:
            other += 1
            yield Finding(where=f"entry {entry['seq']}", what=f"{where} has another {' and '.join(names)}")
    if known and here and max(here) <= max(known):
        for seq in sorted(seq for seq in known if seq < max(here) and seq not in here)[:_SHOWN]:
            yield Finding(where=f"entry {seq}", what=f"it is missing; {where} has it")


def _read(raw: Any, tenant: str | None = None) -> Alert | None:
    try:
        return parse_alert(raw, tenant)
    except AlertRefused:
        return None


def _alerts(sealed: Mapping[str, Any], history: History, until: datetime) -> Iterator[Finding]:
    """The alert that the case is about started it or joined it, and so did all the others that it names."""
    given = (
        history.given.get("alert") if isinstance(history.given, dict) and "alert" in history.given else history.given
    )
    first = _read(given)
    if first is None:
        return
    joined = [_read(raw, first.tenant) for m in history.messages if m.at <= until for raw in _sent(m)]
    known = [first, *(a for a in joined if a and a.destination_ip == first.destination_ip)]
    if sealed.get("alert") not in [fit(alert.model_dump(mode="json")) for alert in known]:
        yield Finding(where="alert", what="Temporal has no such alert: neither did it start the case nor did it join")
    ids = {alert.id for alert in known}
    told, others = sealed.get("alerts"), sealed.get("others")
    alerts, apart = (one if isinstance(one, list) else [] for one in (told, others))
    named = {*map(str, alerts), *(str(one.get("id")) for one in apart if isinstance(one, dict))}
    total = _total(sealed)
    if total is not None and total > len(named) and (len(alerts) >= MOST_NAMED or len(apart) >= OTHERS_SHOWN):
        # It names the first ones only, and counts the others.
        if total != len(ids):
            yield Finding(where="alerts_total", what=f"it counts {total} alerts, and Temporal has {len(ids)}")
        ids &= named
    for one in sorted(named ^ ids)[:_SHOWN]:
        what = f"Temporal has no alert {plain(one)}" if one in named else f"Temporal has the alert {plain(one)} as well"
        yield Finding(where="alerts", what=what)


def _sent(message: Message) -> Sequence[Any]:
    """The alerts of a message, as they came."""
    if message.name == "alerts":
        return message.argument if isinstance(message.argument, list) else [message.argument]
    return [message.argument] if message.name == "alert" else []


def _total(sealed: Mapping[str, Any]) -> int | None:
    """How many alerts the record tells of, those of somebody else included."""
    counts = [sealed.get("alerts_total"), sealed.get("others_total")]
    whole = [count for count in counts if isinstance(count, int)]
    return sum(whole) if len(whole) == len(counts) else None


def _writes(sealed: Mapping[str, Any], history: History, until: datetime) -> Iterator[Finding]:
    """Each containment write has its entry and its action, and each action that was written has its step."""
    told = sealed.get("actions")
    actions = {str(a.get("action")): a for a in told if isinstance(a, dict)} if isinstance(told, list) else {}
    texts = [str(entry.get("text")) for entry in _entries(sealed)]
    for name, action in WRITES.items():
        steps = [step for step in history.steps if step.name == name and step.began <= until]
        mine = actions.get(action)
        if steps and not sealed.get("gap") and not any(text.startswith(f"{action} ") for text in texts):
            yield Finding(where="events", what=f"Temporal has the step {name}, and no entry tells of {action}")
        if steps and mine is None:
            yield Finding(where="actions", what=f"Temporal has the step {name}, and {action} is not among them")
        if mine is not None:
            yield from _action(mine, action, steps, history.steps)


def _action(told: Mapping[str, Any], action: str, writes: Sequence[Step], steps: Sequence[Step]) -> Iterator[Finding]:
    state = told.get("state")
    if state in _WRITTEN and not writes:
        yield Finding(where="actions", what=f"{action} is {state}, and Temporal has no step that wrote it")
    read_back = _READ_BACKS[action]
    if state == "verified" and not any(s.name == read_back and s.ended and not s.failed for s in steps):
        yield Finding(where="actions", what=f"{action} is verified, and Temporal has no {read_back} that said so")
    done = writes[-1] if writes else None
    if done is None or done.ended is None or done.failed or not isinstance(done.result, dict) or state not in _WRITTEN:
        return
    for name in ("before", "changed"):
        if told.get(name) != done.result.get(name):
            yield Finding(where="actions", what=f"{action}: by the step's own result its '{name}' is another")


def _ticket(sealed: Mapping[str, Any], history: History, until: datetime) -> Iterator[Finding]:
    ticket = sealed.get("ticket")
    told = ticket if isinstance(ticket, dict) else {}
    opened = [
        step
        for step in history.steps
        if step.name == "ticketing.open_ticket" and step.ended and not step.failed and step.ended <= until
    ]
    if told.get("state") == "open":
        names = ("id", "number", "url")
        true = [s.result for s in history.steps if s.name == "ticketing.open_ticket" and isinstance(s.result, dict)]
        if not any(all(told.get(name) == result.get(name) for name in names) for result in true):
            yield Finding(where="ticket", what="Temporal has no step that opened this ticket")
    elif opened:
        yield Finding(where="ticket", what="Temporal has a ticket that was opened, and the record has none")


def _answers(sealed: Mapping[str, Any], history: History, until: datetime) -> Iterator[Finding]:
    """Each answer that came has its entry, each entry of an answer has its message, and so has the decision."""
    came = Counter(_who(m.argument) for m in history.messages if m.name not in _ALERTS and m.at <= until)
    # While a case waits, its last answers may still be weighed: their entries come afterwards.
    weighed = until - _WEIGHED if sealed.get("outcome") is None else until
    due = Counter(_who(m.argument) for m in history.messages if m.name not in _ALERTS and m.at <= weighed)
    told = Counter(plain(str(e.get("actor")), limit=_NAME) for e in _entries(sealed) if e.get("source") in _ANSWERED)
    for who in sorted(told.keys() | came.keys()):
        # What came while many did may stand in the gap.
        if told[who] > came[who] or (told[who] < due[who] and not sealed.get("gap")):
            what = f"{told[who]} of them tell of an answer of {who}, and Temporal has {came[who]}"
            yield Finding(where="events", what=what)
    yield from _decision(sealed.get("decision"), history)


def _decision(decision: Any, history: History) -> Iterator[Finding]:
    """On whose word: somebody who is said to have decided has sent that answer, with that reason."""
    if not isinstance(decision, dict) or decision.get("by") != "analyst":
        return
    said = {(a.analyst, a.decision.value, a.reason) for a in map(_answer, history.messages) if a}
    if (decision.get("analyst"), decision.get("decision"), decision.get("reason")) not in said:
        yield Finding(where="decision", what="Temporal has no such answer of this analyst")
    approvals = decision.get("approvals")
    for who in approvals if isinstance(approvals, list) else ():
        if who not in {analyst for analyst, _, _ in said}:
            yield Finding(where="decision", what=f"Temporal has no answer of {plain(str(who))}, who is said to approve")


def _answer(message: Message) -> Any:
    try:
        return read_answer(message.argument) if message.name not in _ALERTS else None
    except AnswerRefused:
        return None


def _who(raw: Any) -> str:
    """The name by which an entry tells of an answer; a malformed one has one too."""
    name = raw.get("analyst") if isinstance(raw, dict) else None
    return (plain(str(name), limit=_NAME) if name is not None else "") or "nobody named"
