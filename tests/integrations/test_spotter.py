from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations import spotter
from lab.spotter import SyntaxFault, parse

PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), min_size=1, max_size=60)


def test_every_special_character_is_escaped() -> None:
    assert spotter.quoted(r'a"b\c*d?e') == r'"a\"b\\c\*d\?e"'


@given(value=PRINTABLE, other=PRINTABLE)
def test_a_quoted_value_matches_itself_and_nothing_else(value: str, other: str) -> None:
    query = parse(spotter.search("activity", spotter.equals("accountname", value)), case_sensitive=True)
    assert query.index == "activity"
    assert query.matches({"accountname": value})
    assert query.matches({"accountname": other}) == (value == other)


@pytest.mark.parametrize("value", ['x" OR index=users', 'x") OR (accountname="*', "x\\", "*", 'x\\" OR accountname="*'])
def test_a_value_cannot_leave_its_quotes(value: str) -> None:
    query = parse(spotter.search("activity", spotter.equals("accountname", value)))
    assert query.index == "activity"
    assert not query.matches({"accountname": "somebody"})
    assert query.matches({"accountname": value})


@pytest.mark.parametrize("value", ["", "a\nb", "a\0b", "a\x7fb", "x" * 501])
def test_what_the_grammar_does_not_know_is_refused(value: str) -> None:
    with pytest.raises(spotter.NotQuotable):
        spotter.quoted(value)


def test_fields_and_indexes_come_from_a_list() -> None:
    with pytest.raises(ValueError, match="not a field"):
        spotter.equals('x" OR "y', "z")
    with pytest.raises(ValueError, match="not an index"):
        spotter.search("watchlist")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a = 1 | stats b",
        "index=users",
        "INDEX = users",
        "index IN (users)",
        'a = "b',
        "a = 1) OR (b = 2",
        "(a = 1",
        "a = \x07",
    ],
)
def test_a_condition_that_could_widen_the_query_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        spotter.condition(text)


def test_a_condition_narrows_the_query() -> None:
    query = spotter.search(
        "activity", spotter.equals("ipaddress", "10.0.0.1"), spotter.condition('message CONTAINS "(x" OR\n a = "1"')
    )
    assert parse(query).matches({"ipaddress": "10.0.0.1", "a": "1"})
    assert not parse(query).matches({"ipaddress": "10.0.0.2", "a": "1"})


@pytest.mark.parametrize(
    ("text", "canonical"),
    [(" 10.1.2.3 ", "10.1.2.3"), ("2001:DB8::0:1", "2001:db8::1"), ("::ffff:10.1.2.3", "10.1.2.3")],
)
def test_addresses_are_canonical(text: str, canonical: str) -> None:
    assert spotter.address(text) == canonical
    assert spotter.same_address(text, canonical)
    assert not spotter.same_address("laptop", canonical)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "index=activity AND",
        "index=activity AND a=",
        'index=activity AND a="b',
        "index=activity AND (a=1",
        "index=activity AND a=1)",
        "a=1",
        "index=activity | stats a",
        "index=activity OR index=users",
        "index=activity AND ( OR )",
    ],
)
def test_the_stand_in_refuses_bad_syntax(text: str) -> None:
    with pytest.raises(SyntaxFault):
        parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a = "X*"', True),
        ('a = "?yz"', True),
        ('a != "xyz"', False),
        ('a CONTAINS "Y"', True),
        ('a NOT CONTAINS "y"', False),
        ('a STARTS WITH "x"', True),
        ('a ENDS WITH "x"', False),
        ('a IN ("q","xyz")', True),
        ('a NOT IN ("q")', True),
        ("b NULL", True),
        ("a NOT NULL", True),
        ("n >= 5", True),
        ("n < 5", False),
        ("@a=xyz", True),
        ("b=1 or a=xyz and n=5", True),
        ("(b=1 or a=xyz) and n=6", False),
        ("employeeid=7", True),
    ],
)
def test_the_stand_in_evaluates(text: str, *, expected: bool) -> None:
    query = parse(f"index = activity AND ({text})")
    assert query.matches({"a": "xyz", "n": "5", "u_employeeid": "7"}) is expected
