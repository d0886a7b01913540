"""Times as other people's alerts tell them, read or refused; never guessed. Time zones are the machine's.

Epochs (seconds or milliseconds, told apart by their size), ISO 8601, and textual times by the patterns of the settings,
in the letters of Java's SimpleDateFormat, which is what CEF and LEEF name their formats in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache, lru_cache
from itertools import groupby
from zoneinfo import ZoneInfo, available_timezones

from bridge.formats.refusal import FormatRefused

_LONGEST = 64
_SECONDS = range(10**8, 7_258_118_400)
"""What is taken for seconds since 1970: from 1973 to 2199. Milliseconds of these years are larger, dates smaller."""

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:", re.ASCII)
_NUMBER = re.compile(r"\d{1,20}(?:\.\d{1,9})?", re.ASCII)
_OFFSET = re.compile(r"(?:GMT|UTC)?([+-])(\d{1,2}):?(\d{2})?", re.ASCII)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DIGITS = {"y": 4, "M": 2, "d": 2, "H": 2, "h": 2, "m": 2, "s": 2, "S": 9}
"""How many digits a number has at most where the next letter is no number."""

_UNREAD = frozenset("Eu")
"""The day of the week says nothing that the date does not."""


def read_time(value: object, *, patterns: Sequence[str] = (), zone: str | None = None) -> datetime:
    """The time that ``value`` tells, in UTC. ``zone`` is that of texts that tell none.

    Raises:
        FormatRefused: it tells none, or not which.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise FormatRefused("is no time")
    if not isinstance(value, str):
        return _of_epoch(value)
    text = value.strip()
    if not text or len(text) > _LONGEST:
        raise FormatRefused("is no time")
    found = _by_patterns(text, patterns) or _iso(text)
    if found is None and _NUMBER.fullmatch(text):
        return _of_epoch(float(text))
    if found is None:
        raise FormatRefused(f"{text!r} is not a time that can be read: write 2026-03-14T12:34:56Z or an epoch")
    if found.tzinfo is None:
        if zone is None:
            raise FormatRefused(f"{text!r} has no time zone, and the settings name none for this format")
        found = found.replace(tzinfo=ZoneInfo(zone))
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise FormatRefused(f"{text!r} is out of all years") from None


def _of_epoch(number: float) -> datetime:
    if math.isfinite(number):
        for scale in (1, 1000):
            if math.floor(number / scale) in _SECONDS:
                return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=round(number * 1000 / scale))
    raise FormatRefused(f"{number:.15g} is neither seconds nor milliseconds since 1970")


