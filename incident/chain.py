"""The chain of a case's events. None is changed, taken out or moved without its neighbours telling.

The digest of an event covers it and the digest of the event before: SHA-256 (FIPS 180-4) over canonical JSON
(RFC 8785), in lower-case hexadecimal. The chain starts at a value that is the case's own, and ends in its head. A
bounded timeline leaves events out in its middle: that gap is counted, names the digests on both sides of it, and is
part of the head.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import rfc8785
from pydantic import Field

from incident.evidence import Frozen

ENTRY: Final = ("seq", "at", "actor", "source", "text")
"""What an entry of the chain says; its digest covers these and the digest before."""

SAFE: Final = 2**53 - 1
"""The largest integer that canonical JSON takes: beyond it numbers are not read alike everywhere."""


MOST: Final = 10**9
"""The largest number of an entry. A case that is flooded for years stays below it."""

Number = Annotated[int, Field(ge=0, le=MOST)]


class Uncanonical(ValueError):
    """A value that canonical JSON has no form for: no number, too large a one, half a character, or too deep."""


class Gap(Frozen):
    """Where entries are left out: the first one's number, how many, and the digests of those before and last in it."""

    first: Number
    count: Number
    before: str
    after: str


class Finding(Frozen):
    """Something that is not as it was written: where, and what is wrong with it."""

    where: str
    what: str


class Walk(Frozen):
    """What a walk along the chain found, and the digest of its last entry."""

    last: str
    entries: int
    findings: tuple[Finding, ...]


def canonical(value: Any) -> bytes:
    """Canonical JSON as RFC 8785 defines it. Raises Uncanonical."""
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise Uncanonical(str(error)) from None
    except RecursionError:
        raise Uncanonical("nested too deep") from None


def digest(value: Any) -> str:
    """SHA-256 over the canonical JSON of a value. Raises Uncanonical."""
    return hashlib.sha256(canonical(value)).hexdigest()


def moment(at: datetime) -> str:
    """A time as an entry says it: UTC, to the microsecond. One form alone, so that a digest has one value."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def origin(case_id: str, case_key: str) -> str:
    """Where the chain of a case starts. No part of it fits into another case's."""
    return digest({"case_id": case_id, "case_key": case_key})


def link(entry: Mapping[str, Any], previous: str) -> str:
    """The digest of an entry that stands after ``previous``. Raises Uncanonical.

    The values are texts and whole numbers, the names are ASCII: of such, ``json`` writes the canonical form, and a case
    links some twenty entries.
    """
    flat = {**{name: entry[name] for name in ENTRY}, "previous": previous}
    try:
        written = json.dumps(flat, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise Uncanonical(str(error)) from None
    return hashlib.sha256(written).hexdigest()


def head(last: str, gap: Gap | None) -> str:
    """The head of a chain: its last digest, with the gap in it if there is one."""
    return last if gap is None else digest({"gap": gap.model_dump(), "last": last})


def walk(entries: Sequence[Any], gap: Gap | None, start: str) -> Walk:
    """Go along the chain from its start, and on after each break, so that every break is told where it is."""
    last, seq, ahead = start, 0, gap
    findings: list[Finding] = []
    for place, entry in enumerate(entries):
        if ahead is not None and seq == ahead.first:
            if ahead.before != last:
                findings.append(Finding(where="gap", what="what stands before it does not lead to it"))
            last, seq, ahead = ahead.after, seq + ahead.count, None
        following = entries[place + 1] if place + 1 < len(entries) else None
        last, number, what = _step(entry, seq, last, following)
        if what:
            findings.append(Finding(where=f"entry {seq}", what=what))
        seq = number + 1
    if ahead is not None:
        findings.append(Finding(where="gap", what=f"no entry {ahead.first} is left out"))
    return Walk(last=last, entries=seq, findings=tuple(findings))


def _step(entry: Any, seq: int, previous: str, following: Any) -> tuple[str, int, str | None]:
    """An entry where number ``seq`` is due: the digest and the number to go on from, and what is wrong with it."""
    wrong = _misshapen(entry)
    if wrong:
        told = entry.get("digest") if isinstance(entry, Mapping) else None
        return (told if isinstance(told, str) else previous), seq, wrong
    stated = entry["digest"]
    if entry["seq"] == seq:
        computed = link(entry, previous)
        if computed == stated:
            return stated, seq, None
        if _follows(following, computed):
            return computed, seq, "its digest was changed"
        return stated, seq, "it does not fit its digest and what stands before: one of its fields was changed"
    if link({**entry, "seq": seq}, previous) == stated:
        return stated, seq, f"its seq was changed to {entry['seq']}"
    return stated, entry["seq"], f"entry {entry['seq']} stands where it should: something is missing or out of order"


def _follows(entry: Any, previous: str) -> bool:
    return entry is not None and _misshapen(entry) is None and link(entry, previous) == entry["digest"]


def _misshapen(entry: Any) -> str | None:
    """Why something is no entry, or ``None``. What no digest covers has no place in one."""
    if not isinstance(entry, Mapping):
        return "it is no entry"
    for name in (*ENTRY, "digest"):
        kind = int if name == "seq" else str
        if type(entry.get(name)) is not kind:
            return f"its {name} is missing or of another kind"
    if not 0 <= entry["seq"] <= MOST:
        return "its seq is no number of an entry"
    more = sorted(set(map(str, entry)) - {*ENTRY, "digest", "mac"})
    if more:
        return f"it holds what is no part of an entry: {', '.join(more)}"
    try:
        link(entry, "")
    except Uncanonical as error:
        return f"it cannot be read alike everywhere: {error}"
    return None
