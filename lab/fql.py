"""The part of the Falcon Query Language that a search for hosts needs, evaluated on a device's details."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

_CLAUSE = re.compile(
    r"(?P<field>[a-z_]+):(?P<no>!)?(?:\[(?P<several>'[^']*'(?:,'[^']*')*)\]|'(?P<one>[^']*)')(?P<join>[+,]|$)"
)


class Unreadable(ValueError):
    """The filter is not in the language."""


def matches(fql: str, device: Mapping[str, object], *, partial: bool = True) -> bool:
    """Whether a device matches. ``+`` is and, ``,`` is or and binds less.

    ``field:['x']`` is exact to the letter. ``field:'x'`` is without case; ``*`` stands for anything, and where there is
    none it matches part of the value if ``partial``. An empty filter, and an empty part, match everything.

    Raises:
        Unreadable: it is no such filter.
    """
    if not fql:
        return True
    alternatives, at, join = [True], 0, ","
    while at < len(fql):
        clause = _CLAUSE.match(fql, at)
        if clause is None:
            raise Unreadable(fql)
        alternatives[-1] = alternatives[-1] and _holds(clause, str(device.get(clause["field"]) or ""), partial=partial)
        join, at = clause["join"], clause.end()
        if join == ",":
            alternatives.append(True)
    if join:
        raise Unreadable(fql)
    return any(alternatives)


def _holds(clause: re.Match[str], value: str, *, partial: bool) -> bool:
    if clause["several"] is not None:
        return (value in re.findall(r"'([^']*)'", clause["several"])) is not bool(clause["no"])
    wanted, value = clause["one"].lower(), value.lower()
    if "*" in wanted:
        found = fnmatchcase(value, wanted.replace("[", "[[]").replace("?", "[?]"))
    else:
        found = wanted in value if partial else wanted == value
    return found is not bool(clause["no"])
