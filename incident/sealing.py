"""The record of a case as it leaves Temporal: what is known, decided and done, its chain of events, and the seals.

``exported`` is what the workflow answers; ``seal`` puts the seals on it, where the key is; ``examine`` finds what was
changed since. A seal is HMAC-SHA-256 (RFC 2104) over canonical JSON (RFC 8785). Without a key the seals are bare
digests: they find an accident, and anybody could have made them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError

from incident.chain import SAFE, Finding, Gap, Uncanonical, canonical, digest, head, moment, origin, walk
from incident.evidence import Frozen
from incident.record import CaseRecord
from incident.telling import headline

FORMAT: Final = "holdpoint-record/1"

_SEALS: Final = ("seals", "key_id", "digest", "mac")
_NEEDED: Final = ("format", "case_id", "case_key", "record", "events", "gap", "head")
_KEY_ID: Final = b"holdpoint record key id"


class NoRecord(ValueError):
    """It is no record of this format; the message says why."""


class Verdict(Frozen):
    """What was found of a sealed record by itself.

    ``keyed`` says whether it carries seals made with a key, ``checked`` whether they were checked with one.
    ``findings`` is what was changed; ``unchecked`` says what could not be looked at, and why.
    """

    keyed: bool
    checked: bool
    key_id: str | None
    entries: int
    head: str
    findings: tuple[Finding, ...] = ()
    unchecked: tuple[str, ...] = ()

    @property
    def valid(self) -> bool:
        """Whether all of it was looked at and nothing was changed."""
        return not self.findings and not self.unchecked


def exported(record: CaseRecord) -> dict[str, Any]:
    """The record of a case, unsealed: its status, its alert and its chain of events. It holds no secret."""
    return {
        "format": FORMAT,
        **fit(record.status()),
        "case_key": record.key,
        "headline": headline(record),
        "alert": fit(record.alert.model_dump(mode="json")),
        "as_of": moment(record.events[-1].at),
        "undo": None,
        "events": [event.entry() for event in record.events],
        "gap": record.gap.model_dump() if record.gap else None,
        "head": record.head,
    }


def fit(value: Any) -> Any:
    """Values as canonical JSON takes them: an integer that is not read alike everywhere becomes text."""
    if isinstance(value, dict):
        return {key: fit(item) for key, item in value.items()}
    if isinstance(value, list):
        return [fit(item) for item in value]
    return str(value) if isinstance(value, int) and abs(value) > SAFE else value


def key_id(key: str) -> str:
    """A name for a key that tells it from others and does not give it away."""
    return hmac.new(key.encode(), _KEY_ID, hashlib.sha256).hexdigest()[:16]


def seal(record: Mapping[str, Any], key: str | None) -> dict[str, Any]:
    """The record with its seals: one on each field, one on each entry, and one on the whole.

    Raises:
        Uncanonical: something in it has no canonical form.
    """
    events = [{**entry, **({"mac": _mac(key, _vouched(entry))} if key else {})} for entry in record["events"]]
    fields = {**record, "events": events}
    sealed = {
        **fields,
        "seals": {name: _seal(key, name, value) for name, value in fields.items() if name != "events"},
        "key_id": key_id(key) if key else None,
    }
    sealed["digest"] = digest(sealed)
    return {**sealed, "mac": _mac(key, sealed) if key else None}


def _mac(key: str, value: Any) -> str:
    return hmac.new(key.encode(), canonical(value), hashlib.sha256).hexdigest()


def _seal(key: str | None, name: str, value: Any) -> str:
    told = {"field": name, "value": value}
    return _mac(key, told) if key else digest(told)


def _vouched(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry's seal is about: its digest, which stands for all that went before."""
    return {"entry": entry.get("digest")}


def examine(sealed: Any, key: str | None) -> Verdict:
    """Find what was changed in a sealed record, with the key that it was sealed with or without any.

    Raises:
        NoRecord: it is none of this format.
    """
    if not isinstance(sealed, dict):
        raise NoRecord("it is no JSON object")
    if sealed.get("format") != FORMAT:
        raise NoRecord(f"its format is not {FORMAT}")
    entries = sealed["events"] if isinstance(sealed.get("events"), list) else []
    keyed = any((sealed.get("key_id"), sealed.get("mac"), *(_said(entry, "mac") for entry in entries)))
    ours = key if keyed and key and _is_ours(sealed, entries, key) else None
    findings = [*_missing(sealed), *_chain(sealed, entries)]
    if not keyed or ours:
        findings += [*_fields(sealed, ours), *_entries(entries, ours)]
    findings = findings or list(_whole(sealed, ours, keyed=keyed))
    return Verdict(
        keyed=keyed,
        checked=ours is not None,
        key_id=sealed["key_id"] if isinstance(sealed.get("key_id"), str) else None,
        entries=_count(sealed),
        head=str(sealed.get("head")),
        findings=tuple(findings),
        unchecked=tuple(_unchecked(sealed, key, keyed=keyed, checked=ours is not None)),
    )


