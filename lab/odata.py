"""The part of OData's ``$filter`` that the lab evaluates: ``eq`` and ``startswith`` on text, joined by ``and``."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

_STRING = r"'((?:[^']|'')*)'"
_TERM = re.compile(rf"\s*(?:(\w+)\s+eq\s+{_STRING}|startswith\(\s*(\w+)\s*,\s*{_STRING}\s*\))\s*")
_AND = re.compile(r"and\b")

Row = Mapping[str, Any]


class ODataError(ValueError):
    """The filter cannot be read, or names a property that cannot be filtered by."""


def parse(text: str, allowed: Collection[str]) -> Callable[[Row], bool]:
    """The test that ``text`` is. Names and values are compared letter for letter. Raises ODataError."""
    terms: list[Callable[[Row], bool]] = []
    at = 0
    while True:
        term = _TERM.match(text, at)
        if term is None:
            raise ODataError(f"cannot read the filter at {at}")
        name, at = term[1] or term[3], term.end()
        if name not in allowed:
            raise ODataError(f"cannot filter by {name}")
        terms.append(_test(name, (term[2] if term[1] else term[4]).replace("''", "'"), exact=bool(term[1])))
        if at == len(text):
            return lambda row: all(test(row) for test in terms)
        joint = _AND.match(text, at)
        if joint is None:
            raise ODataError(f"cannot read the filter at {at}")
        at = joint.end()


def _test(name: str, value: str, *, exact: bool) -> Callable[[Row], bool]:
    if exact:
        return lambda row: row.get(name) == value
    return lambda row: str(row.get(name) or "").startswith(value)
