"""Whose alert it is: the rule by which an alert at a case's address is the case's own, somebody else's, or not sure."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from incident.evidence import Fact, Host, Located, Person
from incident.record import CaseRecord
from incident.whose import Whose, owner, whose
from tests.unit.builders import AT, alert, person, record

OURS, ANOTHERS, UNSURE = Whose.OURS, Whose.ANOTHERS, Whose.UNSURE


def known(**changes: Any) -> CaseRecord:
    case = record(alert(**changes))
    case.host = Fact[Host].of(Host(name="FIN-LT-042.corp.example", ip="10.20.30.40"), "Securonix", AT)
    case.user = Fact[Person].of(person(), "Active Directory", AT)
    return case


@pytest.mark.parametrize(
    ("named", "verdict"),
    [
        ({}, OURS),
        ({"user_account": "jdoe"}, OURS),
        ({"user_account": "ACME\\JDOE"}, OURS),
        ({"user_account": "asmith"}, ANOTHERS),
        ({"destination_host": "fin-lt-042"}, OURS),
        ({"destination_host": "FIN-LT-042.corp.example"}, OURS),
        ({"destination_host": "HR-LT-007"}, ANOTHERS),
        ({"destination_host": "FIN-LT-042", "user_account": "asmith"}, ANOTHERS),
        ({"destination_host": "HR-LT-007", "user_account": "jdoe"}, ANOTHERS),
        ({"occurred_at": "2026-03-15T12:34:56Z"}, UNSURE),
        ({"occurred_at": "2026-03-15T12:34:56Z", "user_account": "jdoe"}, OURS),
        ({"occurred_at": "2026-03-14T13:00:00Z"}, OURS),
    ],
)
def test_where_the_facts_are_known(named: dict[str, Any], verdict: Whose) -> None:
    found, who = whose(alert(id="B", **named), known(), looked_up=True)
    assert found is verdict
    assert bool(who) is (verdict is ANOTHERS)


def test_every_name_of_the_person_is_theirs() -> None:
    case = known()
    assert case.user.value is not None
    for name in (case.user.value.account, case.user.value.upn, *case.user.value.mails):
        assert whose(alert(id="B", user_account=name), case, looked_up=True) == (OURS, "")


@pytest.mark.parametrize(
    ("own", "named", "before", "after"),
    [
        ({}, {"user_account": "asmith"}, UNSURE, OURS),
        ({"user_account": "jdoe"}, {"user_account": "acme\\jdoe"}, OURS, OURS),
        ({"user_account": "jdoe"}, {"user_account": "asmith"}, UNSURE, ANOTHERS),
        ({}, {"destination_host": "HR-LT-007"}, UNSURE, OURS),
        ({"destination_host": "FIN-LT-042"}, {"destination_host": "HR-LT-007"}, ANOTHERS, ANOTHERS),
    ],
)
def test_where_the_facts_are_not_known(own: dict[str, Any], named: dict[str, Any], before: Whose, after: Whose) -> None:
    case = record(alert(**own))
    joining = alert(id="B", **named)
    assert [whose(joining, case, looked_up=looked)[0] for looked in (False, True)] == [before, after]


@pytest.mark.parametrize(
    ("host", "account", "told"),
    [
        ("FIN-LT-042", "jdoe", None),
        ("HR-LT-007", "jdoe", "host HR-LT-007"),
        ("FIN-LT-042", "asmith", "user asmith"),
        (None, None, None),
        (None, "asmith", "user asmith"),
    ],
)
def test_who_had_the_address_at_another_time(host: str | None, account: str | None, told: str | None) -> None:
    located = Located(
        host=Fact[Host].of(Host(name=host, ip="10.20.30.40"), "s", AT) if host else Fact[Host].unknown("nobody"),
        account=Fact[str].of(account, "s", AT) if account else Fact[str].unknown("nobody"),
    )
    assert owner(known(), located) == told
    assert owner(record(), located) is None


def test_an_hour_is_not_later() -> None:
    first = alert()
    for apart, verdict in ((timedelta(hours=1), OURS), (timedelta(hours=1, seconds=1), UNSURE)):
        other = first.model_copy(update={"id": "B", "occurred_at": first.occurred_at + apart})
        assert whose(other, known(), looked_up=True)[0] is verdict