def _said(entry: Any, name: str) -> Any:
    return entry.get(name) if isinstance(entry, dict) else None


def _is_ours(sealed: dict[str, Any], entries: list[Any], key: str) -> bool:
    """Whether our key sealed it. Its name may have been changed, so one seal that fits is enough."""
    if sealed.get("key_id") == key_id(key):
        return True
    seals = sealed["seals"] if isinstance(sealed.get("seals"), dict) else {}
    if any(_same(seals[name], lambda n=name: _seal(key, n, sealed[n])) for name in seals if name in sealed):
        return True
    whole = [entry for entry in entries if isinstance(entry, dict)]
    return any(_same(entry.get("mac"), lambda e=entry: _mac(key, _vouched(e))) for entry in whole)


def _same(stated: Any, computed: Any) -> bool:
    """Compare without telling by the time it takes how much of it was right."""
    try:
        return isinstance(stated, str) and hmac.compare_digest(stated.encode(), computed().encode())
    except (Uncanonical, UnicodeEncodeError):
        return False


def _unchecked(sealed: dict[str, Any], key: str | None, *, keyed: bool, checked: bool) -> Iterator[str]:
    made = f"its seals: they were made with the key {sealed.get('key_id')}"
    if keyed and not key:
        yield f"{made}, and no key was given"
    elif keyed and not checked:
        yield f"{made}, and ours is {key_id(key or '')}: a wrong key"
    elif key and not keyed:
        yield "its seals: there are none with a key; it was made without one, or they were taken away"


def _missing(sealed: dict[str, Any]) -> Iterator[Finding]:
    for name in (*_NEEDED, *_SEALS):
        if name not in sealed:
            yield Finding(where=name, what="it is missing")


def _chain(sealed: dict[str, Any], entries: list[Any]) -> Iterator[Finding]:
    """What the chain tells: every break, and whether it ends in the head."""
    gap = None
    if sealed.get("gap") is not None:
        try:
            gap = Gap.model_validate(sealed["gap"], strict=True)
        except ValidationError:
            yield Finding(where="gap", what="it is no gap")
    if not isinstance(sealed.get("events"), list):
        yield Finding(where="events", what="there is no list of entries")
    try:
        walked = walk(entries, gap, origin(str(sealed.get("case_id")), str(sealed.get("case_key"))))
        ending = head(walked.last, gap)
    except Uncanonical as error:
        yield Finding(where="case_id", what=str(error))
        return
    yield from walked.findings
    if ending != sealed.get("head"):
        yield Finding(where="head", what="it is not where the entries lead: it was changed, or entries at the end were")
    told = sealed.get("record")
    if told != {"entries": walked.entries, "head": sealed.get("head")}:
        yield Finding(where="record", what=f"it does not tell the {walked.entries} entries and the head that are here")


def _fields(sealed: dict[str, Any], key: str | None) -> Iterator[Finding]:
    seals = sealed["seals"] if isinstance(sealed.get("seals"), dict) else {}
    for name in sorted(set(sealed) - {"events", *_SEALS}):
        if name not in seals:
            yield Finding(where=name, what="it has no seal: it was put in, or its seal was taken out")
        elif not _same(seals[name], lambda n=name: _seal(key, n, sealed[n])):
            yield Finding(where=name, what="it does not fit its seal: one of the two was changed")
    for name in sorted(set(seals) - set(sealed)):
        yield Finding(where=name, what="it is missing: its seal is there")


def _entries(entries: list[Any], key: str | None) -> Iterator[Finding]:
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            continue
        where = f"entry {entry.get('seq', place)}"
        if key is None:
            if "mac" in entry:
                yield Finding(where=where, what="it has a seal, and the record has no key")
        elif not _same(entry.get("mac"), lambda e=entry: _mac(key, _vouched(e))):
            yield Finding(where=where, what="its seal does not fit its digest: one of the two was changed")


def _whole(sealed: dict[str, Any], key: str | None, *, keyed: bool) -> Iterator[Finding]:
    """What is left where every field and every entry fits: the seals on the whole."""
    if key and sealed["key_id"] != key_id(key):
        yield Finding(where="key_id", what=f"the seals are those of the key {key_id(key)}")
        return
    bare = {name: value for name, value in sealed.items() if name not in ("digest", "mac")}
    if not _same(sealed["digest"], lambda: digest(bare)):
        yield Finding(where="digest", what="it does not fit the whole: it, or something that it is about, was changed")
    elif key and not _same(sealed["mac"], lambda: _mac(key, {**bare, "digest": sealed["digest"]})):
        yield Finding(where="mac", what="it does not fit the whole: it was changed")
    elif not keyed and (sealed["mac"] is not None or sealed["key_id"] is not None):
        yield Finding(where="mac", what="the record has no key, so it can have no seal with one")


def _count(sealed: dict[str, Any]) -> int:
    told = _said(sealed.get("record"), "entries")
    return told if isinstance(told, int) else 0
