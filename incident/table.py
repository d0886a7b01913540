"""The decision table as people read it, drawn from the function that decides: ``python -m incident.table`` prints it.

Nothing of the table is written down here a second time: each cell is found by asking ``incident.triage.decide`` about
every combination of priority, risk and corroboration, and rows that answer alike are told as one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from enum import StrEnum
from typing import TypeVar

from incident.triage import ActionName, Corroborated, Priority, RiskLevel, Verdict, decide

T = TypeVar("T", bound=StrEnum)
K = TypeVar("K", bound=Hashable)
Cells = tuple[str, str]

HEADINGS = ("risk", "corroborated", "priority becomes", "what happens")

_RULES: tuple[tuple[str, Callable[[Priority], Priority]], ...] = (
    ("unchanged", lambda before: before),
    ("raised one level, at most to high", lambda before: before.raised(ceiling=Priority.HIGH)),
    ("raised one level", lambda before: before.raised()),
    *((level.value, level.at_least) for level in Priority),
)
"""What can be said about a priority, before and after. The first that fits every priority is the one that is told."""

_DEEDS = {
    ActionName.QUARANTINE_HOST: "quarantine the host",
    ActionName.DISABLE_ACCOUNT: "disable the account",
}


def table_markdown() -> str:
    """The decision table in Markdown, each line with its line break. The rows that contain most come first."""
    lines = [_line(HEADINGS), _line(["---"] * len(HEADINGS), blank="")]
    for risks, row in sorted(_grouped(RiskLevel, _row), key=lambda group: -_reach(group[0][0])):
        answers = dict(zip(Corroborated, row, strict=True))
        for corroborated, cells in _grouped(Corroborated, answers.__getitem__):
            lines.append(_line((", ".join(risks), _any_of(corroborated), *cells)))
    return "\n".join(lines) + "\n"


def _line(cells: Iterable[str], blank: str = " ") -> str:
    return "|" + "|".join(f"{blank}{cell}{blank}" for cell in cells) + "|"


def _row(risk: RiskLevel) -> tuple[Cells, ...]:
    return tuple(_cells(risk, corroborated) for corroborated in Corroborated)


def _cells(risk: RiskLevel, corroborated: Corroborated) -> Cells:
    verdicts = {before: decide(before, risk, corroborated) for before in Priority}
    (deed,) = {_deed(verdict) for verdict in verdicts.values()}
    return _rule({before: verdict.priority for before, verdict in verdicts.items()}), deed


def _rule(becomes: dict[Priority, Priority]) -> str:
    for words, rule in _RULES:
        if all(rule(before) is after for before, after in becomes.items()):
            return words
    return ", ".join(f"{before} becomes {after}" for before, after in becomes.items())


def _deed(verdict: Verdict) -> str:
    if verdict.holds:
        return "hold point"
    return " and ".join(_DEEDS[action] for action in verdict.actions) + ", then open a ticket"


def _reach(risk: RiskLevel) -> int:
    return max(len(decide(before, risk, corroborated).actions) for before in Priority for corroborated in Corroborated)


def _any_of(values: Sequence[Corroborated]) -> str:
    return "any" if len(values) == len(Corroborated) else ", or ".join(values)


def _grouped(values: Iterable[T], told: Callable[[T], K]) -> list[tuple[list[T], K]]:
    groups: dict[K, list[T]] = {}
    for value in values:
        groups.setdefault(told(value), []).append(value)
    return [(members, answer) for answer, members in groups.items()]


if __name__ == "__main__":
    print(table_markdown(), end="")  # noqa: T201 - that is what it is run for
