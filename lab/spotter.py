"""Evaluate Spotter queries over rows of text fields, as far as the stand-in needs the language.

``index=activity AND ipaddress="10.0.0.1" AND (policyname CONTAINS "x" OR accountname IN ("a","b"))``: comparisons,
``CONTAINS``, ``STARTS WITH``, ``ENDS WITH``, ``IN``, ``NULL``, each with ``NOT`` between field and operator; ``AND``,
``OR``, brackets; ``*`` and ``?`` as wildcards unless escaped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Fields = Mapping[str, str]
Test = Callable[[Fields], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:\\.|[^"\\])*")|(?P<sign>!=|<=|>=|[=<>(),])|(?P<word>[^\s"=<>!(),|]+))""", re.DOTALL
)
_SIGNS = ("=", "!=", "<", "<=", ">", ">=")


class SyntaxFault(ValueError):
    """The query does not follow the grammar."""


@dataclass(frozen=True)
class Query:
    """A parsed query: the index that it names, and a test for that index's rows."""

    index: str
    matches: Test


def parse(text: str, *, case_sensitive: bool = False) -> Query:
    """Parse a query. Raises SyntaxFault for an open quote or bracket, a missing operand, a pipe, or no index."""
    parser = _Parser(_tokens(text), case_sensitive=case_sensitive)
    test = parser.alternatives()
    if parser.here is not None:
        raise SyntaxFault("there is something behind the query")
    if len(parser.indexes) != 1:
        raise SyntaxFault("a query names one index")
    return Query(parser.indexes.pop(), test)


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise SyntaxFault(f"cannot read the query at {position}")
        kind = match.lastgroup or ""
        tokens.append((kind, match[kind]))
        position = match.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], *, case_sensitive: bool) -> None:
        self._tokens = tokens
        self._position = 0
        self._flags = 0 if case_sensitive else re.IGNORECASE
        self.indexes: set[str] = set()

    @property
    def here(self) -> tuple[str, str] | None:
        return self._tokens[self._position] if self._position < len(self._tokens) else None

    def alternatives(self) -> Test:
        tests = [self._together()]
        while self._take_word("or"):
            tests.append(self._together())
        return lambda fields: any(test(fields) for test in tests)

    def _together(self) -> Test:
        tests = [self._single()]
        while self._take_word("and"):
            tests.append(self._single())
        return lambda fields: all(test(fields) for test in tests)

    def _single(self) -> Test:
        if self._take(("sign", "(")):
            test = self.alternatives()
            self._need(("sign", ")"))
            return test
        return self._comparison()

    def _comparison(self) -> Test:
        field = self._next("word").lower().removeprefix("@")
        if field in ("and", "or", "not"):
            raise SyntaxFault("an operand is missing")
        negated = self._take_word("not")
        test = self._operation(field)
        return (lambda fields: not test(fields)) if negated else test

    def _operation(self, field: str) -> Test:
        kind, text = self.here or ("", "")
        self._position += 1
        if kind == "sign" and text in _SIGNS:
            return self._compared(field, text, self._value())
        word = text.lower() if kind == "word" else ""
        if word == "null":
            return lambda fields: not _field(fields, field)
        if word == "contains":
            return self._like(field, ".*", self._value(), ".*")
        if word in ("starts", "ends") and self._take_word("with"):
            return (
                self._like(field, "", self._value(), ".*")
                if word == "starts"
                else self._like(field, ".*", self._value(), "")
            )
        if word == "in":
            return self._listed(field)
        raise SyntaxFault("an operator is missing")

    def _listed(self, field: str) -> Test:
        self._need(("sign", "("))
        tests = [self._like(field, "", self._value(), "")]
        while self._take(("sign", ",")):
            tests.append(self._like(field, "", self._value(), ""))
        self._need(("sign", ")"))
        return lambda fields: any(test(fields) for test in tests)

    def _compared(self, field: str, sign: str, value: str) -> Test:
        if field == "index":
            if sign != "=":
                raise SyntaxFault("an index is named by =")
            self.indexes.add(value.lower())
            return lambda _: True
        if sign in ("=", "!="):
            equal = self._like(field, "", value, "")
            return equal if sign == "=" else lambda fields: not equal(fields)
        return lambda fields: _ordered(_field(fields, field), sign, _unescaped(value))

    def _like(self, field: str, before: str, value: str, after: str) -> Test:
        pattern = re.compile(before + _pattern(value) + after, self._flags | re.DOTALL)
        return lambda fields: pattern.fullmatch(_field(fields, field)) is not None

    def _value(self) -> str:
        kind, text = self.here or ("", "")
        if kind not in ("text", "word") or (kind == "word" and text.lower() in ("and", "or")):
            raise SyntaxFault("a value is missing")
        self._position += 1
        return text[1:-1] if kind == "text" else text

    def _next(self, kind: str) -> str:
        if self.here is None or self.here[0] != kind:
            raise SyntaxFault(f"a {kind} is missing")
        self._position += 1
        return self._tokens[self._position - 1][1]

    def _take(self, token: tuple[str, str]) -> bool:
        if self.here != token:
            return False
        self._position += 1
        return True

    def _need(self, token: tuple[str, str]) -> None:
        if not self._take(token):
            raise SyntaxFault(f"{token[1]} is missing")

    def _take_word(self, word: str) -> bool:
        kind, text = self.here or ("", "")
        if kind != "word" or text.lower() != word:
            return False
        self._position += 1
        return True


def _field(fields: Fields, name: str) -> str:
    return fields.get(name) or fields.get(f"u_{name}") or ""


def _pattern(value: str) -> str:
    """The value as a regular expression: ``*`` and ``?`` are wildcards, a backslash takes their meaning away."""
    parts = []
    for escaped, plain in re.findall(r"\\(.)|([^\\])", value, re.DOTALL):
        parts.append({"*": ".*", "?": "."}.get(plain, re.escape(plain)) if plain else re.escape(escaped))
    return "".join(parts)


def _unescaped(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)


def _ordered(left: str, sign: str, right: str) -> bool:
    try:
        a, b = float(left), float(right)
    except ValueError:
        return False
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[sign]