def _iso(text: str) -> datetime | None:
    if not _ISO.match(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _by_patterns(text: str, patterns: Sequence[str]) -> datetime | None:
    for pattern in patterns:
        found = by_pattern(text, pattern)
        if found is not None:
            return found
    return None


def by_pattern(text: str, pattern: str) -> datetime | None:
    """``text`` by a pattern of SimpleDateFormat, without a zone if the pattern has none; ``None`` if it does not fit.

    Raises:
        FormatRefused: the pattern holds what is not known here.
    """
    told: dict[str, int | tzinfo] = {}
    at = 0
    for letter, count, number_follows in _tokens(pattern):
        at = _read(text, at, letter, count, number_follows, told)
        if at < 0:
            return None
    return _made(told) if at == len(text) else None


@lru_cache(maxsize=256)  # a sender names patterns too
def _tokens(pattern: str) -> tuple[tuple[str, int, bool], ...]:
    """Letter, how many of it, and whether a number follows at once. A literal has its text for a letter, and 0."""
    if len(pattern) > _LONGEST:
        raise FormatRefused("the time's pattern is too long")
    pieces = list(_pieces(pattern))
    numeric = [bool(count) and (letter in _DIGITS and not (letter == "M" and count > 2)) for letter, count in pieces]
    return tuple((*piece, follows) for piece, follows in zip(pieces, [*numeric[1:], False], strict=True))


def _pieces(pattern: str) -> Iterator[tuple[str, int]]:
    quoted = pattern.split("'")
    if len(quoted) % 2 == 0:
        raise FormatRefused(f"{pattern!r} is no pattern of a time: a quote is open")
    for index, part in enumerate(quoted):
        if index % 2:
            yield part or "'", 0
            continue
        for char, run in groupby(part):
            count = len(list(run))
            if not char.isalpha():
                yield char * count, 0
            elif char in _DIGITS or char in _UNREAD or char in "azZX":
                yield char, count
            else:
                raise FormatRefused(f"{pattern!r} is no pattern of a time that is known here: {char}")


def _read(text: str, at: int, letter: str, count: int, number_follows: bool, told: dict[str, int | tzinfo]) -> int:
    """Read one token; returns where the next one begins, or -1."""
    if not count:
        return _literal(text, at, letter)
    if letter == "M" and count > 2:
        end = _letters(text, at)
        name = text[at:end].lower()
        if name[:3] not in _MONTHS:
            return -1
        told["M"] = _MONTHS.index(name[:3]) + 1
        return end
    if letter in _DIGITS:
        return _number(text, at, letter, count if number_follows else _DIGITS[letter], told)
    if letter in _UNREAD:
        return _letters(text, at) if text[at : at + 1].isalpha() else -1
    if letter == "a":
        half = text[at : at + 2].lower()
        told["a"] = 12 if half == "pm" else 0
        return at + 2 if half in ("am", "pm") else -1
    end = at
    while end < len(text) and not text[end].isspace():
        end += 1
    zone = _zone(text[at:end])
    if zone is None:
        return -1
    told["z"] = zone
    return end


def _literal(text: str, at: int, literal: str) -> int:
    if not text.startswith(literal, at):
        return -1
    at += len(literal)
    while literal.isspace() and at < len(text) and text[at].isspace():
        at += 1  # days under ten are padded by some
    return at


def _letters(text: str, at: int) -> int:
    while at < len(text) and text[at].isalpha():
        at += 1
    return at


def _number(text: str, at: int, letter: str, most: int, told: dict[str, int | tzinfo]) -> int:
    end = at
    while end < len(text) and end - at < most and text[end].isascii() and text[end].isdigit():
        end += 1
    if end == at or (letter == "y" and end - at != 4):
        return -1
    digits = text[at:end]
    # A fraction: .5 is half a second for the senders that write it, whatever Java makes of it.
    told[letter] = int(digits.ljust(6, "0")[:6]) if letter == "S" else int(digits)
    return end


def _zone(text: str) -> tzinfo | None:
    """A zone that is certain: an offset, UTC, or a place. CST is on three continents."""
    if text in ("Z", "UTC", "GMT", "UT"):
        return UTC
    offset = _OFFSET.fullmatch(text)
    if offset:
        length = timedelta(hours=int(offset[2]), minutes=int(offset[3] or 0))
        return timezone(length if offset[1] == "+" else -length) if length < timedelta(hours=24) else None
    return ZoneInfo(text) if "/" in text and text in _places() else None


@cache
def _places() -> frozenset[str]:
    return frozenset(available_timezones())


def _made(told: dict[str, int | tzinfo]) -> datetime | None:
    zone = told.pop("z", None)
    number = {letter: value for letter, value in told.items() if isinstance(value, int)}
    if not {"y", "M", "d"} <= number.keys():
        return None
    hour = number.get("H", 0)
    if "h" in number:
        if "a" not in number or not 1 <= number["h"] <= 12:
            return None
        hour = number["h"] % 12 + number.get("a", 0)
    try:
        return datetime(
            number["y"],
            number["M"],
            number["d"],
            hour,
            number.get("m", 0),
            number.get("s", 0),
            number.get("S", 0),
            zone if isinstance(zone, tzinfo) else None,
        )
    except ValueError:
        return None
