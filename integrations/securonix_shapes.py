"""What Securonix answers, made one shape: rows of text fields, with times that say how sure they are. Pure.

The web services have two answer shapes (flat, and the older ``result.entry`` lists), booleans and numbers as text, text
times in the application's zone, and XML inside of strings. Nothing of that leaves this module.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from xml.etree.ElementTree import ParseError
from zoneinfo import ZoneInfo

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from integrations.errors import BadAnswer, Rejected
from integrations.http import Answer, quoted

FURTHEST_EAST = timedelta(hours=14)
FURTHEST_WEST = timedelta(hours=12)
ALL_RETRIEVED = "all records have been retrieved"

_FORMATS = ("%m/%d/%Y %H:%M:%S", "%a, %d %b %Y @ %I:%M:%S %p", "%b %d, %Y %I:%M:%S %p", "%m/%d/%Y %I:%M:%S %p")
_JAVA_DATE = re.compile(r"\w{3} (\w{3} +\d{1,2} [\d:]{8}) (\w+) (\d{4})")
_OFFSET_NAME = re.compile(r"(?:GMT|UTC)([+-])(\d{1,2}):?(\d{2})?")
_CONTROLS = bytes(max(byte, 0x20) for byte in range(256))
_BYTE_ORDER_MARKS = ("\ufeff", "ï»¿")


@dataclass(frozen=True)
class Span:
    """When something was: between two instants, which are the same one when the zone of the text is known."""

    earliest: datetime
    latest: datetime


@dataclass(frozen=True)
class Row:
    """One event or document: its fields by lower-case name, stripped, and the application's zone if it was told."""

    fields: Mapping[str, str]
    zone: tzinfo | None = None

    def text(self, *names: str) -> str:
        """The first of these fields that is filled, else nothing."""
        return next((self.fields[name] for name in names if self.fields.get(name)), "")

    def user(self, name: str) -> str:
        """A field of the person, which answers spell with or without ``u_``."""
        return self.text(f"u_{name}", name)

    def when(self, *names: str) -> Span | None:
        """The first of these fields that can be read as a time."""
        return next((span for name in names if (span := moment(self.fields.get(name, ""), self.zone))), None)

    @property
    def fingerprint(self) -> tuple[tuple[str, str], ...]:
        """Tells this row from another one that lacks an id."""
        return tuple(sorted(self.fields.items()))


@dataclass(frozen=True)
class Page:
    """One page of a search. ``total`` is Securonix's count over all pages, when it gave one."""

    rows: tuple[Row, ...]
    total: int | None
    last: bool
    query_id: str
    cursor: str
    zone_name: str


def said_true(value: object) -> bool:
    """A boolean that may be the text of one: ``"false"`` is false."""
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def number(text: object) -> float | None:
    """A finite number, or its text."""
    try:
        value = float(str(text).replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def trimmed(value: str) -> str:
    """A name for comparing: without case, blanks, and the byte order mark that some imports left in front."""
    for mark in _BYTE_ORDER_MARKS:
        value = value.strip().removeprefix(mark)
    return value.strip().casefold()


def json_object(answer: Answer) -> dict[str, Any]:
    """The answer as an object, whatever its label and with the raw control characters that occur in event texts.

    Raises:
        BadAnswer: a web page, nothing, or something that ends early.
    """
    body = answer.body.removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"").translate(_CONTROLS)
    return Answer(answer.vendor, answer.status, answer.headers, body).json_object()


