from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.securonix_people import distinct_hosts, distinct_people, host_name, is_nobody, same_host
from integrations.securonix_shapes import elements, moment, number, said_true, trimmed, zone_of

CENTRAL = ZoneInfo("CST6CDT")


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("03/14/2026 07:34:56", "2026-03-14T12:34:56"),
        ("Mon, 16 Jan 2023 @ 05:52:31 AM", "2023-01-16T11:52:31"),
        ("Jan 12, 2023 7:25:38 AM", "2023-01-12T13:25:38"),
        ("Jun 11, 2018 11:18:09 PM", "2018-06-12T04:18:09"),
        ("Tue May 19 15:28:30 CDT 2020", "2020-05-19T20:28:30"),
        ("Tue May 19 15:28:30 UTC 2020", "2020-05-19T15:28:30"),
        ("2018-08-15T12:50:11Z", "2018-08-15T12:50:11"),
        ("2013-11-09T16:13:23-06:00", "2013-11-09T22:13:23"),
        ("1773489296000", "2026-03-14T11:54:56"),
        ("1773489296", "2026-03-14T11:54:56"),
    ],
)
def test_each_way_to_write_a_time_is_read(text: str, utc: str) -> None:
    span = moment(text, CENTRAL)
    assert span is not None
    assert span.earliest == span.latest == datetime.fromisoformat(utc).replace(tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "-1", "yesterday", "01/01/0001 00:00:00", "13/14/2026 07:34:56"])
def test_what_is_no_time_is_none(text: str) -> None:
    assert moment(text, CENTRAL) is None


@given(hours=st.integers(-12, 14), seconds=st.integers(0, 10**8))
def test_a_text_without_a_known_zone_spans_what_it_may_mean(hours: int, seconds: int) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    local = at.astimezone(timezone(timedelta(hours=hours)))
    span = moment(local.strftime("%m/%d/%Y %H:%M:%S"), None)
    assert span is not None
    assert span.earliest <= at <= span.latest


def test_the_hour_that_is_repeated_is_two_hours() -> None:
    span = moment("11/01/2026 01:30:00", CENTRAL)
    assert span is not None
    assert span.latest - span.earliest == timedelta(hours=1)


@pytest.mark.parametrize(("name", "known"), [("CST6CDT", True), ("GMT+05:30", True), ("", False), ("../x", False)])
def test_zones_are_known_by_name(name: str, *, known: bool) -> None:
    assert (zone_of(name) is not None) is known


def test_small_values() -> None:
    assert [said_true(value) for value in (True, "true", " True", "false", False, None, 1)] == [True] * 3 + [False] * 4
    assert [number(value) for value in ("11.4", "1,204.5", 3, "n/a", "NaN", None)] == [
        11.4,
        1204.5,
        3.0,
        None,
        None,
        None,
    ]
    assert trimmed(" ï»¿ABC\t") == trimmed("\ufeffabc") == "abc"


def test_elements_of_a_risk_document() -> None:
    found = elements(
        "<policies><policy><name>SANDBOX-x</name><score>1</score></policy><policy><name>y</name></policy></policies>"
    )
    assert [(element.score, element.sandbox) for element in found] == [(1.0, True), (None, False)]
    assert elements("") == elements("<policies/>") == []


@pytest.mark.parametrize(
    "text", ["10.0.0.1", "::1", "", "-", "unknown", "localhost", "SCANNER|7_7", "a b", "42", "x" * 254]
)
def test_what_is_no_host_name(text: str) -> None:
    assert host_name(text) is None


def test_hosts_and_people_are_told_apart() -> None:
    assert same_host("PC1", "pc1.corp.example")
    assert not same_host("pc1.a.example", "pc1.b.example")
    assert not same_host("pc1", "pc10.corp.example")
    assert not same_host("", "")
    assert distinct_hosts(["pc1", "PC1.b.example", "pc1.a.example"]) == ["PC1.b.example", "pc1.a.example"]
    assert distinct_people(["ACME\\jroe", "JROE", "jroe@acme.example"]) == ["ACME\\jroe"]
    assert distinct_people(["A\\jroe", "jroe", "B\\jroe"]) == ["A\\jroe", "B\\jroe"]
    assert is_nobody("NT SERVICE\\MSSQL")
    assert not is_nobody("systemsmith")
