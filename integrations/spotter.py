"""Spotter, Securonix's query language: only as much of it as every build takes.

Conjunctions of ``field="value"``. Field names come from a list, values are always quoted. Pure.
"""

from __future__ import annotations

import ipaddress
import re

FIELDS = frozenset(
    {
        "accountname",
        "employeeid",
        "entityid",
        "ipaddress",
        "key_ip",
        "lanid",
        "resourcehostname",
        "violator",
        "workemail",
    }
)
INDEXES = frozenset({"activity", "asset", "riskscore", "users", "violation"})
LONGEST_VALUE = 500
_ANOTHER_INDEX = re.compile(r"\bindex\b\s*(=|!=|in\b)", re.IGNORECASE)
_PIECES = re.compile(r'"(?:\\.|[^"\\])*"|[()"]')


class NotQuotable(ValueError):
    """A text that cannot stand in a query: empty, too long, or with control characters."""


def quoted(value: str) -> str:
    """``value`` as a quoted Spotter literal that matches exactly it: backslash, quote and wildcards escaped.

    Raises:
        NotQuotable: the grammar says nothing about control characters, so they are refused; so is an overlong value.
    """
    if not value or len(value) > LONGEST_VALUE or not value.isprintable():
        raise NotQuotable("a value for a Spotter query is empty, too long or holds control characters")
    return '"' + re.sub(r'([\\"*?])', r"\\\1", value) + '"'


def equals(field: str, value: str) -> str:
    """``field="value"``. Raises NotQuotable for the value, ValueError for a field that is not in ``FIELDS``."""
    if field not in FIELDS:
        raise ValueError(f"{field} is not a field that is searched by")
    return f"{field}={quoted(value)}"


def search(index: str, *terms: str) -> str:
    """The query for the rows of one index that fulfil every term."""
    if index not in INDEXES:
        raise ValueError(f"{index} is not an index that is searched")
    return " AND ".join((f"index={index}", *terms))


def condition(text: str) -> str:
    """A condition from the settings, in brackets, so that it can only narrow the query that it is added to.

    Raises:
        ValueError: it names an index, holds a pipe or control characters, or leaves a quote or bracket open.
    """
    text = text.translate({10: " ", 13: " ", 9: " "}).strip()
    if not text.isprintable() or not text:
        raise ValueError("is empty or holds control characters")
    if "|" in text:
        raise ValueError("holds a pipe, which the search service does not take")
    if _ANOTHER_INDEX.search(text):
        raise ValueError("names an index; the activity index is searched")
    depth = 0
    for piece in _PIECES.findall(text):
        if piece == '"':
            raise ValueError("leaves a quote open")
        depth += (piece == "(") - (piece == ")")
        if depth < 0:
            raise ValueError("closes a bracket that it did not open")
    if depth:
        raise ValueError("leaves a bracket open")
    return f"({text})"


def address(text: str) -> str:
    """An IP address in its canonical form. Raises ValueError."""
    ip = ipaddress.ip_address(text.strip())
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)


def same_address(text: str, canonical: str) -> bool:
    """Whether ``text`` is the address whose canonical form is given; text that is no address is not."""
    try:
        return address(text) == canonical
    except ValueError:
        return False
