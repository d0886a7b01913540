"""ServiceNow's encoded queries, evaluated as the platform does it: what it does not understand is dropped."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

Row = Mapping[str, str]

_CONDITION = re.compile(
    r"(?P<field>[a-z_][a-z0-9_]*)"
    r"(?P<operator>!=|=|NOT LIKE|LIKE|STARTSWITH|ENDSWITH|ISNOTEMPTY|ISEMPTY|IN)(?P<value>.*)",
    re.DOTALL,
)
_ORDER = re.compile(r"ORDERBY(?P<down>DESC)?(?P<field>[a-z_][a-z0-9_]*)")
_CARET = "\ue000"

_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "=": lambda have, want: have.lower() == want.lower(),
    "!=": lambda have, want: have.lower() != want.lower(),
    "LIKE": lambda have, want: want.lower() in have.lower(),
    "NOT LIKE": lambda have, want: want.lower() not in have.lower(),
    "STARTSWITH": lambda have, want: have.lower().startswith(want.lower()),
    "ENDSWITH": lambda have, want: have.lower().endswith(want.lower()),
    "IN": lambda have, want: have.lower() in want.lower().split(","),
    "ISEMPTY": lambda have, _: not have,
    "ISNOTEMPTY": lambda have, _: bool(have),
}


@dataclass
class Outcome:
    """The rows that are left, the parts that were dropped, and the scripts that the platform would have run."""

    rows: list[Row]
    dropped: list[str] = field(default_factory=list)
    evaluated: list[str] = field(default_factory=list)


def evaluate(query: str, rows: Sequence[Row], fields: Collection[str]) -> Outcome:
    """Filter and order ``rows``.

    ``^`` joins by and, ``^OR`` by or with the condition before it, ``^NQ`` starts another query; ``^^`` is a caret in a
    value. A condition on a field that is not in ``fields``, or without a known operator, is dropped.
    """
    outcome = Outcome(rows=[])
    kept: dict[int, Row] = {}
    orders: list[tuple[str, bool]] = []
    for part in query.replace("^^", _CARET).split("^NQ"):
        groups = _groups(part, fields, outcome, orders)
        for row in rows:
            if all(any(holds(row) for holds in group) for group in groups):
                kept.setdefault(id(row), row)
    outcome.rows = [row for row in rows if id(row) in kept]
    for name, down in reversed(orders):
        outcome.rows.sort(key=lambda row, name=name: row.get(name, ""), reverse=down)  # type: ignore[misc]
    return outcome


def _groups(
    part: str, fields: Collection[str], outcome: Outcome, orders: list[tuple[str, bool]]
) -> list[list[Callable[[Row], bool]]]:
    """Conditions, of which each group holds if any of it does."""
    groups: list[list[Callable[[Row], bool]]] = []
    for text in filter(None, part.split("^")):
        if order := _ORDER.fullmatch(text):
            if order["field"] in fields:
                orders.append((order["field"], bool(order["down"])))
            continue
        alternative = text.startswith("OR")
        condition = _condition(text.removeprefix("OR"), fields, outcome)
        if condition is None:
            outcome.dropped.append(text.replace(_CARET, "^"))
        elif alternative and groups:
            groups[-1].append(condition)
        else:
            groups.append([condition])
    return groups


def _condition(text: str, fields: Collection[str], outcome: Outcome) -> Callable[[Row], bool] | None:
    parsed = _CONDITION.fullmatch(text)
    if parsed is None or parsed["field"] not in fields:
        return None
    value = parsed["value"].replace(_CARET, "^")
    if value.startswith("javascript:"):
        outcome.evaluated.append(value)
        return None
    name, operator = parsed["field"], _OPERATORS[parsed["operator"]]
    return lambda row: operator(row.get(name, ""), value)
