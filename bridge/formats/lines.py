"""CEF and LEEF lines, as ArcSight and QRadar write them, with or without a syslog header in front.

After the formats' own guides: "ArcSight Common Event Format: Implementation Standard" (26) and IBM's "Log Event
Extended Format (LEEF)". Senders take liberties with both; what can be read in one way only is read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from bridge.formats.refusal import FormatRefused

MAX_LINE = 64 * 1024
"""Bytes of a line. Longer ones are refused unread."""

_SYSLOG = 1024
"""Characters of a syslog header: a timestamp, a host, a process, structured data."""

_CEF_HEADER = ("version", "vendor", "product", "product_version", "signature_id", "name", "severity")
_LEEF_HEADER = ("version", "vendor", "product", "product_version", "event_id")
_EXTENSION_ESCAPES = MappingProxyType({"\\": "\\", "=": "=", "|": "|", "n": "\n", "r": "\r"})
_HEADER_ESCAPES = MappingProxyType({"\\": "\\", "|": "|"})
_KEY = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-[]")
_CODE = re.compile(r"(?:0|\\)?x([0-9A-Fa-f]{1,4})")
_LABEL = "Label"


@dataclass(frozen=True)
class Record:
    """What a sender's alert holds: ``format`` is ``cef``, ``leef``, ``securonix`` or ``ocsf``; ``fields`` as they came.

    Besides, ``header`` has a line's header, ``labels`` CEF's custom fields by their labels, ``derived`` what this
    package made of the rest, ``derived.digest`` first of all: the same alert has the same.
    """

    format: str
    fields: Mapping[str, Any]


def parse_line(raw: bytes) -> Record:
    """Read a CEF line or a LEEF line.

    Raises:
        FormatRefused: it is neither, is longer than ``MAX_LINE`` or is malformed.
    """
    if len(raw) > MAX_LINE:
        raise FormatRefused(f"the line is longer than {MAX_LINE // 1024} KiB")
    try:
        text = raw.decode("utf-8").lstrip(" \t\r\n\ufeff").rstrip(" \t\r\n")
    except UnicodeDecodeError:
        raise FormatRefused("the line is not UTF-8") from None
    at, read = _start(text)
    event = text[at:]
    return read(event, hashlib.sha256(event.encode()).hexdigest()[:24])


def _start(text: str) -> tuple[int, Callable[[str, str], Record]]:
    """Where the event begins behind a syslog header, and what reads it."""
    header = text[: _SYSLOG + len("LEEF:")]
    found = [(at, read) for mark, read in (("CEF:", _cef), ("LEEF:", _leef)) if (at := _word(header, mark)) >= 0]
    if not found:
        raise FormatRefused("the line is neither CEF nor LEEF")
    return min(found, key=lambda pair: pair[0])


def _word(text: str, mark: str) -> int:
    at = text.find(mark)
    while at > 0 and text[at - 1].isalnum():
        at = text.find(mark, at + 1)
    return at


def _cef(event: str, digest: str) -> Record:
    *header, extension = _split(event[len("CEF:") :], len(_CEF_HEADER))
    if len(header) < len(_CEF_HEADER):
        # Without an extension the last bar may be missing.
        header, extension = [*header, extension], ""
    if len(header) < len(_CEF_HEADER):
        raise FormatRefused(f"the CEF header has {len(header)} fields of {len(_CEF_HEADER)}")
    told = {name: _unescaped(value, _HEADER_ESCAPES).strip() for name, value in zip(_CEF_HEADER, header, strict=True)}
    if not told["version"].replace(".", "", 1).isdecimal():
        raise FormatRefused("the CEF header begins with no version")
    fields = _extension(extension)
    return Record("cef", {**fields, "header": told, "labels": _labels(fields), "derived": {"digest": digest}})


def _split(text: str, most: int) -> list[str]:
    """Cut at the first ``most`` bars that no backslash stands before; the pieces are still escaped."""
    pieces: list[str] = []
    begin = at = 0
    while at < len(text) and len(pieces) < most:
        if text[at] == "\\":
            at += 2
            continue
        if text[at] == "|":
            pieces.append(text[begin:at])
            begin = at + 1
        at += 1
    return [*pieces, text[begin:]]


def _extension(text: str) -> dict[str, str]:
    """The keys and values of an extension: a value goes on until the next word that an unescaped ``=`` ends.

    An ``=`` behind anything that cannot be a key belongs to the value: not every sender escapes it.
    """
    fields: dict[str, str] = {}
    key, value_from, word_from, keylike, at = "", 0, 0, True, 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            keylike = False
            at += 2
            continue
        if char == "=" and keylike and at > word_from:
            _put(fields, key, text[value_from:word_from])
            key, value_from, keylike = text[word_from:at], at + 1, False
        elif char in " \t":
            word_from, keylike = at + 1, True
        elif char not in _KEY:
            keylike = False
        at += 1
    _put(fields, key, text[value_from:])
    return fields


def _put(fields: dict[str, str], key: str, escaped: str) -> None:
    value = _unescaped(escaped.strip(" \t"), _EXTENSION_ESCAPES)
    if key:
        _once(fields, key, value)
    elif value:
        raise FormatRefused("the CEF extension does not begin with a key and =")


def _once(fields: dict[str, str], key: str, value: str) -> None:
    """Two values for a key are none: one of them may have been smuggled in by whoever named a file or a user."""
    if fields.setdefault(key, value) != value:
        raise FormatRefused(f"the key {key[:64]} stands there twice, with different values")


def _unescaped(text: str, escapes: Mapping[str, str]) -> str:
    """``text`` without its escapes; a backslash before anything else stands for itself, as in unescaped paths."""
    if "\\" not in text:
        return text
    pieces, at = [], 0
    while at < len(text):
        char = text[at]
        meant = escapes.get(text[at + 1]) if char == "\\" and at + 1 < len(text) else None
        pieces.append(char if meant is None else meant)
        at += 1 if meant is None else 2
    return "".join(pieces)


def _labels(fields: Mapping[str, str]) -> dict[str, list[str]]:
    """The custom fields by their labels; two fields may have the same."""
    labels: dict[str, list[str]] = {}
    for key, label in fields.items():
        base = key.removesuffix(_LABEL)
        if base != key and label and base in fields:
            labels.setdefault(label, []).append(fields[base])
    return labels


def _leef(event: str, digest: str) -> Record:
    header = event[len("LEEF:") :].split("|", len(_LEEF_HEADER))
    if len(header) < len(_LEEF_HEADER):
        raise FormatRefused(f"the LEEF header has {len(header)} fields of {len(_LEEF_HEADER)}")
    told = {name: value.strip() for name, value in zip(_LEEF_HEADER, header, strict=False)}
    rest = header[len(_LEEF_HEADER)] if len(header) > len(_LEEF_HEADER) else ""
    match told["version"]:
        case "1" | "1.0":
            delimiter = "\t"
        case "2" | "2.0":
            delimiter, rest = _delimiter(rest)
        case other:
            raise FormatRefused(f"LEEF {other[:16]!r} is not known, 1.0 and 2.0 are")
    fields = _attributes(rest, delimiter)
    return Record("leef", {**fields, "header": told, "derived": {"digest": digest}})


def _delimiter(rest: str) -> tuple[str, str]:
    """LEEF 2.0's delimiter, a character or its hex code, and what follows it; without one it is a tab."""
    named, bar, attributes = rest.partition("|")
    if not bar or "=" in named:
        return "\t", rest
    code = _CODE.fullmatch(named)
    if code:
        named = chr(int(code[1], 16))
    if len(named) > 1 or (named.isascii() and named.isalnum()):
        raise FormatRefused(f"{named[:16]!r} cannot part attributes: want one character, or its code such as x09")
    return named or "\t", attributes


def _attributes(text: str, delimiter: str) -> dict[str, str]:
    """Key and value of each attribute. A piece without ``=`` belongs to the value before: that held the delimiter."""
    pairs: list[tuple[str, list[str]]] = []
    for piece in text.split(delimiter):
        key, equals, value = piece.partition("=")
        if equals and key.strip():
            pairs.append((key.strip(), [value]))
        elif pairs:
            pairs[-1][1].append(piece)
        elif piece.strip():
            raise FormatRefused("the LEEF attributes do not begin with a key and =")
    fields: dict[str, str] = {}
    for key, values in pairs:
        _once(fields, key, delimiter.join(values).strip())
    return fields