def page_of(answer: Answer) -> Page:
    """One page of a search.

    Raises:
        Rejected: Securonix calls the query wrong.
        BadAnswer: the search failed, or this is no search answer.
    """
    body = json_object(answer)
    if said_true(body.get("error")) or (body.get("errorMessage") and "events" not in body):
        message = quoted(body.get("errorMessage")) or "no reason given"
        kind = Rejected if "syntax" in message.lower() else BadAnswer
        raise kind(f"{answer.vendor} could not search: {message}")
    if not any(name in body for name in ("events", "totalDocuments", "queryId", "message")):
        raise BadAnswer(f"{answer.vendor} answered a search with something else")
    zone_name = str(body.get("applicationTz") or "").strip()
    zone = zone_of(zone_name)
    events = _listed(body.get("events"))
    total = number(body.get("totalDocuments"))
    return Page(
        rows=tuple(Row(_flat(event), zone) for event in events if isinstance(event, dict)),
        total=None if total is None else int(total),
        last=ALL_RETRIEVED in str(body.get("message") or "").lower(),
        query_id=str(body.get("queryId") or ""),
        cursor=str(body.get("nextCursorMarker") or ""),
        zone_name=zone_name if zone else "",
    )


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _flat(event: dict[str, Any]) -> dict[str, str]:
    pairs: list[tuple[Any, Any]] = list(event.items())
    result = event.get("result")
    if isinstance(result, dict):
        # The inner fields are the record's own: they go over the envelope's of the same name.
        pairs += [
            (entry.get("key"), entry.get("value")) for entry in _listed(result.get("entry")) if isinstance(entry, dict)
        ]
    fields = {}
    for key, value in pairs:
        name = str(key).strip().lower()
        # A bar marks the value that an attribute had before it was changed.
        if "|" in name or name == "rawevent" or value is None or isinstance(value, dict | list):
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        fields[name] = text.replace("\0", "").strip()
    return fields


def zone_of(name: str) -> tzinfo | None:
    """A zone by the names that Java gives (``CST6CDT``, ``Asia/Kolkata``, ``GMT+05:30``), if it is known."""
    offset = _OFFSET_NAME.fullmatch(name)
    if offset:
        length = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
        return timezone(-length if offset[1] == "-" else length) if length < timedelta(days=1) else None
    try:
        return ZoneInfo(name) if name else None
    except (ValueError, OSError, LookupError):
        return None


def moment(text: str, zone: tzinfo | None) -> Span | None:
    """A time as Securonix writes it: epoch milliseconds, ISO 8601, or one of its texts in the application's zone.

    Without a zone, a text time spans every instant that it may mean.
    """
    text = text.strip()
    if re.fullmatch(r"\d{9,14}(\.0+)?", text):
        return _instant(int(text.partition(".")[0]))
    local = _parsed(text)
    if local is None or not 1970 <= local.year <= 9000:
        return None
    if local.tzinfo is not None:
        exact = local.astimezone(UTC)
        return Span(exact, exact)
    if zone is None:
        known = local.replace(tzinfo=UTC)
        return Span(known - FURTHEST_EAST, known + FURTHEST_WEST)
    # In the hour that the clocks repeat, the text means two instants.
    both = [local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
    return Span(min(both), max(both))


def _instant(count: int) -> Span:
    seconds = count / 1000 if count >= 10**11 else count
    exact = datetime.fromtimestamp(seconds, UTC)
    return Span(exact, exact)


def _parsed(text: str) -> datetime | None:
    java = _JAVA_DATE.fullmatch(text)
    if java:
        text, form = f"{java[1]} {java[3]}", "%b %d %H:%M:%S %Y"
        naive = _by_format(text, form)
        return naive.replace(tzinfo=UTC) if naive and java[2] in ("UTC", "GMT") else naive
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return next((found for form in _FORMATS if (found := _by_format(text, form))), None)


def _by_format(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)  # noqa: DTZ007 - the zone is the application's, known to the caller
    except ValueError:
        return None


@dataclass(frozen=True)
class Element:
    """A policy, threat model or category of a risk document."""

    score: float | None
    sandbox: bool


def elements(xml: str) -> list[Element]:
    """The elements of one of a risk document's XML strings.

    Raises:
        ValueError: it is not XML, or tries to define entities.
    """
    if not xml.strip():
        return []
    try:
        root = fromstring(xml)
    except (ParseError, DefusedXmlException) as error:
        raise ValueError(f"the XML of a risk document cannot be read ({type(error).__name__})") from None
    return [
        Element(
            score=number(child.findtext("score", "")),
            sandbox=said_true(child.findtext("isSandBox", "")) or in_sandbox(child.findtext("name", "")),
        )
        for child in root
    ]


def in_sandbox(name: str) -> bool:
    """Whether the name of a policy or category marks it as being tried out."""
    return trimmed(name).startswith("sandbox-")
